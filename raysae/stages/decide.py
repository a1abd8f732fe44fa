"""Metrics and the sealed protocol -> `verdict.json`, a line in the ledger, `record.json`. Arithmetic only, no Ray."""

import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from raysae.falsification.protocol import Protocol, read, source_sha256
from raysae.falsification.verdict import decide as judge
from raysae.stages import draw
from raysae.stages.provenance import commit, device, versions
from raysae.stages.registration import breaches, check_content
from raysae.stages.seal import power_lines
from raysae.stages.spent import seconds
from raysae.store import Manifest, RunFolder, TokenStore, write_atomic, write_json
from raysae.store.order import QUARANTINED
from raysae.types import Experiment, Metric, RunRecord, Verdict
from raysae.types.experiment import stream_seed

STREAMS = ("world", "quality", "interchange", "bootstrap", "nulls", "sweep/grid", "sweep/search", draw.STREAM)
"""Named streams that are the experiment's own; each SAE has `sae/<seed>/init` and `sae/<seed>/order` beside them."""


def decide(experiment: Experiment, folder: RunFolder) -> Verdict:
    """Judge once and record it; the record is written after the ledger, so that a kill between the two is seen."""
    protocol = read(folder.protocol)
    check_content(experiment, folder, protocol)
    metrics = json.loads((folder.metrics / "metrics.json").read_text())["criteria"]
    found = {name: Metric.model_validate(value) for name, value in metrics.items()}
    attempt = folder.ledger.attempts(protocol.sha256) + 1
    verdict = judge(
        protocol,
        found,
        sealed_sha256=protocol.sha256,
        source_sha256=source_sha256(),
        remarks=_remarks(protocol, attempt) + _quarantined(folder),
        breaches=breaches(experiment, folder, protocol),
    )
    write_atomic(folder.verdict, (verdict.model_dump_json(indent=1) + "\n").encode())
    record = _record(experiment, folder, protocol, verdict, attempt)
    folder.ledger.append(record)
    write_json(folder.record, record.model_dump(mode="json"))
    return verdict


def _remarks(protocol: Protocol, attempt: int) -> list[str]:
    remarks = []
    if protocol.mode == "exploratory":
        remarks.append("Exploratory run: small, and registered as such.")
    if protocol.stand_in:
        remarks.append(f"The null {protocol.stand_in} stands in the real arm's place: this must not end in GO.")
    remarks += [f"Power: {line}" for line in power_lines(protocol)]
    if attempt > 1:
        remarks.append(f"This protocol was decided {attempt} times in this runs folder.")
    return remarks


def _quarantined(folder: RunFolder) -> list[str]:
    """A line per arm and split with documents that capture left out."""
    counts: Counter[tuple[str, str]] = Counter()
    for path in sorted(folder.activations.glob("*/manifest.json")):
        for block in Manifest.read(path.parent).blocks:
            counts[path.parent.name, block.facts["split"]] += len(block.facts.get(QUARANTINED, ()))
    return [
        f"Left out of {split} ({arm}): {count} documents with an activation that could not be stored."
        for (arm, split), count in sorted(counts.items())
        if count
    ]


def _record(experiment: Experiment, folder: RunFolder, protocol: Protocol, verdict: Verdict, attempt: int) -> RunRecord:
    taken = seconds(folder)
    manifests = [Manifest.read(path.parent) for path in sorted(folder.root.rglob("manifest.json"))]
    name, count = device()
    tokens = TokenStore(folder.tokens)
    source = tokens.manifest.extra.get("source", "tokens of text")
    seeds: dict[str, Any] = {"experiment": experiment.seed, "model": experiment.model.seed}
    seeds |= {stream: stream_seed(experiment.seed, stream) for stream in STREAMS}
    for number in protocol.seeds:
        seeds |= {
            f"sae/{number}/{use}": stream_seed(experiment.seed, f"sae/{number}/{use}") for use in ("init", "order")
        }
    return RunRecord(
        experiment=experiment.name,
        decided_at=datetime.now(UTC).isoformat(timespec="seconds"),
        started_at=datetime.fromtimestamp(folder.experiment.stat().st_mtime, UTC).isoformat(),
        fingerprint=json.loads(folder.experiment.read_text())["fingerprint"],
        config=experiment.model_dump(mode="json"),
        seeds=seeds,
        commit=commit(),
        versions=versions(),
        tokens=sum(
            manifest.rows if manifest.kind == "activations" else manifest.extra.get("captured_tokens", 0)
            for manifest in manifests
        ),
        bytes_written=sum(manifest.bytes for manifest in manifests),
        seconds=taken,
        device=f"{count} x {name}",
        device_hours=round(count * sum(taken.values()) / 3600, 6),
        protocol_sha256=protocol.sha256,
        mode=verdict.mode,
        outcome=str(verdict.outcome),
        criteria={key: str(row.outcome) for key, row in verdict.criteria.items()},
        attempt=attempt,
        phase=protocol.phase,
        overrides=protocol.overrides,
        chain=protocol.chain,
        notes=(f"{tokens.tokens} {source}",),
    )
