"""Numbers with their uncertainty, the rows they are judged by, and the judgement."""

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict

Direction = Literal[">=", "<="]


class Outcome(StrEnum):
    """The three answers. A point estimate alone, a missing number or a NaN never yields GO."""

    GO = "GO"
    NO_GO = "NO_GO"
    INCONCLUSIVE = "INCONCLUSIVE"


class Reason(StrEnum):
    """Why a criterion is INCONCLUSIVE (SCIENCE 0.3)."""

    UNDERPOWERED = "UNDERPOWERED"
    GATE_FAILED = "GATE_FAILED"
    VOID = "VOID"
    NOT_RUN = "NOT_RUN"


class NullValue(BaseModel):
    """What a null control scored on the same metric."""

    model_config = ConfigDict(frozen=True)

    mean: float | None
    p95: float | None
    """95th percentile over draws or units; the value itself where there is one draw."""
    interval: tuple[float, float] | None = None
    """One-sided 95 % bounds (a two-sided 90 % interval), used to see whether the null itself attains GO."""
    n: int = 0
    note: str = ""


class Gate(BaseModel):
    """A validity condition; a failed one makes its criterion INCONCLUSIVE(GATE_FAILED) or, for a cap, VOID."""

    model_config = ConfigDict(frozen=True)

    name: str
    passed: bool
    detail: str
    """The number that was held against the limit, in words."""
    failure: Reason = Reason.GATE_FAILED


class Metric(BaseModel):
    """A measured value with its interval and the same number under each null."""

    model_config = ConfigDict(frozen=True)

    name: str
    unit: str
    direction: Direction
    """`>=`: larger is better."""
    value: float | None
    interval: tuple[float, float] | None
    """One-sided 95 % lower and upper bound."""
    n: int
    """Independent units."""
    unit_of_sampling: str
    """`document`, `factor`, `pair` ..."""
    seeds: int
    per_seed: tuple[float, ...] = ()
    nulls: dict[str, NullValue] = {}
    ceiling: float | None = None
    """The best that can be reached: by supervision on the same data, or by a perfect SAE."""
    gates: tuple[Gate, ...] = ()
    also: dict[str, float | None] = {}
    """Rival readings and diagnostics: printed, never used for the verdict."""
    not_run: str | None = None
    """Why there is no value."""


class CriterionVerdict(BaseModel):
    """One row of the verdict table."""

    model_config = ConfigDict(frozen=True)

    outcome: Outcome
    reason_code: Reason | None
    reason: str
    """One sentence for a person."""
    value: float | None
    interval: tuple[float, float] | None
    threshold: float
    direction: Direction
    unit: str
    n: int
    unit_of_sampling: str
    nulls: dict[str, NullValue]
    ceiling: float | None = None
    corrected: float | None = None
    """(value - null) / (ceiling - null), with the mean of the null that comes nearest to the ceiling (SCIENCE 0.5)."""


class Verdict(BaseModel):
    """What `verdict.json` holds."""

    model_config = ConfigDict(frozen=True)

    outcome: Outcome
    protocol_sha256: str
    mode: str
    """`confirmatory` or `exploratory`."""
    remarks: tuple[str, ...]
    """For example that the run is exploratory, or how often this seal was decided before."""
    overrides: tuple[str, ...] = ()
    """Why this phase, or one it stands on, was started without a GO of the phase before."""
    criteria: dict[str, CriterionVerdict]
