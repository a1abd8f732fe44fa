"""Activation blocks -> SAEs, `sae/<arm>/<seed>/`, by data-parallel training on Ray Train.

One worker group trains every SAE of the experiment, so that process start-up is paid once; those that see the same
stream of activations (a real SAE and the nulls of its seed) go together (cotrain.py). Each worker reads the same
batches and takes its shards of them; gradients and statistics are summed over the group, so every rank holds the same
state and rank 0 writes it. The order of the data depends on the step alone, so a run killed at any moment ends with
the same weights, whatever the number of workers.
"""

import json
import resource
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from raysae.errors import BadInput, Lost, RaysaeError
from raysae.saes import checkpoint
from raysae.stages.cotrain import Course, Place, device_of, of_rank_0, train_together
from raysae.stages.halt import Halt, halting
from raysae.stages.jobs import SAEJob, groups, plan
from raysae.stages.progress import StageProgress
from raysae.stages.resources import connect, local_mode, revive
from raysae.stages.usage import Process, collect
from raysae.store import ActivationStore, Manifest, describe_file, holds, write_json
from raysae.training.memory import Memory, estimate, step_matrices
from raysae.types import Experiment, HookPoint
from raysae.types.learning import TrainConfig

PROGRESS_FILE = "progress.json"
LOSSES = 4
"""How often a group of workers starts again after one was lost, from its checkpoints; the next ends the stage."""


def train(experiment: Experiment, activations: Path, out: Path, progress: StageProgress) -> list[Manifest]:
    """Write `sae/<arm>/<seed>/` for every arm and seed; returns their manifests."""
    jobs = plan(experiment, activations, out)
    todo = [job for job in jobs if not is_finished(job)]
    steps = experiment.train.steps
    before = (len(jobs) - len(todo)) * steps
    progress.total(len(jobs) * steps, f"{len(todo)} of {len(jobs)} SAEs to train")
    progress.at(before)
    if todo:
        progress.say(f"memory of a worker: {_memory(todo, experiment).text}")
        progress.say(_mixing(todo[0]))
        board = out.absolute() / PROGRESS_FILE
        connect()
        with halting(out):
            board.unlink(missing_ok=True)

            def look() -> tuple[float, str] | None:
                seen = json.loads(board.read_text()) if board.is_file() else {}
                return (before + seen["done"], seen["text"]) if "done" in seen else None

            with progress.following(look):
                failed = _run(todo, board, experiment.train)
            collect(board.parent)
            collect(activations)
            answer = json.loads(board.read_text()) if board.is_file() else {}
            board.unlink(missing_ok=True)
            if failed:
                raise revive(failed)
        if "peak_bytes" in answer:
            progress.say(f"measured: {answer['peak_bytes'] / 1e9:.2f} GB at its peak, libraries included")
    return [Manifest.read(job.out) for job in jobs]


def is_finished(job: SAEJob) -> bool:
    """BadInput where another SAE lies in the place of this one."""
    if Manifest.exists(job.out):
        d_in = ActivationStore(job.activations).width(HookPoint.parse(job.hookpoint))
        there = checkpoint.header(job.out).d_in
        if there != d_in:
            raise BadInput(
                f"{job.out} holds an SAE of d_in {there}",
                f"{job.hookpoint} in {job.activations} has {d_in}",
                f"move {job.out} away and run again",
            )
    return holds(job.out, job.fingerprint)


def _memory(todo: list[SAEJob], experiment: Experiment) -> Memory:
    config = experiment.train
    store = ActivationStore(todo[0].activations)
    d_in = store.width(experiment.hookpoint)
    widest = d_in * max(job.sae.expansion for job in todo)
    most = max(len(group) for group in groups(todo, config.together))
    matrices = max(step_matrices(job.sae, job.loss, job.train, d_in) for job in todo)
    return estimate(d_in, widest, config.batch_tokens, config.shards, config.workers, most, matrices)


def _mixing(job: SAEJob) -> str:
    store = ActivationStore(job.activations)
    batch, whole = store.same_document(job.train.batch_tokens, job.stream.order, shard=job.shard)
    return f"two rows of a batch are of one document with a chance of {batch:.2%} ({whole:.2%} were all shuffled)"


def _run(todo: list[SAEJob], board: Path, config: TrainConfig) -> dict[str, Any] | None:
    """The error of the workers, if they met one."""
    if local_mode():
        import torch

        torch.set_num_threads(1)
        train_all(todo, board, Place())
        return None
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
        # A lost worker restarts the group, which finds our checkpoints; Ray's own are not used.
        run_config=ray.train.RunConfig(
            name=f"group-{time.time_ns()}",
            storage_path=str(store),
            failure_config=ray.train.FailureConfig(max_failures=LOSSES),
        ),
    )
    try:
        return trainer.fit().return_value
    except ray.train.WorkerGroupError as error:
        if not _is_loss(error):
            raise
        raise Lost(f"a training worker was lost {LOSSES + 1} times") from error
    finally:
        _remove(store)


def _is_loss(error: Any) -> bool:
    """Whether a worker of the group ended without a word; what the others say then is that it no longer answers."""
    from ray.exceptions import RayActorError

    said = [getattr(failure, "health_check_failure", failure) for failure in error.worker_failures.values()]
    return any(isinstance(failure, RayActorError) for failure in said)


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _loop(config: dict[str, Any]) -> dict[str, Any] | None:
    """What every Ray Train worker runs. A user's error ends every rank at the same step, and that of rank 0 travels as
    a value: raised here, it would be tried again, and a file has no room where the disk is full."""
    import ray.train
    import torch
    import torch.distributed

    from raysae.training.reduce import pairwise_sum

    torch.set_num_threads(1)
    process = Process(gpus=float(config["jobs"][0].train.gpu))
    context = ray.train.get_context()
    nccl = torch.distributed.get_backend() == "nccl"
    all_reduce = torch.distributed.all_reduce if nccl else pairwise_sum
    place = Place(context.get_world_rank(), context.get_world_size(), all_reduce, _broadcast)
    board = Path(config["board"])
    try:
        train_all(config["jobs"], board, place)
    except RaysaeError as error:
        return {"error": str(error), "status": error.status}
    finally:
        with suppress(OSError):  # on a full disk what it used stays unknown
            process.leave(board.parent)
    return None


def _broadcast(tensor: Any) -> None:
    import torch.distributed

    torch.distributed.broadcast(tensor, 0)


def train_all(jobs: list[SAEJob], board: Path, place: Place) -> None:
    """Train one group of SAEs after the other; those that are finished stay as they are."""
    halt = Halt(board.parent, place.rank, place.world)
    device = device_of(jobs[0].train)
    # Workers that replace lost ones are given the same jobs. Every rank finds the same: none is finished by this group
    # before all its ranks have come to the first sum of `train_together`.
    todo = [job for job in jobs if not is_finished(job)]
    done = sum(job.train.steps for job in jobs) - sum(job.train.steps for job in todo)
    for group in groups(todo, jobs[0].train.together):
        for steps, text in train_together(group, place, halt, _save):
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            seen = {"done": done + steps, "text": text, "peak_bytes": peak}
            of_rank_0(place, device, partial(write_json, board, seen))
        if halt.stopped:
            return
        done += sum(job.train.steps for job in group)


def _save(course: Course) -> None:
    job = course.job
    checkpoint.save(course.trainer.finished(), job.out, job.provenance | {"origin": course.origin})
    write_json(job.out / "history.json", course.history)
    blocks = tuple(
        describe_file(path, job.fingerprint)
        for path in (job.out / name for name in ("cfg.json", "history.json", "sae_weights.safetensors"))
    )
    Manifest(kind="sae", fingerprint=job.fingerprint, blocks=blocks, extra={"arm": job.arm, "seed": job.seed}).write(
        job.out
    )
