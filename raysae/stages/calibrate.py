"""The court on trial -> its error rates as JSON, and a figure per criterion (SCIENCE 9). Unit of work: some simulations
of one world, each from its own seed stream, so that rates do not depend on how the work is spread."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from raysae.errors import BadInput
from raysae.falsification.protocol import source_sha256
from raysae.falsification.simulation import SIMULATIONS, Trial, by_criterion, rates, try_world
from raysae.report.calibration import figure
from raysae.stages.progress import StageProgress
from raysae.stages.resources import map_blocks
from raysae.store import write_json
from raysae.store.writable import check_writable
from raysae.types.experiment import stream_seed
from raysae.types.metric import Outcome, Reason

POWER_RUNS = 60
"""Simulations of planted truth, at most: a rate of 0.95 shows in them."""
AT_ONCE = 10
"""Simulations in one unit of work."""


def calibrate(
    simulations: int, progress: StageProgress, *, seed: int = 0, criteria: Sequence[str] = (), actors: int = 2
) -> dict[str, Any]:
    """The rates as they stand in the JSON. Raises BadInput for an unknown criterion or a number below 1."""
    names = check(simulations, criteria, actors)
    started, measured_by = time.monotonic(), source_sha256()
    items = [
        {"criterion": name, "kind": kind, "seed": seed, "start": start, "stop": min(start + AT_ONCE, count)}
        for name in names
        for kind, world in SIMULATIONS[name].items()
        for count in [min(simulations, POWER_RUNS) if world.claim_holds else simulations]
        for start in range(0, count, AT_ONCE)
    ]
    progress.total(len(items))
    found: dict[tuple[str, str], dict[int, Trial]] = {}
    for answer in map_blocks(Simulator, (), items, actors=actors):
        trials = found.setdefault((answer["criterion"], answer["kind"]), {})
        trials |= {answer["start"] + i: _revive(plain) for i, plain in enumerate(answer["trials"])}
        progress.advance(1, f"{answer['criterion']}, {answer['kind']}")
    rows = {
        name: by_criterion(
            name,
            {
                kind: rates(world, [trial for _, trial in sorted(found[name, kind].items())])
                for kind, world in SIMULATIONS[name].items()
            },
        )
        for name in names
    }
    return {
        "simulations": simulations,
        "power_runs": min(simulations, POWER_RUNS),
        "seed": seed,
        "source_sha256": measured_by,
        "false_go_rate": {name: row["false_go_rate"] for name, row in rows.items()},
        "power": {name: row["power"] for name, row in rows.items()},
        "within": all(row["within"] for row in rows.values()),
        "seconds": round(time.monotonic() - started, 1),
        "criteria": rows,
    }


def check(simulations: int, criteria: Sequence[str], actors: int, path: Path | None = None) -> list[str]:
    """The criteria to be simulated, in the order of the table; BadInput before anything is started."""
    if path is not None and (path.is_dir() or path.suffix != ".json"):
        raise BadInput(f"json={path}", "allowed: a file that ends in .json", "type --json calibration.json")
    if path is not None:
        check_writable(path.absolute().parent, f"json={path}", "type --json calibration.json")
    if simulations < 1 or actors < 1:
        raise BadInput(
            f"simulations={simulations}, actors={actors}",
            "allowed: at least 1 of each",
            "type raysae calibrate --simulations 400",
        )
    for name in criteria:
        if name not in SIMULATIONS:
            raise BadInput(
                f"criteria holds {name!r}", f"allowed: {', '.join(SIMULATIONS)}", "correct the name or leave it out"
            )
    return [name for name in SIMULATIONS if not criteria or name in criteria]


def write(found: dict[str, Any], path: Path) -> list[Path]:
    """The JSON, and beside it a figure per criterion: `NAME.json`, `NAME-reconstruction.svg`, ..."""
    rows = {
        name: row | {"worlds": {kind: _without(world, "drawn") for kind, world in row["worlds"].items()}}
        for name, row in found["criteria"].items()
    }
    write_json(path, found | {"criteria": rows})
    written = [path]
    for name, row in found["criteria"].items():
        written.append(path.with_name(f"{path.stem}-{name}.svg"))
        written[-1].write_text(figure(name, row), encoding="utf-8")
    return written


class Simulator:
    """A range of simulations of one world."""

    def __init__(self) -> None:
        torch.set_num_threads(1)

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        name, kind = item["criterion"], item["kind"]
        world = SIMULATIONS[name][kind]
        trials = [
            try_world(name, world, stream_seed(item["seed"], f"calibrate/{name}/{kind}/{number}"))
            for number in range(item["start"], item["stop"])
        ]
        return {**item, "trials": [list(trial) for trial in trials]}


def _without(row: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != key}


def _revive(plain: list[Any]) -> Trial:
    outcome, reason, value, interval = plain
    return Trial(
        Outcome(outcome),
        None if reason is None else Reason(reason),
        value,
        None if interval is None else tuple(interval),
    )
