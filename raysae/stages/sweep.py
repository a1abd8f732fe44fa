"""Ray Tune over the recipe of the SAE: many small SAEs, each judged by its margins on FIT.

All points of a grid learn from one stream of activations, so a Tune trial is a share of the points, trained together
(cotrain.py) and judged on one sample: start-up, reading and shuffling are paid once for all of them. Where a search
draws the points or a scheduler stops them, a trial is one point. TEST is closed to this stage.
"""

import json
from pathlib import Path
from typing import Any

from raysae.falsification.criterion import SWEEP_RULE
from raysae.falsification.protocol import Protocol
from raysae.falsification.sweeping import Tried, choose, front
from raysae.stages.halt import halting
from raysae.stages.progress import StageProgress
from raysae.stages.resources import connect
from raysae.stages.trials import Trials
from raysae.stages.tuning import carry_out
from raysae.stages.usage import collect
from raysae.store import Manifest, describe_file, write_json
from raysae.types import Experiment


def sweep(
    experiment: Experiment, activations: Path, tokens: Path, out: Path, protocol: Protocol, progress: StageProgress
) -> dict[str, Any]:
    """Write `sweep/` and return the chosen point {expansion, k, l1, ...}."""
    swept, steps = Trials(experiment, activations, tokens, out, protocol), experiment.sweep.steps
    finished = [number for number in swept.numbers if (row := swept.row(number)) and not row["stopped"]]
    progress.total(len(swept.numbers) * steps)
    progress.at(len(finished) * steps)
    if len(finished) < len(swept.numbers):
        connect()
        with halting(out):
            carry_out(swept, progress)
        collect(out)
        collect(activations)
    rows = [row for number in swept.numbers if (row := swept.row(number))]
    if len(rows) < len(swept.numbers):
        raise RuntimeError("a trial of the sweep left no result; see Ray's logs of this session")
    _judge(rows, protocol.l0_cap)
    path = out / "sweep.json"
    write_json(path, {"rule": SWEEP_RULE, "search": experiment.sweep.search, "trials": rows})
    block = describe_file(path, swept.mark, rows=len(rows))
    trained = {"steps": sum(row["steps"] for row in rows)}
    Manifest(kind="sweep", fingerprint=swept.mark, blocks=(block,), extra=trained).write(out)
    for path in out.glob("*.checkpoint*"):  # of trials that were stopped
        path.unlink()
    return next(row for row in rows if row["chosen"])


def chosen(out: Path) -> dict[str, Any]:
    """The point a finished sweep chose."""
    return next(row for row in json.loads((out / "sweep.json").read_text())["trials"] if row["chosen"])


def _judge(rows: list[dict[str, Any]], l0_cap: float) -> None:
    """Mark the chosen trial and the front, among those that were trained to their end."""
    ended = [row for row in rows if not row["stopped"]]
    tried = [Tried(row["margin"], row["expansion"], row["l0"], row["margins"]) for row in ended]
    best, pareto = ended[choose(tried, l0_cap)], front(tried, l0_cap)
    for row in rows:
        row["chosen"] = row is best
        row["pareto"] = False
    for row, kept in zip(ended, pareto, strict=True):
        row["pareto"] = kept
