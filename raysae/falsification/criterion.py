"""What a criterion is, the numbers that more than one of them shares, and the rule of the sweep (SCIENCE 0.3)."""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict

from raysae.types.metric import Direction

FVU_LIMIT = 0.10
ZERO_FRACTION = 0.90
CE_RECOVERED = 0.90
CE_GAP_NATS = 0.1
F1_RECOVERED = 0.95
ALIGNMENT = 0.95
CORRECTED_J = 0.80
COHERENCE = 0.80
CEILING_J = 0.5
SELECTIVE_SHARE = 0.80
PRECISION = 0.50
"""Where no more latents with an effect are selective than this (lower bound), a GO says so (SCIENCE 4.6)."""
PRECISION_LATENTS, PRECISION_PAIRS = 256, 50
"""Latents of an SAE that are exchanged one by one, at most, and in how many pairs of each variable value."""
REDUNDANCY = 0.50
STABILITY = 0.85
TRANSFER = 0.80
ATTRIBUTION = 0.80
LINEARITY = 0.8
SPECIFICITY = 0.5
LEAKAGE = 0.05
BENEFIT_NEGLIGIBLE = 0.02
"""Guidance that adds no more than this on minimal pairs does nothing worth having (SCIENCE 5.4)."""
MINIMAL_PAIRS = 500
BRITTLENESS = 0.10
LATENCY = 0.50
TOKENS_PER_SECOND = 1000.0
MEMORY = 0.10
DETECTED = 0.5
"""Below this score on clean text there is nothing to lose."""
SEED_SHARE = 0.80
"""A factor or circuit variable counts only if it holds in this share of the seeds (SCIENCE 3.3, 4.6)."""
SEEDS_FOR_GO = 5
SEEDS_FOR_STABILITY = 10
"""Five to select primitives, five others to confirm them (SCIENCE 6.3)."""
SEEDS_FOR_NO_GO = 2
"""One seed shows no spread between trainings, so its interval bounds nothing."""
MATCHED_SETS = 200
PAIRS_PER_VALUE = 200
REPLICATES = 2000
BLOCKS_FOR_GO = 30
PARTS = 10
"""Of the stretch that throughput is measured on: so few that neighbours hardly depend on each other (batch means)."""
SUSTAINED_TOKENS, SUSTAINED_S = 100_000, 60.0
"""Either makes a throughput a sustained one (SCIENCE C2)."""
MEMORY_RUNS = 8
RUNS_FOR_GO = 6
"""The range of so many runs holds their median in all but 2 x 2^-6 of cases."""

SWEEP_RULE = (
    "On FIT alone, of all trials within the L0 cap (of all, where none is) the one with the largest margin: "
    "min((0.10 - FVU) / 0.10, (zero fraction - 0.90) / 0.10), "
    "and for a trial above the cap at most (cap - L0) / cap, which is negative; "
    "ties go to the smaller dictionary, then to the smaller L0. A trial that was stopped early is none of them."
)


class Criterion(BaseModel):
    """One falsifiable claim; the sealed protocol holds the whole row."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    title: str
    """The claim, as a sentence."""
    metric: str
    """Definition and its section of SCIENCE."""
    rivals: tuple[str, ...]
    """Other readings, computed and printed, never used for the verdict."""
    direction: Direction
    threshold: float
    unit: str
    unit_of_sampling: str
    statistic: Literal["mean", "proportion"]
    """A proportion of units has an exact minimum detectable effect; a mean depends on a spread not yet known."""
    minimum_n: int
    """Fewer units than this are never a GO."""
    largest_mde: float | None
    """A confirmatory run must be able to show a true value this close to the threshold with 80 % power (SCIENCE 0.8);
    null where no value is registered."""
    planning_sd: float | None = None
    """Spread between seeds that the power of a mean is planned with; null for a proportion, whose power is exact."""
    voiding_nulls: tuple[str, ...]
    """If one of these attains GO itself, or was not run, the criterion cannot be GO."""
    informational_nulls: tuple[str, ...]
    min_seeds: int
    """0: it is no claim about an SAE, and none is trained for it."""
    gates: tuple[str, ...]
    """Validity conditions, in words; the metric holds their numbers."""
    reads_labels: bool


def l0_cap(d_in: int, synthetic: bool = False, k_true: float | None = None) -> float:
    """Most active latents per token at which reconstruction and sparsity are judged: 1.25 k_true where the true number
    of active factors is known, else 0.10 d_in (SCIENCE S2)."""
    if synthetic and k_true is not None:
        return 1.25 * k_true
    return 0.10 * d_in


def sweep_margin(fvu: float, zero_fraction: float, l0: float, cap: float) -> float:
    """`SWEEP_RULE` as a number: how far inside the thresholds a trial lies on FIT; -inf for a NaN."""
    margin = min((FVU_LIMIT - fvu) / FVU_LIMIT, (zero_fraction - ZERO_FRACTION) / (1 - ZERO_FRACTION))
    if l0 > cap:
        margin = min(margin, (cap - l0) / cap)
    return -math.inf if math.isnan(margin + l0) else margin
