"""S3: how far latents repeat one another, in direction and in firing, and what decorrelation does about it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from raysae.falsification.criterion import REDUNDANCY
from raysae.falsification.intervals import Estimate, mean_over_seeds
from raysae.falsification.metrics.codes import LATENTS_AT_ONCE, Code, Sums, pearson, size, sums, together
from raysae.falsification.metrics.dictionaries import largest_cosine, random_rows
from raysae.falsification.metrics.documents import MAIN, as_null
from raysae.falsification.metrics.observation import finite, over_seeds
from raysae.types.metric import Gate, Metric, NullValue, Reason

CORRELATION = 0.8
JACCARD = 0.5
L0_TOLERANCE = 0.05
ALIVE_TOLERANCE = 0.10
FVU_TOLERANCE = 0.01
SOMETHING_TO_REDUCE = 0.01
RANDOM_ROWS = 8192
"""Rows of N1 from which the 95th percentile is taken."""


class Redundancy(NamedTuple):
    """One SAE on TEST."""

    geometric: float
    """R_geo: how far, in the mean over alive latents, the largest |cosine| with another exceeds chance."""
    functional: float
    """R_fun: share of alive latents that another one fires like."""
    alive: int
    l0: float
    fvu: float
    start: str | None
    """Fingerprint of the weights and the batch it began with; None where training left none."""


class Pair(NamedTuple):
    """The same seed without and with the decorrelation term."""

    plain: Redundancy
    decorrelated: Redundancy


def geometric(rows: Float[np.ndarray, "m d"], seed: int) -> float:
    """R_geo of alive unit rows (SCIENCE S3)."""
    excess = largest_cosine(rows) - chance_cosine(len(rows), rows.shape[1], seed)
    return float(np.maximum(excess, 0).mean()) if len(rows) > 1 else 0.0


def chance_cosine(m: int, d: int, seed: int) -> float:
    """q: 95th percentile of the largest |cosine| of a row of N1 with the m - 1 others."""
    rng = np.random.default_rng(seed)
    draws = [largest_cosine(random_rows(m, d, rng), of=RANDOM_ROWS) for _ in range(-(-RANDOM_ROWS // max(m, 1)))]
    return float(np.quantile(np.concatenate(draws), 0.95))


def functional(code: Code) -> float:
    """R_fun: share of alive latents with another at correlation > 0.8 over all tokens and firing Jaccard > 0.5.

    A Jaccard index above 1/2 needs firing rates within a factor of two, so latents are sorted by rate and only
    neighbours are multiplied.
    """
    fired = sums(code).fired
    order = np.argsort(fired, kind="stable")
    code, (n, m) = Code(code[:, order]), size(code)
    of_all = sums(code)
    repeated = np.zeros(m, dtype=bool)
    for start in range(0, m, LATENTS_AT_ONCE):
        stop = min(start + LATENTS_AT_ONCE, m)
        near = slice(start, int(np.searchsorted(of_all.fired, 2 * of_all.fired[stop - 1])))
        if near.stop <= start:  # They never fire.
            continue
        left, right = (Sums(*(column[part] for column in of_all)) for part in (slice(start, stop), near))
        left = Sums(*(column[:, None] for column in left))
        _, products, both = next(together(Code(code[:, start:stop]), Code(code[:, near])))
        jaccard = both / np.maximum(left.fired + right.fired - both, 1)
        alike = (jaccard > JACCARD) & (pearson(products, left, right, n) > CORRELATION)
        np.fill_diagonal(alike, False)
        repeated[start:stop] |= alike.any(axis=1)
        repeated[near] |= alike.any(axis=0)
    return float(repeated.mean()) if m else 0.0


def summarise(arms: Mapping[str, Sequence[Pair]]) -> Metric:
    """rho_geo = 1 - R_geo(beta) / R_geo(0) over seeds, t-interval: a decoder has no documents to resample.

    `random_dictionary` holds pairs of the same plain SAEs with N1 at their size. It has no redundancy beyond chance, so
    its rho is the ceiling and no obstacle: that the term merely unlearnt the data is what the gate on FVU excludes.
    """
    main = arms[MAIN]
    rho = _rho(main, "geometric")
    nulls = {arm: _null(pairs) for arm, pairs in arms.items() if arm != MAIN}
    ceiling = nulls.get("random_dictionary")
    return Metric(
        name="redundancy",
        unit="share of redundancy removed",
        direction=">=",
        value=rho.value if np.isfinite(rho.value) else None,
        interval=rho.interval,
        n=len(main),
        unit_of_sampling="seed",
        seeds=len(main),
        per_seed=rho.per_seed if rho.interval else (),
        nulls=nulls,
        ceiling=ceiling.mean if ceiling else None,
        gates=(*_gates(main), _functional_gate(main, rho)),
        also={
            "rho_functional": finite(_rho(main, "functional").value),
            **{
                f"{name}_{which}": float(np.mean([getattr(getattr(pair, which), field) for pair in main]))
                for which in Pair._fields
                for name, field in (("r_geo", "geometric"), ("r_fun", "functional"), ("fvu", "fvu"), ("l0", "l0"))
            },
        },
        not_run=None if rho.interval else "The reduction is undefined, or there is one seed and so no interval.",
    )


def level(arms: Mapping[str, Sequence[Redundancy]]) -> Metric:
    """An observation, not a criterion: R_geo of the SAEs as they are, beside the nulls; R_fun with it."""
    estimates = {arm: mean_over_seeds(np.array([one.geometric for one in seeds])) for arm, seeds in arms.items()}
    firing = {arm: float(np.mean([one.functional for one in seeds])) for arm, seeds in arms.items()}
    return over_seeds(
        "redundancy_level",
        "excess |cosine|",
        "<=",
        estimates,
        notes={arm: f"R_geo {found.value:.4f}, R_fun {firing[arm]:.4f}" for arm, found in estimates.items()},
        also={"r_fun": firing[MAIN], "alive": float(np.mean([one.alive for one in arms[MAIN]]))},
    )


def _rho(pairs: Sequence[Pair], field: str) -> Estimate:
    before, after = (np.array([getattr(one, field) for one in side]) for side in zip(*pairs, strict=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        return mean_over_seeds(1 - after / before)


def _gates(pairs: Sequence[Pair]) -> tuple[Gate, ...]:
    """The worst seed counts."""
    unknown = sum(None in (pair.plain.start, pair.decorrelated.start) for pair in pairs)
    unpaired = sum(pair.plain.start != pair.decorrelated.start for pair in pairs)
    l0 = max(abs(pair.decorrelated.l0 / max(pair.plain.l0, 1e-12) - 1) for pair in pairs)
    alive = max(abs(pair.decorrelated.alive / max(pair.plain.alive, 1) - 1) for pair in pairs)
    fvu = max(pair.decorrelated.fvu - pair.plain.fvu for pair in pairs)
    least = min(pair.plain.geometric for pair in pairs)
    return (
        Gate(
            name="something to reduce",
            passed=bool(least >= SOMETHING_TO_REDUCE),
            detail=f"smallest R_geo without the term {least:.4f}, needed {SOMETHING_TO_REDUCE}",
            failure=Reason.VOID,
        ),
        Gate(
            name="same start",
            passed=unpaired == unknown == 0,
            detail=f"{unpaired} of {len(pairs)} pairs differ in the weights or the batch they began with"
            + (f", of {unknown} it is not known" if unknown else ""),
        ),
        Gate(name="same L0", passed=bool(l0 <= L0_TOLERANCE), detail=f"L0 differs by {l0:.1%}, at most 5 %"),
        Gate(
            name="same alive",
            passed=bool(alive <= ALIVE_TOLERANCE),
            detail=f"alive differ by {alive:.1%}, at most 10 %",
        ),
        Gate(
            name="FVU kept",
            passed=bool(fvu <= FVU_TOLERANCE),
            detail=f"FVU rises by {fvu:.4f} in a seed, at most {FVU_TOLERANCE}",
        ),
    )


def _functional_gate(pairs: Sequence[Pair], geometric_rho: Estimate) -> Gate:
    """The second condition of a GO. On the difference, which has the sign of rho_fun and exists where R_fun(0) is 0; a
    geometric NO_GO stands without it."""
    difference = mean_over_seeds(np.array([pair.plain.functional - pair.decorrelated.functional for pair in pairs]))
    lower = difference.interval[0] if difference.interval else float("nan")
    missed = geometric_rho.interval is not None and geometric_rho.interval[1] < REDUNDANCY
    return Gate(
        name="functional redundancy falls",
        passed=bool(lower > 0 or missed),
        detail=f"R_fun falls by {difference.value:.4f} (lower bound {lower:.4f}), needed above 0"
        + (" for a GO" if missed else ""),
    )


def _null(pairs: Sequence[Pair]) -> NullValue:
    return as_null(_rho(pairs, "geometric"), len(pairs))
