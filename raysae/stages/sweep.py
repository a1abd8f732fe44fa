"""Ray Tune over expansion factor and sparsity penalty: many small SAEs, each judged by its margins on FIT.

All points learn from one stream of activations, so a Tune trial is a share of the points, trained together
(cotrain.py) and judged on one sample: start-up, reading and shuffling are paid once for all of them. It trains inside
its trainable (a Ray Train run inside a trial costs half a minute of process start-up), declares one CPU and starts
nothing of its own, so trials cannot deadlock. TEST is closed to this stage.
"""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from raysae.errors import BadInput, RaysaeError
from raysae.falsification.criterion import SWEEP_RULE
from raysae.stages.capture import MAIN
from raysae.stages.cotrain import Course, Place, train_together
from raysae.stages.halt import Halt, halting
from raysae.stages.jobs import SAEJob, plan
from raysae.stages.measure import fit_margins, read_sample
from raysae.stages.progress import StageProgress
from raysae.stages.resources import connect, local_mode, revive
from raysae.stages.usage import Process, collect
from raysae.store import ActivationStore, Manifest, TokenStore, describe_file, write_json
from raysae.types import Experiment, HookPoint, Split
from raysae.types.experiment import fingerprint, stream_seed
from raysae.types.learning import LossConfig, SAEConfig


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
    todo = [trial for trial in trials if _finished(trial) is None]
    concurrent, together = experiment.sweep.concurrent, experiment.train.together
    if base.made_by is not None:  # rows that are made once are for all points at once
        concurrent, together = 1, len(trials)
    steps = experiment.sweep.steps
    progress.total(len(trials) * steps)
    progress.at((len(trials) - len(todo)) * steps)
    if todo:
        connect()
        with halting(out):
            _run(todo, out.absolute(), concurrent, together, progress)
        collect(out)
        collect(activations)
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
    return replace(
        base,
        # A trial shares no stream with the SAEs that are judged.
        seed=-1,
        order="sae/sweep/order",
        out=out.absolute(),
        sae=_sae(experiment, point),
        loss=_loss(experiment, point),
        train=experiment.train.model_copy(update={"steps": experiment.sweep.steps}),
        fingerprint=fingerprint({"sweep": mark, "point": point}),
    )


def _finished(trial: _Trial) -> dict[str, Any] | None:
    path = trial.job.out.with_suffix(".json")
    if not path.is_file():
        return None
    found = json.loads(path.read_text())
    return found["result"] if found["fingerprint"] == trial.job.fingerprint else None


def _shares(trials: Sequence[_Trial], concurrent: int, together: int) -> list[list[_Trial]]:
    """As many as run at the same time, or more where a share would be too large; neighbours in the grid, which cost
    about the same, go to different shares."""
    count = max(min(concurrent, len(trials)), -(-len(trials) // together))
    return [list(trials[i::count]) for i in range(count)]


def measure_together(number: int, trials: Sequence[_Trial], out: Path) -> None:
    """Train share `number` of the points on their one stream and judge each on FIT; leaves a file for each."""
    import torch

    torch.set_num_threads(1)
    first = trials[0]
    point = HookPoint.parse(first.job.hookpoint)
    store = ActivationStore(first.job.activations)
    sample = read_sample(store, TokenStore(first.tokens), Split.FIT, point, first.limit)
    mean = torch.from_numpy(store.mean(point)).float()

    def judge(course: Course) -> None:
        result = fit_margins(course.trainer.finished(), sample, mean, first.alive_rate, first.l0_cap)
        path = course.job.out.with_suffix(".json")
        write_json(path, {"fingerprint": course.job.fingerprint, "result": result})

    for done, text in train_together([trial.job for trial in trials], Place(), Halt(out), judge):
        write_json(_board(out, number), {"done": done, "text": text})


def _board(out: Path, number: int) -> Path:
    return out / f"progress-{number}.json"


def _trainable(config: dict[str, Any]) -> None:
    number, _, out = config["share"]
    process = Process()
    try:
        measure_together(*config["share"])
    except RaysaeError as error:  # as a value: Tune would wrap it
        write_json(_board(out, number), {"done": 0, "text": "", "error": str(error), "status": error.status})
    finally:
        process.leave(out)


def _run(todo: list[_Trial], out: Path, concurrent: int, together: int, progress: StageProgress) -> None:
    shares = _shares(todo, concurrent, together)
    before = progress.done
    boards = [_board(out, number) for number in range(len(shares))]
    for board in boards:
        board.unlink(missing_ok=True)

    def look() -> tuple[float, str] | None:
        seen = [json.loads(board.read_text()) for board in boards if board.is_file()]
        return (before + sum(said["done"] for said in seen), seen[-1]["text"]) if seen else None

    with progress.following(look):
        if local_mode():
            for number, share in enumerate(shares):
                measure_together(number, share, out)
        else:
            _tune([(number, share, out) for number, share in enumerate(shares)], concurrent, out / "ray_tune")
    said = [json.loads(board.read_text()) for board in boards if board.is_file()]
    for board in boards:
        board.unlink(missing_ok=True)
    for answer in said:
        if "error" in answer:
            raise revive(answer)


def _tune(arguments: list[tuple[int, list[_Trial], Path]], concurrent: int, store: Path) -> None:
    from ray import tune

    tuner = tune.Tuner(
        tune.with_resources(_trainable, {"CPU": 1}),
        param_space={"share": tune.grid_search(arguments)},
        tune_config=tune.TuneConfig(max_concurrent_trials=concurrent, reuse_actors=True),
        run_config=tune.RunConfig(name="sweep", storage_path=str(store), verbose=0),
    )
    results = tuner.fit()
    if results.errors:
        raise results.errors[0]
    import shutil

    shutil.rmtree(store, ignore_errors=True)
