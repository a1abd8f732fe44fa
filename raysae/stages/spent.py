"""The resource ledger of a run, `resources.json`: what every stage took, beside what was planned for it.

A stage that is taken up again adds to its row; an attempt that was killed without a word is not in it.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from raysae.costs.devices import CPU, known
from raysae.costs.prices import Prices, read
from raysae.errors import Stopped
from raysae.saes.checkpoint import tensor_bytes
from raysae.stages.provenance import cores
from raysae.stages.usage import Used, counting
from raysae.store import Manifest, RunFolder, write_json
from raysae.store.activations import STREAMED
from raysae.store.schema import NUMBER_BYTES
from raysae.types import Experiment

Plain = dict[str, Any]

FOLDERS: dict[str, tuple[str, ...]] = {
    "draw": ("tokens",),
    "ingest": ("corpus",),
    "tokenize": ("tokens", "labels", "alignment"),
    "quality": ("quality",),
    "capture": ("activations",),
    "sweep": ("sweep",),
    "train": ("sae",),
    "evaluate": ("metrics",),
    "overhead": ("metrics",),
}
"""Parts of the run folder that a stage fills."""


@contextmanager
def recording(stage: str, experiment: Experiment, folder: RunFolder) -> Iterator[None]:
    """Count what the stage takes inside, also where it was asked to stop, and put it into `resources.json`."""
    started = time.monotonic()
    stopped: Stopped | None = None
    with counting() as tally:
        try:
            yield
        except Stopped as error:
            stopped = error
    row = _row(tally.total(), time.monotonic() - started) | left(stage, experiment, folder)
    _add(stage, row, folder, read(experiment.budget.prices))
    if stopped is not None:
        raise stopped


def ledger(folder: RunFolder) -> Plain:
    """`resources.json` so far: `stages`, a row for each, `prices`, and `planned` where there was a plan."""
    return json.loads(folder.resources.read_text()) if folder.resources.is_file() else {"stages": {}}


class Pair(NamedTuple):
    """What was planned, None where nothing was, and what it took."""

    planned: float | None
    taken: float


def planned_and_taken(folder: RunFolder) -> dict[str, Pair]:
    """Wall time, tokens and bytes over the stages that were planned and are done; empty where there was no plan."""
    found = ledger(folder)
    if not (planned := (found.get("planned") or {}).get("stages")):
        return {}
    both = {stage: (planned[stage], row) for stage, row in found["stages"].items() if stage in planned}

    def pair(name: str, *only: str) -> Pair:
        rows = [both[stage] for stage in only or both if stage in both]
        expected = [plan[name] for plan, _ in rows]
        timed = None if None in expected else sum(expected)
        return Pair(timed, sum(row[name] for _, row in rows))

    return {
        "seconds": pair("wall_s"),
        "tokens captured": pair("tokens", "capture"),
        "bytes of activations": pair("numbers_bytes", "capture"),
        "bytes of SAEs": pair("numbers_bytes", "train"),
        "bytes on disk": pair("disk_bytes", "capture", "train"),
    }


def seconds(folder: RunFolder) -> dict[str, float]:
    """Wall time of every stage so far."""
    return {stage: row["wall_s"] for stage, row in ledger(folder)["stages"].items()}


def left(stage: str, experiment: Experiment, folder: RunFolder) -> Plain:
    """What a stage made: tokens, bytes of its numbers before they are compressed, bytes on disk."""
    paths = [path for part in FOLDERS.get(stage, ()) for path in sorted((folder.root / part).rglob("manifest.json"))]
    manifests = {path.parent: Manifest.read(path.parent) for path in paths}
    disk = sum(manifest.bytes for manifest in manifests.values())
    return {"tokens": 0, "numbers_bytes": 0, **_MADE.get(stage, _nothing)(experiment, manifests), "disk_bytes": disk}


Manifests = dict[Path, Manifest]


def _nothing(experiment: Experiment, manifests: Manifests) -> Plain:
    return {}


def _text(experiment: Experiment, manifests: Manifests) -> Plain:
    return {"tokens": sum(manifest.extra.get("tokens", 0) for manifest in manifests.values())}


def _activations(experiment: Experiment, manifests: Manifests) -> Plain:
    numbers = 0
    for manifest in manifests.values():
        rows = sum(block.rows for block in manifest.blocks if not block.facts.get(STREAMED))
        numbers += rows * sum(manifest.extra["widths"].values()) * NUMBER_BYTES[manifest.extra["dtype"]]
    return {"tokens": sum(manifest.rows for manifest in manifests.values()), "numbers_bytes": numbers}


def _points(experiment: Experiment, manifests: Manifests) -> Plain:
    steps = sum(manifest.extra["steps"] for manifest in manifests.values())
    return {"tokens": steps * experiment.train.batch_tokens}


def _saes(experiment: Experiment, manifests: Manifests) -> Plain:
    tokens = len(manifests) * experiment.train.steps * experiment.train.batch_tokens
    return {"tokens": tokens, "numbers_bytes": sum(map(tensor_bytes, manifests))}


_MADE: dict[str, Callable[[Experiment, Manifests], Plain]] = {
    "draw": _text,
    "tokenize": _text,
    "capture": _activations,
    "sweep": _points,
    "train": _saes,
}


def _row(used: Used, wall_s: float) -> Plain:
    """A GPU is held by the hour where there was one, else every core of the machine."""
    gpu = used.gpu_s > 0
    return {
        "wall_s": round(wall_s, 3),
        "cpu_hours": used.cpu_s / 3600,
        "device": (known(used.gpu) or used.gpu) if gpu else CPU,
        "device_hours": (used.gpu_s if gpu else wall_s * cores()) / 3600,
        "peak_bytes": used.peak_bytes,
        "gpu_peak_bytes": used.gpu_peak_bytes,
        "read_bytes": used.read_bytes,
        "written_bytes": used.written_bytes,
    }


ADDED = ("wall_s", "cpu_hours", "device_hours", "read_bytes", "written_bytes")
"""Over the attempts at a stage; of peaks the higher stays."""


def _add(stage: str, row: Plain, folder: RunFolder, prices: Prices | None) -> None:
    found = ledger(folder)
    before = found["stages"].get(stage, {})
    row |= {name: round(row[name] + before.get(name, 0), 9) for name in ADDED}
    row |= {name: max(row[name], before.get(name, 0)) for name in ("peak_bytes", "gpu_peak_bytes")}
    row["cost"] = prices and prices.hours(row["device"], row["device_hours"])
    found["stages"][stage] = row
    found["prices"] = prices and prices.model_dump(mode="json")
    write_json(folder.resources, found)
