"""What a report is made from, read from a finished run folder. Reads JSON only; nothing here computes a number."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raysae.errors import BadInput
from raysae.falsification.power import power
from raysae.falsification.protocol import read as read_protocol

Plain = dict[str, Any]
"""A JSON object."""


@dataclass(frozen=True)
class ReportData:
    """Plain JSON values; whatever a run did not make is None or empty and the page says so."""

    folder: str
    """What to type after `raysae verify`: the run folder and the folder that holds it."""
    experiment: Plain
    """`Experiment.model_dump(mode="json")` or its identity."""
    verdict: Plain
    """`Verdict.model_dump(mode="json")`."""
    protocol: Plain
    """The sealed protocol, as registered."""
    power: list[Plain] = field(default_factory=list)
    """What each criterion could show with what was planned: `PowerRow.model_dump(mode="json")`."""
    metrics: Plain = field(default_factory=dict)
    """Criterion -> `Metric.model_dump(mode="json")`."""
    observations: Plain = field(default_factory=dict)
    """What was measured without a threshold, in the same form."""
    histories: dict[tuple[str, str], Plain] = field(default_factory=dict)
    """(arm, seed) -> columns step, loss, fvu, l0, dead_fraction, lr."""
    sweep: Plain | None = None
    """The rule and the trials."""
    contexts: list[Plain] = field(default_factory=list)
    """Best latents with their top activating contexts."""
    causal: Plain | None = None
    """Interchange success per unit, with its nulls."""
    attribution: Plain | None = None
    """Doses, groups of words, and the judged latents of each seed with their curves."""
    hook_sweep: list[Plain] = field(default_factory=list)
    """A row per hook point."""
    transfer_map: list[Plain] = field(default_factory=list)
    """A row per pair of places."""
    step_control: Plain | None = None
    """Rows and the matrix of step type by latent."""
    overhead: Plain | None = None
    """What each measurement of the cost of capture found; null where SAEs were judged."""
    record: Plain | None = None
    """`RunRecord.model_dump(mode="json")`."""
    resources: Plain | None = None
    """What each stage took, and what was planned."""
    corpus: Plain | None = None
    """Records per split, quarantined, tokens."""
    quality: Plain | None = None
    """Figures of the text per corpus, limits, samples."""
    beside: dict[str, tuple[Plain, Plain | None]] = field(default_factory=dict)
    """Folder of a run beside this one -> the keys in which it differs, and its verdict once there is one."""
    arms: tuple[str, ...] = ()
    """`main` and the nulls that were run through the same stages."""


def collect(folder: Path) -> ReportData:
    """Read a run folder. BadInput without a verdict or for a file that is not JSON, Refused for a broken seal."""
    verdict = _read(folder / "verdict.json")
    stored = _read(folder / "experiment.json")
    experiment = stored and {"name": stored["name"], **stored["identity"]}
    if verdict is None or experiment is None:
        missing = "verdict.json" if verdict is None else "experiment.json"
        raise BadInput(
            f"{folder} has no {missing}",
            "a report needs a decided run",
            f"type raysae run or raysae decide for {folder.name}",
        )
    corpus = _read(folder / "corpus" / "manifest.json")
    measured = _read(folder / "metrics" / "metrics.json") or {}
    histories = _histories(folder / "sae")
    sealed = folder / "protocol.json"
    protocol = read_protocol(sealed) if sealed.is_file() else None
    return ReportData(
        folder="/".join(folder.resolve().parts[-2:]),
        experiment=experiment,
        verdict=verdict,
        protocol={} if protocol is None else protocol.model_dump(mode="json"),
        power=[] if protocol is None else [row.model_dump(mode="json") for row in power(protocol)],
        metrics=measured.get("criteria", {}),
        observations=measured.get("observations", {}),
        histories=histories,
        sweep=_read(folder / "sweep" / "sweep.json"),
        contexts=_read(folder / "metrics" / "contexts.json") or [],
        causal=_read(folder / "metrics" / "causal.json"),
        attribution=_read(folder / "metrics" / "attribution.json"),
        hook_sweep=_read(folder / "metrics" / "hook_sweep.json") or [],
        transfer_map=_read(folder / "metrics" / "transfer_map.json") or [],
        step_control=_read(folder / "metrics" / "step_control.json"),
        overhead=_read(folder / "metrics" / "overhead.json"),
        record=_read(folder / "record.json"),
        resources=_read(folder / "resources.json"),
        corpus=(corpus or {}).get("extra"),
        quality=_read(folder / "quality" / "quality.json"),
        beside={
            f"{stored['name']}-{name}": (keys, _read(folder.parent / f"{stored['name']}-{name}" / "verdict.json"))
            for name, keys in stored.get("config", {}).get("beside", {}).items()
        },
        arms=tuple(dict.fromkeys(arm for arm, _ in histories)),
    )


def _histories(folder: Path) -> dict[tuple[str, str], Plain]:
    """Seeds in numeric order, `main` before the nulls."""
    found: dict[tuple[str, str], Plain] = {}
    for path in folder.glob("*/*/history.json"):
        found[path.parent.parent.name, path.parent.name] = _read(path) or {}
    return {key: found[key] for key in sorted(found, key=_main_first)}


def _main_first(key: tuple[str, str]) -> tuple[bool, str, int, str]:
    arm, seed = key
    return arm != "main", arm, int(seed) if seed.isdecimal() else -1, seed


def _read(path: Path) -> Any:
    """None where there is no such file; NaN and infinities become None, so no page can print one."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{path} is not JSON ({error})", "allowed: the file the stage wrote", f"remove {path} and run again"
        ) from error
