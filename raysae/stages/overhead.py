"""What capture costs -> `metrics/`: the criteria capture_latency, capture_throughput and capture_memory.

Each measurement has an actor of its own, one after the other: what one holds in memory is no peak of the next. One that
is killed begins anew, since the halves of a series would be timed in two moods of the machine; a finished one is kept.
"""

import json
import shutil
from typing import Any

import numpy as np

from raysae.errors import BadInput
from raysae.falsification.metrics import overhead as metrics
from raysae.falsification.metrics.overhead import Capture
from raysae.falsification.phases import Footing
from raysae.falsification.protocol import Protocol, draft, read, source_sha256
from raysae.models.capture import check_hookpoints, width
from raysae.models.load import describe, model_inputs
from raysae.models.maps import is_map
from raysae.stages.meter import TICKS, Meter
from raysae.stages.preflight import check_room
from raysae.stages.progress import StageProgress
from raysae.stages.provenance import commit
from raysae.stages.registration import check_content, splits
from raysae.stages.resources import map_blocks
from raysae.store import (
    BlockInfo,
    Manifest,
    RunFolder,
    TokenStore,
    describe_file,
    finished_blocks,
    write_json,
)
from raysae.types import Experiment, Metric
from raysae.types.experiment import fingerprint, stream_seed

MEASURES = {
    "capture_latency": ("latency",),
    "capture_throughput": ("latency", "throughput"),
    "capture_memory": ("latency", "memory-base", "memory-capture"),
}
"""What each criterion is judged by. With the latency comes the proof that capture reads what is there."""

UNUSED = ("corpus", "tokenizer", "quality", "activations", "sae", "loss", "train", "sweep")
"""Sections that decide nothing here."""


def check(experiment: Experiment) -> None:
    """BadInput for what cannot be measured, and for keys that would be read by nobody."""
    if is_map(experiment.model):
        raise BadInput(
            f"model.name={experiment.model.name} and criteria of capture",
            "allowed: a language model, whose forward pass is there to be compared with",
            "type model.name=tiny-cot",
        )
    for name in UNUSED:
        part = getattr(experiment, name)
        if part != type(part)():
            raise BadInput(
                f"{name} is set, and criteria of capture read drawn token ids and train nothing",
                "allowed: model, capture, overhead and protocol",
                f"remove {name}",
            )
    for name in ("nulls", "observations"):
        if getattr(experiment.protocol, name):
            raise BadInput(
                f"protocol.{name} holds {getattr(experiment.protocol, name)[0]}",
                "allowed: none, since criteria of capture have none",
                f"type protocol.{name}=[]",
            )
    row = describe(experiment.model)
    check_hookpoints(row, experiment.capture.hookpoints)
    longest = row.ctx_len
    if experiment.overhead.sequence_length > longest:
        raise BadInput(
            f"overhead.sequence_length={experiment.overhead.sequence_length}",
            f"{experiment.model.name} reads at most {longest} tokens",
            f"type overhead.sequence_length={longest}",
        )


def registered(experiment: Experiment, folder: RunFolder, footing: Footing) -> Protocol:
    """The protocol of an experiment about capture."""
    return draft(
        experiment,
        l0_cap=0.0,
        splits=splits(TokenStore(folder.tokens)),
        test_documents=experiment.overhead.documents,
        activation_documents=experiment.overhead.documents,
        factors=(),
        dropped_factors={},
        causal_units=(),
        model_sha256=fingerprint(model_inputs(experiment.model)),
        tokenizer_sha256="none: the ids are drawn",
        commit=commit(),
        footing=footing,
    )


def overhead(experiment: Experiment, folder: RunFolder, progress: StageProgress) -> dict[str, Metric]:
    """Write `metrics/` and return the metrics by criterion."""
    protocol = read(folder.protocol)
    check_content(experiment, folder, protocol)
    mark = fingerprint({"protocol": protocol.sha256})
    names = list(dict.fromkeys(measure for row in protocol.criteria for measure in MEASURES[row.name]))
    done = finished_blocks(folder.metrics, names, mark)
    progress.total(len(names))
    if "throughput" in set(names) - set(done):
        progress.say(_room(experiment, folder))
    for position, name in enumerate(names):
        if name not in done:
            with progress.following(lambda name=name, position=position: (position, _said(folder, name))):
                for answer in map_blocks(
                    Meter,
                    (experiment, mark),
                    [{"measure": name}],
                    actors=1,
                    cpus=experiment.capture.cpus_per_actor,
                    gpus=experiment.capture.gpus_per_actor,
                ):
                    info = BlockInfo.model_validate(answer["block"])
                    done[info.name] = info
        progress.at(position + 1)
    shutil.rmtree(folder.overhead, ignore_errors=True)
    shown = {name: json.loads((folder.metrics / info.file).read_text()) for name, info in done.items()}
    judged = summarise(protocol, shown, stream_seed(experiment.seed, "bootstrap") % 2**32)
    plain = {name: metric.model_dump(mode="json") for name, metric in judged.items()}
    write_json(
        folder.metrics / "metrics.json",
        {"protocol_sha256": protocol.sha256, "criteria": plain, "observations": {}},
    )
    write_json(folder.metrics / "overhead.json", shown)
    blocks = [done[name] for name in names]
    blocks += [describe_file(folder.metrics / name, mark) for name in ("metrics.json", "overhead.json")]
    captured = sum(found["files"]["rows"] for found in shown.values())
    Manifest(
        kind="metrics",
        fingerprint=mark,
        blocks=tuple(blocks),
        provenance={"source_sha256": source_sha256()},
        extra={"captured_tokens": captured},
    ).write(folder.metrics)
    return judged


def summarise(protocol: Protocol, shown: dict[str, Any], seed: int) -> dict[str, Metric]:
    """The criteria from the evidence of each measurement."""
    asked = {row.name for row in protocol.criteria}
    timed, capture = shown["latency"], _capture(shown)
    seconds = {name: np.array(rows) for name, rows in timed["seconds"].items()}
    found: dict[str, Metric] = {}
    if "capture_latency" in asked:
        found["capture_latency"] = metrics.latency(seconds, capture, bootstrap=protocol.bootstrap, seed=seed)
    if "capture_throughput" in asked:
        assert protocol.overhead is not None
        stretch = shown["throughput"]
        found["capture_throughput"] = metrics.throughput(
            np.array(stretch["tokens"]),
            np.array(stretch["seconds"]),
            np.array(stretch["bytes"]),
            protocol.overhead.run_tokens / float(np.median(seconds["forward"])),
            capture,
            bootstrap=protocol.bootstrap,
            seed=seed,
        )
    if "capture_memory" in asked:
        base, hooked = (shown[f"memory-{name}"] for name in ("base", "capture"))
        found["capture_memory"] = metrics.memory(
            np.array(base["peaks"]), np.array(hooked["peaks"]), base["total"], capture
        )
    return {row.name: found[row.name] for row in protocol.criteria}


def _room(experiment: Experiment, folder: RunFolder) -> str:
    """The files that are written without a pause stand on the disk together. BadInput where they do not fit."""
    config, row = experiment.overhead, describe(experiment.model)
    widths = {str(point): width(row, point) for point in experiment.capture.hookpoints}
    files = -(-config.sustained_tokens // config.run_tokens)
    return check_room(folder.overhead, [config.run_tokens] * files, widths, experiment.capture.dtype)


def lines(judged: dict[str, Metric]) -> list[str]:
    """A sentence per criterion, with the readings beside it."""
    found = []
    for name, metric in judged.items():
        said = metric.not_run if metric.value is None else f"{metric.value:.4g} {metric.unit}"
        beside = ", ".join(f"{key} {value:.4g}" for key, value in metric.also.items() if value is not None)
        found.append(f"{name}: {said} ({beside})")
    return found


def _capture(shown: dict[str, Any]) -> Capture:
    """What was captured, with the files of all measurements."""
    facts = {name: value for name, value in shown["latency"].items() if name in Capture._fields}
    for name in ("tokens", "rows", "wrong_documents"):
        facts[name] = sum(found["files"][name] for found in shown.values())
    return Capture(**facts, devices=len({found["device"] for found in shown.values()}))


def _said(folder: RunFolder, name: str) -> str:
    """How far a measurement is."""
    ticks = folder.overhead / name / TICKS
    return f"{name}, run {ticks.stat().st_size}" if ticks.is_file() else name
