"""Activation blocks -> SAEs, `sae/<arm>/<seed>/`, by data-parallel training on Ray Train.

One worker group trains every seed of the real model and of its twin in turn, so that process start-up is paid once.
Each worker reads the same batches and takes its shards of them; gradients and statistics are summed over the group, so
every rank holds the same state and rank 0 writes it. The null dictionaries on the real activations follow, each in a
Ray task of its own, several at a time: a single worker gives the bits that a group gives. A checkpoint is one atomic
file (weights, optimizer, counters, history, step); the order of the data depends on the step alone, so a run killed at
any moment ends with the same weights.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from raysae.saes import build, checkpoint
from raysae.stages.capture import MAIN, TWIN
from raysae.stages.dictionaries import trained_arms
from raysae.stages.gaussian import gaussian_batches
from raysae.stages.progress import StageProgress
from raysae.stages.resources import connect, local_mode, map_blocks
from raysae.store import ActivationStore, Manifest, describe_file, load_state, save_state, write_json
from raysae.training import SAETrainer
from raysae.training.hold import HOLDS
from raysae.types import Experiment, HookPoint
from raysae.types.experiment import LossConfig, SAEConfig, TrainConfig, fingerprint, stream_seed

HISTORY_STEPS = 25
"""Steps between two points of the training curves: the only moments the device is asked for numbers."""

PROGRESS_FILE = "progress.json"

LONE_TRAINERS = 2
"""Null dictionaries trained at the same time, one CPU each."""


BATCHES: dict[str, Callable[..., Iterator[Any]]] = {"gaussian": gaussian_batches}
"""Arms that are trained on something else than the rows of the store."""


@dataclass(frozen=True)
class SAEJob:
    """One SAE to train: plain values, the same on every rank."""

    arm: str
    seed: int
    activations: Path
    out: Path
    hookpoint: str
    sae: SAEConfig
    loss: LossConfig
    train: TrainConfig
    experiment_seed: int
    fingerprint: str
    provenance: dict[str, Any]

    @property
    def checkpoint(self) -> Path:
        return self.out.with_name(f"{self.out.name}.checkpoint.safetensors")


def plan(experiment: Experiment, activations: Path, out: Path) -> list[SAEJob]:
    """Every SAE of the experiment; `experiment.sae` and `experiment.loss` are the chosen ones."""
    identity = experiment.identity()
    jobs = []
    for arm in trained_arms(experiment):
        home = activations / (TWIN if arm == TWIN else MAIN)
        source = Manifest.read(home)
        for seed in experiment.train.seed_numbers:
            parts = {name: identity[name] for name in ("sae", "loss", "train")}
            mark = fingerprint(
                {
                    **parts,
                    "hookpoint": str(experiment.hookpoint),
                    "activations": source.fingerprint,
                    "seed": seed,
                    "run": experiment.seed,
                    **({} if arm in (MAIN, TWIN) else {"null": arm}),
                }
            )
            provenance = {
                "experiment": experiment.name,
                "arm": arm,
                "seed": seed,
                "fingerprint": mark,
                "model_name": experiment.model.name,
                "hook_name": str(experiment.hookpoint),
                "config": parts,
            }
            jobs.append(
                SAEJob(
                    arm,
                    seed,
                    home.absolute(),
                    (out / arm / str(seed)).absolute(),
                    str(experiment.hookpoint),
                    experiment.sae,
                    experiment.loss,
                    experiment.train,
                    experiment.seed,
                    mark,
                    provenance,
                )
            )
    return jobs


def train(experiment: Experiment, activations: Path, out: Path, progress: StageProgress) -> list[Manifest]:
    """Write `sae/<arm>/<seed>/` for every arm and seed; returns their manifests."""
    jobs = plan(experiment, activations, out)
    todo = [job for job in jobs if not is_finished(job)]
    steps = experiment.train.steps
    progress.total(len(jobs) * steps, f"{len(todo)} of {len(jobs)} SAEs to train")
    progress.at((len(jobs) - len(todo)) * steps)
    if todo:
        board = out.absolute() / PROGRESS_FILE
        board.parent.mkdir(parents=True, exist_ok=True)
        board.unlink(missing_ok=True)
        before = (len(jobs) - len(todo)) * steps

        def look() -> tuple[float, str] | None:
            seen = json.loads(board.read_text()) if board.is_file() else None
            return seen and (before + seen["done"], seen["text"])

        grouped = [job for job in todo if job.arm in (MAIN, TWIN)]
        if grouped:
            with progress.following(look):
                _run(grouped, board, experiment.train)
        board.unlink(missing_ok=True)
        alone = [job for job in todo if job not in grouped]
        progress.at((len(jobs) - len(alone)) * steps)
        for text in map_blocks(LoneTrainer, (alone,), [{"job": i} for i in range(len(alone))], actors=LONE_TRAINERS):
            progress.advance(steps, text)
    return [Manifest.read(job.out) for job in jobs]


def is_finished(job: SAEJob) -> bool:
    return Manifest.exists(job.out) and Manifest.read(job.out).fingerprint == job.fingerprint


def _run(todo: list[SAEJob], board: Path, config: TrainConfig) -> None:
    if local_mode():
        import torch

        torch.set_num_threads(1)
        train_all(todo, board, 0, 1, lambda buffer: None)
        return
    connect()
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    store = board.parent / "ray_train"
    trainer = TorchTrainer(
        _loop,
        train_loop_config={"jobs": todo, "board": str(board)},
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.workers,
            use_gpu=config.gpu,
            resources_per_worker={"CPU": 1, **({"GPU": 1} if config.gpu else {})},
        ),
        torch_config=TorchConfig(backend="nccl" if config.gpu else "gloo"),
        # A lost worker restarts the group, which finds our checkpoint; Ray's own checkpoints are not used.
        run_config=ray.train.RunConfig(
            name=f"group-{time.time_ns()}",
            storage_path=str(store),
            failure_config=ray.train.FailureConfig(max_failures=2),
        ),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise _cause(error) from error
    finally:
        _remove(store)


def _cause(error: Exception) -> Exception:
    """The user's error inside Ray's, if there is one."""
    from raysae.errors import RaysaeError

    for inner in getattr(error, "worker_failures", {}).values():
        cause = getattr(inner, "cause", None) or inner
        while cause is not None:
            if isinstance(cause, RaysaeError):
                return cause
            cause = getattr(cause, "cause", None) or cause.__cause__
    return error


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _loop(config: dict[str, Any]) -> None:
    """What every Ray Train worker runs."""
    import ray.train
    import torch
    import torch.distributed

    torch.set_num_threads(1)
    context = ray.train.get_context()
    train_all(
        config["jobs"],
        Path(config["board"]),
        context.get_world_rank(),
        context.get_world_size(),
        torch.distributed.all_reduce,
    )


def train_all(jobs: list[SAEJob], board: Path, rank: int, world: int, all_reduce: Callable[[Any], Any]) -> None:
    """Train one SAE after the other on rank `rank` of `world`."""
    done = 0
    for job in jobs:
        for step, numbers in train_one(job, rank, world, all_reduce):
            if rank == 0:
                text = f"{job.arm}/{job.seed}: fvu {numbers['fvu']:.3f}, l0 {numbers['l0']:.1f}"
                write_json(board, {"done": done + step, "text": text})
        done += job.train.steps


class LoneTrainer:
    """Job -> `sae/<arm>/<seed>/`, without a group."""

    def __init__(self, jobs: list[SAEJob]) -> None:
        import torch

        torch.set_num_threads(1)
        self.jobs = jobs

    def __call__(self, item: dict[str, Any]) -> str:
        job = self.jobs[item["job"]]
        *_, (_, numbers) = train_one(job, 0, 1, lambda buffer: None)
        return f"{job.arm}/{job.seed}: fvu {numbers['fvu']:.3f}, l0 {numbers['l0']:.1f}"


def train_one(
    job: SAEJob, rank: int, world: int, all_reduce: Callable[[Any], Any]
) -> Iterator[tuple[int, dict[str, float]]]:
    """Train, checkpoint and save one SAE; yields (step, metrics) every HISTORY_STEPS."""
    import torch

    device = torch.device("cuda" if job.train.gpu and torch.cuda.is_available() else "cpu")
    trainer, store, point = make_trainer(job, device)
    history: dict[str, list[float]] = {}
    if job.checkpoint.is_file():
        tensors, header = load_state(job.checkpoint, job.fingerprint)
        trainer.restore(tensors, header["trainer"])
        history = header["history"]
    start = trainer.steps_done
    order = stream_seed(job.experiment_seed, f"sae/{job.seed}/order")
    batches = BATCHES.get(job.arm, ActivationStore.batches)(
        store, point, job.train.batch_tokens, order, start_step=start
    )
    mine = range(rank * job.train.shards // world, (rank + 1) * job.train.shards // world)
    per_shard = job.train.batch_tokens // job.train.shards
    for step, batch in enumerate(islice(batches, job.train.steps - start), start + 1):
        shards = [torch.from_numpy(batch[s * per_shard : (s + 1) * per_shard]).to(device) for s in mine]
        trainer.step(shards, all_reduce)
        if step % HISTORY_STEPS == 0 or step == job.train.steps:
            numbers = trainer.metrics()
            for name, value in {"step": step, **numbers}.items():
                history.setdefault(name, []).append(value)
            yield step, numbers
        if rank == 0 and step % job.train.checkpoint_steps == 0 and step < job.train.steps:
            tensors, header = trainer.state()
            save_state(job.checkpoint, tensors, {"trainer": header, "history": history}, job.fingerprint)
    if rank == 0:
        _save(job, trainer, history)
    all_reduce(torch.zeros(1, device=device))  # nobody leaves before the folder is complete


def make_trainer(job: SAEJob, device: Any) -> tuple[SAETrainer, ActivationStore, HookPoint]:
    """A fresh trainer, initialised from the seed's own stream."""
    store = ActivationStore(job.activations)
    point = HookPoint.parse(job.hookpoint)
    d_in = store.width(point)
    seed = stream_seed(job.experiment_seed, f"sae/{job.seed}/init")
    sae = build(job.sae.architecture, d_in, d_in * job.sae.expansion, job.sae.k, seed).to(device)
    hold = job.arm if job.arm in HOLDS else None
    return SAETrainer(sae, job.loss, job.train, job.sae.k, store.input_scale(point), hold=hold), store, point


def _save(job: SAEJob, trainer: SAETrainer, history: dict[str, list[float]]) -> None:
    checkpoint.save(trainer.finished(), job.out, job.provenance)
    write_json(job.out / "history.json", history)
    blocks = tuple(
        describe_file(path, job.fingerprint)
        for path in (job.out / name for name in ("cfg.json", "history.json", "sae_weights.safetensors"))
    )
    Manifest(kind="sae", fingerprint=job.fingerprint, blocks=blocks, extra={"arm": job.arm, "seed": job.seed}).write(
        job.out
    )
    job.checkpoint.unlink(missing_ok=True)
