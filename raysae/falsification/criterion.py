"""The criteria, one row each: what is measured, the line it must cross, and the nulls that void it (SCIENCE 0.3)."""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict

from raysae.errors import BadInput
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
SEED_SHARE = 0.80
"""A factor or circuit variable counts only if it holds in this share of the seeds (SCIENCE 3.3, 4.6)."""
SEEDS_FOR_GO = 5
SEEDS_FOR_NO_GO = 2
"""One seed shows no spread between trainings, so its interval bounds nothing."""
MATCHED_SETS = 200
PAIRS_PER_VALUE = 200
REPLICATES = 2000

SWEEP_RULE = (
    "On FIT alone, of all trials the one with the largest margin: "
    "min((0.10 - FVU) / 0.10, (zero fraction - 0.90) / 0.10), "
    "and for a trial above the L0 cap at most (cap - L0) / cap, which is negative; "
    "ties go to the smaller dictionary, then to the smaller L0."
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
    """A confirmatory run must be able to show a true rate this high with 80 % power (SCIENCE 0.8); null for a mean."""
    voiding_nulls: tuple[str, ...]
    """If one of these attains GO itself, or was not run, the criterion cannot be GO."""
    informational_nulls: tuple[str, ...]
    min_seeds: int
    gates: tuple[str, ...]
    """Validity conditions, in words; the metric holds their numbers."""
    reads_labels: bool


_ROWS = (
    Criterion(
        name="reconstruction",
        title="The SAE leaves less than 10 % of the activations' variance unexplained.",
        metric="FVU = sum ||x - x_hat||^2 / sum ||x - mu_TRAIN||^2 over TEST tokens (SCIENCE S1). "
        "A fidelity gate, never evidence of interpretability.",
        rivals=("fvu_zero: error over sum ||x||^2", "cosine", "shrinkage: mean ||x_hat|| / ||x||", "l0"),
        direction="<=",
        threshold=FVU_LIMIT,
        unit="fraction of variance",
        unit_of_sampling="document",
        statistic="mean",
        minimum_n=59,
        largest_mde=None,
        voiding_nulls=("random_dictionary",),
        informational_nulls=("random_model",),
        min_seeds=SEEDS_FOR_GO,
        gates=("L0 at most the registered cap, else VOID (SCIENCE S2)",),
        reads_labels=False,
    ),
    Criterion(
        name="sparsity",
        title="In nearly every document more than 90 % of the alive latents are zero.",
        metric="5th percentile over TEST documents of the mean over tokens of the fraction of alive latents "
        "equal to zero (SCIENCE S2). A constraint, not evidence of monosemanticity.",
        rivals=("zero_fraction_all: over all latents", "l0", "dead_fraction"),
        direction=">=",
        threshold=ZERO_FRACTION,
        unit="fraction of alive latents",
        unit_of_sampling="document",
        statistic="mean",
        minimum_n=59,  # 1 - 0.95^59 >= 0.95: with fewer, no document need lie below the true 5th percentile.
        largest_mde=None,
        voiding_nulls=(),
        informational_nulls=("random_model",),
        min_seeds=SEEDS_FOR_GO,
        gates=("L0 at most the registered cap, else VOID (SCIENCE S2)",),
        reads_labels=False,
    ),
    Criterion(
        name="fidelity",
        title="The model predicts nearly as well from reconstructed activations as from its own.",
        metric="CE recovered = (CE_ablated - CE_sae) / (CE_ablated - CE_clean), mean ablation, TEST documents "
        "(SCIENCE S1 defines it; the threshold is a choice of this project).",
        rivals=(
            "ce_recovered_zero: with zero ablation, which inflates it",
            "delta_ce, nats per token",
            "kl, nats per token",
        ),
        direction=">=",
        threshold=CE_RECOVERED,
        unit="fraction of cross-entropy",
        unit_of_sampling="document",
        statistic="mean",
        minimum_n=59,
        largest_mde=None,
        voiding_nulls=("random_dictionary",),
        informational_nulls=("random_model",),
        min_seeds=SEEDS_FOR_GO,
        gates=(
            f"lower bound of CE_ablated - CE_clean at least {CE_GAP_NATS} nats per token, else the ratio is undefined",
        ),
        reads_labels=False,
    ),
    Criterion(
        name="alignment",
        title="Nearly every registered factor has a latent of its own.",
        metric="Share of registered factors whose one-to-one matched latent (Hungarian on FIT F1, threshold set "
        f"on FIT) has TEST F1 >= {F1_RECOVERED} in at least {SEED_SHARE:.0%} of seeds (SCIENCE 3.3).",
        rivals=(
            "mean_f1",
            "max_f1_share: without one-to-one, which permits duplicates",
            "coverage: share with some latent at F1 >= 0.9",
        ),
        direction=">=",
        threshold=ALIGNMENT,
        unit="share of factors",
        unit_of_sampling="factor",
        statistic="proportion",
        minimum_n=59,
        largest_mde=0.995,
        voiding_nulls=("random_dictionary", "permuted_labels", "random_model"),
        informational_nulls=(),
        min_seeds=SEEDS_FOR_GO,
        gates=("the denominator is the number of registered factors",),
        reads_labels=True,
    ),
    Criterion(
        name="causal_interchange",
        title="Exchanging the latents of one variable between two texts changes what it should, and nothing else.",
        metric=f"CFC: share of registered variable values with null-corrected joint success >= {CORRECTED_J}, "
        f"significant against matched latents (Benjamini-Hochberg), in at least {SEED_SHARE:.0%} of seeds "
        f"(SCIENCE 4.3-4.6). A value whose supervised ceiling is below J = {CEILING_J} or not above the matched "
        "latents cannot be tested and counts as not coherent.",
        rivals=("mean_j: mean joint success over units",),
        direction=">=",
        threshold=COHERENCE,
        unit="share of variable values",
        unit_of_sampling="variable value",
        statistic="proportion",
        minimum_n=14,
        largest_mde=0.95,
        voiding_nulls=("random_model", "permuted_labels", "matched_latents", "random_direction"),
        informational_nulls=(),
        min_seeds=SEEDS_FOR_GO,
        gates=(
            "the denominator is the number of registered variable values",
            "every value has the registered number of pairs",
        ),
        reads_labels=True,
    ),
)

CRITERIA: dict[str, Criterion] = {row.name: row for row in _ROWS}


def choose_criteria(names: tuple[str, ...]) -> tuple[Criterion, ...]:
    """The rows called `names`; BadInput for an unknown or repeated one, or none."""
    for name in names:
        if name not in CRITERIA:
            raise BadInput(
                f"protocol.criteria holds {name!r}", f"allowed: {', '.join(CRITERIA)}", "correct the name or remove it"
            )
    if not names or len(set(names)) != len(names):
        raise BadInput(
            f"protocol.criteria={list(names)}",
            "allowed: at least one, each once",
            "type protocol.criteria=[reconstruction]",
        )
    return tuple(CRITERIA[name] for name in names)


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
