"""What a sweep compares: trials by their margins on FIT, the front that no trial beats, and the sealed choice."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from raysae.falsification.criterion import F1_RECOVERED, FVU_LIMIT, ZERO_FRACTION


class Tried(NamedTuple):
    """One finished trial on FIT."""

    margin: float
    """`SWEEP_RULE` as a number."""
    expansion: int
    l0: float
    margins: dict[str, float]
    """By criterion; the same criteria in every trial."""


def margins(fvu: float, zero_fraction: float, r_geo: float, f1: float | None) -> dict[str, float]:
    """How far an SAE lies inside each threshold; more is better.

    `f1` is the mean over the registered factors, None where there are none. Redundancy has a threshold only for two
    SAEs, so there it is the excess cosine R_geo (SCIENCE S3) with its sign turned.
    """
    found = {
        "reconstruction": (FVU_LIMIT - fvu) / FVU_LIMIT,
        "sparsity": (zero_fraction - ZERO_FRACTION) / (1 - ZERO_FRACTION),
        "redundancy": -r_geo,
    }
    return found if f1 is None else {**found, "alignment": f1 - F1_RECOVERED}


def non_dominated(values: Float[np.ndarray, "n m"]) -> Bool[np.ndarray, " n"]:
    """Rows that no other row beats: at least as large in every column and larger in one. Equal rows stay together."""
    at_least = (values[:, None] >= values[None]).all(axis=2)
    larger = (values[:, None] > values[None]).any(axis=2)
    return np.asarray(~(at_least & larger).any(axis=0))


def front(trials: Sequence[Tried], cap: float) -> list[bool]:
    """Of each trial, whether it is of the Pareto front of those that may be chosen."""
    allowed = _allowed(trials, cap)
    values = np.array([list(trials[i].margins.values()) for i in allowed], dtype=np.float64)
    kept = {i for i, best in zip(allowed, non_dominated(values), strict=True) if best}
    return [i in kept for i in range(len(trials))]


def choose(trials: Sequence[Tried], cap: float) -> int:
    """Place of the trial that `SWEEP_RULE` picks."""
    return min(_allowed(trials, cap), key=lambda i: (-trials[i].margin, trials[i].expansion, trials[i].l0))


def _allowed(trials: Sequence[Tried], cap: float) -> list[int]:
    within = [i for i, trial in enumerate(trials) if trial.l0 <= cap]
    return within or list(range(len(trials)))
