"""How the trials of a sweep are carried out: by Ray Tune, or one after the other in this process.

A trial trains inside its trainable (a Ray Train run inside a trial costs half a minute of process start-up), declares
one CPU and starts nothing of its own, so trials cannot deadlock. Where its process is lost Tune starts it again, where
the driver is the same command does: trials that have finished answer from their files, others go on from a checkpoint.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from raysae.errors import RaysaeError
from raysae.stages.points import drawn
from raysae.stages.progress import StageProgress
from raysae.stages.resources import local_mode, revive
from raysae.stages.trials import Report, Trial, Trials, measure_together
from raysae.stages.usage import Process
from raysae.store import write_json

RETRIES = 2
"""Of a trial whose process was lost."""
Share = tuple[int, list[Trial], Path, bool]
"""Number, trials, folder, and whether Tune is told of what is measured: of a trial that stands alone."""


def _shares(swept: Trials) -> list[Share]:
    """The trials of a grid as Tune gets them. Together as many as run at the same time, or more where a share would be
    too large; neighbours in the grid, which cost about the same, go to different shares."""
    if swept.rungs:
        return [(trial.number, [trial], swept.out, True) for trial in swept.of_grid()]
    todo = [trial for trial in swept.of_grid() if trial.known()["result"] is None]
    count = max(min(_concurrent(swept), len(todo)), -(-len(todo) // swept.experiment.train.together))
    count = 1 if swept.base.made_by else count  # rows that are made once are for all points at once
    return [(number, todo[number::count], swept.out, False) for number in range(count)]


def _concurrent(swept: Trials) -> int:
    return 1 if swept.base.made_by else swept.experiment.sweep.concurrent


def _board(out: Path, number: int) -> Path:
    return out / f"progress-{number}.json"


def _measure(share: Share, report: Report) -> None:
    number, trials, out, told = share

    def say(done: int, text: str) -> None:
        write_json(_board(out, number), {"done": done, "text": text})

    measure_together(trials, out, say, report if told else None)


def _trainable(config: dict[str, Any]) -> None:
    from ray import tune

    number, _, out, _ = config["share"]
    process = Process()
    try:
        _measure(config["share"], tune.report)
    except RaysaeError as error:  # as a value: Tune would wrap it
        write_json(_board(out, number), {"done": 0, "text": "", "error": str(error), "status": error.status})
    finally:
        process.leave(out)


def _said(out: Path) -> list[dict[str, Any]]:
    return [json.loads(board.read_text()) for board in sorted(out.glob("progress-*.json"))]


def carry_out(swept: Trials, progress: StageProgress) -> None:
    """Leave a file of each; raises the error of one that cannot be."""
    out, before = swept.out, progress.done

    def forget() -> None:
        for board in out.glob("progress-*.json"):
            board.unlink()

    def look() -> tuple[float, str] | None:
        said = _said(out)
        return (before + sum(one["done"] for one in said), said[-1]["text"]) if said else None

    forget()
    with progress.following(look):
        (_here if local_mode() else _tune)(swept)
    said = _said(out)
    forget()
    for answer in said:
        if "error" in answer:
            raise revive(answer)


def _here(swept: Trials) -> None:
    """In this process, one trial after the other."""
    if not (swept.searched or swept.rungs):
        for share in _shares(swept):
            _measure(share, lambda found: None)
        return
    from raysae.stages import search

    asked = _search(swept) if swept.searched else None
    configs = [{"share": share} for share in _shares(swept)] if asked is None else []
    search.one_by_one(
        len(swept.numbers),
        asked.suggest if asked else lambda name: configs[int(name)],
        lambda config, report: _measure(config["share"], report),
        search.asha(swept.experiment, swept.rungs) if swept.rungs else None,
        asked.on_trial_complete if asked else None,
    )


def _search(swept: Trials) -> Any:
    from raysae.stages.search import Search

    def make(number: int, values: dict[str, Any]) -> dict[str, Any]:
        return {"share": (number, [swept.trial(number, drawn(swept.experiment, values))], swept.out, True)}

    return Search(swept.experiment, swept.objectives, swept.judge.l0_cap, make)


def _tune(swept: Trials) -> None:
    from ray import tune

    from raysae.stages import search

    store = swept.out / "ray_tune"
    shutil.rmtree(store, ignore_errors=True)
    tuner = tune.Tuner(
        tune.with_resources(_trainable, {"CPU": 1}),
        param_space={} if swept.searched else {"share": tune.grid_search(_shares(swept))},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=_concurrent(swept),
            reuse_actors=True,
            num_samples=len(swept.numbers) if swept.searched else 1,
            search_alg=_search(swept) if swept.searched else None,
            scheduler=search.asha(swept.experiment, swept.rungs) if swept.rungs else None,
        ),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=str(store),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            stop=search.EndOnError(lambda: any("error" in one for one in _said(swept.out))),
        ),
    )
    results = tuner.fit()
    if results.errors:
        raise results.errors[0]
    shutil.rmtree(store, ignore_errors=True)
