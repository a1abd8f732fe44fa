"""Ray Tune over expansion factor and sparsity penalty: one small SAE a trial, judged by its margins on FIT.

A trial trains inside its trainable (a Ray Train run inside a trial costs half a minute of process start-up); it
declares one CPU and starts nothing of its own, so trials cannot deadlock. TEST is closed to this stage.
"""

import itertools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from raysae.errors import BadInput
from raysae.falsification.criterion import SWEEP_RULE
from raysae.stages.capture import MAIN
from raysae.stages.measure import fit_margins
from raysae.stages.progress import StageProgress
from raysae.stages.resources import connect, local_mode
from raysae.stages.train import SAEJob, make_trainer, plan
from raysae.store import Manifest, describe_file, write_json
from raysae.types import Experiment
from raysae.types.experiment import LossConfig, SAEConfig, fingerprint, stream_seed


@dataclass(frozen=True)
class _Trial:
    """One point, and everything needed to measure it anywhere."""

    number: int
    job: SAEJob
    tokens: Path
    alive_rate: float
    l0_cap: float
    limit: int


def grid(experiment: Experiment) -> list[dict[str, Any]]:
    """The points to try: the whole grid, or a random part of it by the experiment's seed. BadInput if too small."""
    sweep = experiment.sweep
    if experiment.sae.architecture == "relu":
        points = [
            {"expansion": e, "l1": l1, "k": experiment.sae.k} for e, l1 in itertools.product(sweep.expansion, sweep.l1)
        ]
    else:
        points = [
            {"expansion": e, "l1": experiment.loss.l1, "k": k} for e, k in itertools.product(sweep.expansion, sweep.k)
        ]
    if sweep.trials > len(points):
        raise BadInput(
            f"sweep.trials={sweep.trials}",
            f"the grid has {len(points)} points",
            "add values to sweep.expansion, sweep.k or sweep.l1",
        )
    chosen = np.random.default_rng(stream_seed(experiment.seed, "sweep/grid")).permutation(len(points))[: sweep.trials]
    return [points[i] for i in sorted(chosen)]


def sweep(
    experiment: Experiment, activations: Path, tokens: Path, out: Path, l0_cap: float, progress: StageProgress
) -> dict[str, Any]:
    """Write `sweep/` and return the chosen point {expansion, k, l1, ...}."""
    points = grid(experiment)
    base = plan(experiment, activations, out)[0]
    mark = fingerprint(
        {"base": base.fingerprint, "sweep": experiment.identity()["sweep"], "rule": SWEEP_RULE, "l0_cap": l0_cap}
    )
    trials = [
        _Trial(
            number,
            _job(experiment, base, point, out / f"trial-{number:02d}", mark),
            tokens.absolute(),
            experiment.protocol.alive_rate,
            l0_cap,
            experiment.protocol.test_tokens,
        )
        for number, point in enumerate(points)
    ]
    progress.total(len(trials))
    results = {t.number: found for t in trials if (found := _finished(t)) is not None}
    progress.advance(len(results))
    todo = [trial for trial in trials if trial.number not in results]
    if todo:
        _run(todo, out, experiment.sweep.concurrent, progress)
    rows = []
    for trial, point in zip(trials, points, strict=True):
        result = _finished(trial)
        if result is None:
            raise RuntimeError(f"trial {trial.number} of the sweep left no result; see Ray's logs of this session")
        rows.append({**point, **result})
    best = min(rows, key=lambda row: (-row["margin"], row["expansion"], row["l0"]))
    for row in rows:
        row["chosen"] = row is best
    write_json(out / "sweep.json", {"rule": SWEEP_RULE, "trials": rows})
    path = out / "sweep.json"
    block = describe_file(path, mark, rows=len(rows))
    Manifest(kind="sweep", fingerprint=mark, blocks=(block,)).write(out)
    return best


def chosen(out: Path) -> dict[str, Any]:
    """The point a finished sweep chose."""
    return next(row for row in json.loads((out / "sweep.json").read_text())["trials"] if row["chosen"])


def configure(experiment: Experiment, point: dict[str, Any]) -> Experiment:
    """The experiment with the chosen point in place."""
    return experiment.model_copy(update={"sae": _sae(experiment, point), "loss": _loss(experiment, point)})


def _sae(experiment: Experiment, point: dict[str, Any]) -> SAEConfig:
    return experiment.sae.model_copy(update={"expansion": point["expansion"], "k": point["k"]})


def _loss(experiment: Experiment, point: dict[str, Any]) -> LossConfig:
    return experiment.loss.model_copy(update={"l1": point["l1"]})


def _job(experiment: Experiment, base: SAEJob, point: dict[str, Any], out: Path, mark: str) -> SAEJob:
    assert base.arm == MAIN
    steps = experiment.sweep.steps
    schedule = experiment.train.model_copy(update={"steps": steps, "checkpoint_steps": steps})
    return replace(
        base,
        # A trial shares no stream with the SAEs that are judged.
        seed=-1,
        out=out.absolute(),
        sae=_sae(experiment, point),
        loss=_loss(experiment, point),
        train=schedule,
        fingerprint=fingerprint({"sweep": mark, "point": point}),
    )


def _finished(trial: _Trial) -> dict[str, Any] | None:
    path = trial.job.out.with_suffix(".json")
    if not path.is_file():
        return None
    found = json.loads(path.read_text())
    return found["result"] if found["fingerprint"] == trial.job.fingerprint else None


def measure_trial(trial: _Trial) -> dict[str, Any]:
    """Train one point and judge it on FIT."""
    import torch

    torch.set_num_threads(1)
    job = trial.job
    trainer, store, point = make_trainer(job, torch.device("cpu"))
    order = stream_seed(job.experiment_seed, "sae/sweep/order")
    per_shard = job.train.batch_tokens // job.train.shards
    for batch in itertools.islice(store.batches(point, job.train.batch_tokens, order), job.train.steps):
        shards = [torch.from_numpy(batch[s * per_shard : (s + 1) * per_shard]) for s in range(job.train.shards)]
        trainer.step(shards, lambda buffer: None)
    result = fit_margins(trainer.finished(), store, trial.tokens, point, trial.alive_rate, trial.l0_cap, trial.limit)
    write_json(job.out.with_suffix(".json"), {"fingerprint": job.fingerprint, "result": result})
    return result


def _trainable(config: dict[str, Any]) -> None:
    from ray import tune

    tune.report(measure_trial(config["trial"]))


def _run(todo: list[_Trial], out: Path, concurrent: int, progress: StageProgress) -> None:
    if local_mode():
        for trial in todo:
            progress.advance(1, _say(measure_trial(trial)))
        return
    connect()
    from ray import tune

    before = progress.done

    def look() -> tuple[float, str] | None:
        results = [found for trial in todo if (found := _finished(trial)) is not None]
        return before + len(results), _say(max(results, key=lambda result: result["margin"])) if results else ""

    store = out.absolute() / "ray_tune"
    tuner = tune.Tuner(
        tune.with_resources(_trainable, {"CPU": 1}),
        param_space={"trial": tune.grid_search(todo)},
        tune_config=tune.TuneConfig(metric="margin", mode="max", max_concurrent_trials=concurrent, reuse_actors=True),
        run_config=tune.RunConfig(name="sweep", storage_path=str(store), verbose=0),
    )
    with progress.following(look):
        results = tuner.fit()
    if results.errors:
        raise results.errors[0]
    import shutil

    shutil.rmtree(store, ignore_errors=True)


def _say(result: dict[str, Any]) -> str:
    return f"best so far: fvu {result['fvu']:.3f}, l0 {result['l0']:.1f}, margin {result['margin']:+.2f}"
