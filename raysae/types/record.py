"""One reasoning problem with its chain of thought, and what the ledger keeps of a run."""

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Split(StrEnum):
    """TRAIN trains, FIT chooses, TEST judges; an ordered lock, the last is opened once."""

    TRAIN = "TRAIN"
    FIT = "FIT"
    TEST = "TEST"


class LabelSpan(BaseModel):
    """A ground-truth variable that holds on the characters [start, end) of a record's text."""

    model_config = ConfigDict(frozen=True)

    start: int
    end: int
    variable: str
    """For example `total`, `operation`, `step_type`."""
    value: str


class CorpusRecord(BaseModel):
    """One problem, normalised (DESIGN.md 5). `cot` is null where the source has none; it is never invented."""

    model_config = ConfigDict(frozen=True)

    record_id: str
    """Unique in the corpus: `<dataset>/<native split>/<row>`."""
    question: str
    answer: str
    cot: str | None
    steps: tuple[str, ...]
    source_dataset: str
    split: Split | None
    """The source's own split if it has one, else null until `assign_splits`."""
    licence: str
    text: str
    """The document the model reads: question, chain of thought and answer, joined as the corpus prescribes."""
    step_spans: tuple[tuple[int, int], ...] = ()
    """Characters [start, end) of each step in `text`."""
    labels: tuple[LabelSpan, ...] = ()
    """Known variables on characters of `text`."""
    extras: dict[str, Any] = {}


class LedgerEvent(BaseModel):
    """One line of the ledger beside the decisions: what the registration of a run rests on, when it happened."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["seal", "open", "amend"]
    """A protocol was sealed; TEST was opened under it; it was replaced by another."""
    at: str
    """UTC, ISO 8601."""
    experiment: str
    protocol_sha256: str
    """The protocol in force from here on."""
    facts: dict[str, str] = {}
    """seal: `mode`; open: `test`, what was opened; amend: `old` and `reason`."""


class PhaseLink(BaseModel):
    """What stood for a phase when a later one was started."""

    model_config = ConfigDict(frozen=True)

    phase: int
    experiment: str | None = None
    """Null where the phase was not decided; then the rest is too."""
    outcome: str | None = None
    mode: str | None = None
    decided_at: str | None = None
    """UTC, ISO 8601."""
    protocol_sha256: str | None = None
    decisions: int = 0
    """Of this phase in the ledger by then, this one included."""
    opens: bool = False
    """Whether it opened the gate of the next phase."""


class RunRecord(BaseModel):
    """One line of the ledger: what was run, with what, for how long, and what was decided."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["decision"] = "decision"
    experiment: str
    started_at: str
    """UTC, ISO 8601."""
    decided_at: str | None = None
    """Likewise."""
    fingerprint: str
    config: dict[str, Any]
    seeds: dict[str, int]
    """Every derived seed by the name of its stream."""
    commit: str | None
    """Revision of the code, `+dirty` when the tree was not clean; null outside a checkout."""
    versions: dict[str, str]
    tokens: int
    """Tokens captured, all arms."""
    bytes_written: int
    seconds: dict[str, float]
    """Wall seconds per stage of this invocation; a stage found finished is absent."""
    device: str
    device_hours: float
    protocol_sha256: str
    mode: str
    outcome: str
    criteria: dict[str, str]
    attempt: int
    """How many times this sealed protocol has been decided in this runs folder, this one included."""
    phase: int | None = None
    """Of the phases 1 to 4; a confirmatory GO opens the gate of the next."""
    overrides: tuple[str, ...] = ()
    """Why this phase, or one it stands on, was started without the GO before it."""
    chain: tuple[PhaseLink, ...] = ()
    """The phases it stands on, from the first."""
    notes: tuple[str, ...] = ()
