"""Whole dictionaries across seeds (SCIENCE 6.1, 6.2): does another training find the same latents?"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from raysae.falsification.intervals import Estimate, jackknife_over_seeds
from raysae.falsification.metrics.codes import correlation_where_either_fires
from raysae.falsification.metrics.dictionaries import Dictionary, Origin, match, match_rows, random_rows
from raysae.falsification.metrics.documents import MAIN
from raysae.falsification.metrics.observation import finite, over_seeds
from raysae.types.metric import Gate, Metric, Reason

SAME_DIRECTION = 0.7
FIXED_POINTS = 6
"""Latents matched to the one of their own number: in independent runs about Poisson(1), so more than 6 in 1 of 10,000
pairs."""
FIXED_SHARE = 0.05


class Compared(NamedTuple):
    """Two dictionaries. An alive latent without a partner on the other side counts as cosine or correlation 0."""

    cosine: float
    """PW-MCC: mean cosine of the one-to-one matched decoder rows."""
    same: float
    """Share of latents matched at a cosine above 0.7."""
    energy: float
    """The same mean, weighted by each latent's part of the reconstruction energy."""
    activation: float
    """Mean correlation of latents matched by their correlation, over TEST tokens where either fires. A negative one, as
    two latents have that fire on different tokens, counts as no partner does."""
    fixed: int
    """Matched latents that bear the same number in both SAEs."""
    start: float
    """PW-MCC of the decoders before training; NaN where they are not at hand."""
    random: float
    """PW-MCC of random rows of the shape of `start`."""


class Pairwise(NamedTuple):
    """All pairs of the seeds of one arm."""

    seeds: int
    compared: dict[tuple[int, int], Compared]

    def matrix(self, field: str) -> Float[np.ndarray, "s s"]:
        found = np.zeros((self.seeds, self.seeds))
        for (i, j), pair in self.compared.items():
            found[i, j] = found[j, i] = getattr(pair, field)
        return found


def compare(a: Dictionary, b: Dictionary) -> Compared:
    """One-to-one matching of two dictionaries by direction, and again by firing."""
    more = max(len(a.rows), len(b.rows), 1)
    by_direction = match_rows(a.rows, b.rows)
    by_firing = match(np.maximum(correlation_where_either_fires(a.code, b.code), 0))
    start, random = float("nan"), float("nan")
    if a.start is not None and b.start is not None:
        start, random = pw_mcc(a.start, b.start), _random_pw_mcc(a.start, b.start)
    return Compared(
        cosine=float(by_direction.score.sum()) / more,
        same=float((by_direction.score > SAME_DIRECTION).sum()) / more,
        energy=(_weighted(a, by_direction.a, by_direction.score) + _weighted(b, by_direction.b, by_direction.score))
        / 2,
        activation=float(by_firing.score.sum()) / more,
        fixed=int((a.number[by_direction.a] == b.number[by_direction.b]).sum()),
        start=start,
        random=random,
    )


def compare_all(seeds: Sequence[Dictionary]) -> Pairwise:
    return Pairwise(len(seeds), {(i, j): compare(seeds[i], seeds[j]) for i, j in combinations(range(len(seeds)), 2)})


def pw_mcc(a: Float[np.ndarray, "a d"], b: Float[np.ndarray, "b d"]) -> float:
    """Mean cosine of one-to-one matched unit rows, over the larger of the two sets. Random rows reach 0.33 at d = 64
    and m = 4d (SCIENCE 6.2), so it is never read without its null."""
    return float(match_rows(a, b).score.sum()) / max(len(a), len(b), 1)


def independent(seeds: Sequence[Dictionary], pairs: Pairwise) -> tuple[Gate, ...]:
    """Whether the runs were independent (SCIENCE 6.1). A shared initialisation is VOID, whichever way it shows:

    the fingerprints that training left say so; latents match those of their own number, which only a common start
    explains; or the decoders before training (or early in it) are closer than half-way from chance to identity, which
    holds under a permutation too. A shared order or shard is GATE_FAILED: the runs are then less independent than
    claimed. So is what is not known.
    """
    columns = {name: [getattr(one.origin, name) for one in seeds] for name in Origin._fields}
    known = {name: [one for one in column if one is not None] for name, column in columns.items()}
    shared = {name: len(column) - len(set(column)) for name, column in known.items()}
    said = {
        name: f", of {len(seeds) - len(column)} it is not known" if len(column) < len(seeds) else ""
        for name, column in known.items()
    }
    n = {pair: min(len(seeds[pair[0]].rows), len(seeds[pair[1]].rows)) for pair in pairs.compared}
    fixed = max(pairs.compared.items(), key=lambda item: item[1].fixed / max(n[item[0]], 1), default=None)
    count, of = (fixed[1].fixed, n[fixed[0]]) if fixed else (0, 0)
    gates = [
        Gate(
            name="own initialisation",
            passed=shared["init"] == 0 and not said["init"],
            detail=f"{shared['init']} of {len(seeds)} seeds repeat the initialisation of another{said['init']}",
            failure=Reason.VOID if shared["init"] else Reason.GATE_FAILED,
        ),
        Gate(
            name="own numbering",
            passed=count <= max(FIXED_POINTS, FIXED_SHARE * of),
            detail=f"in one pair {count} of {of} latents match the one of their own number, chance is about 1",
            failure=Reason.VOID,
        ),
        Gate(
            name="own data",
            passed=shared["order"] == shared["shard"] == 0 and not said["order"] + said["shard"],
            detail=f"{shared['order']} of {len(seeds)} seeds repeat a data order{said['order']}, {shared['shard']} a "
            f"document shard{said['shard']}",
        ),
    ]
    begun = [pair for pair in pairs.compared.values() if np.isfinite(pair.start)]
    if len(begun) < len(pairs.compared):
        gates.append(
            Gate(
                name="own start",
                passed=False,
                detail=f"of {len(pairs.compared) - len(begun)} pairs the decoders before training are not at hand",
            )
        )
    elif begun:
        closest = max(begun, key=lambda pair: pair.start - (1 + pair.random) / 2)
        gates.append(
            Gate(
                name="own start",
                passed=closest.start < (1 + closest.random) / 2,
                detail=f"PW-MCC at the start {closest.start:.3f} in a pair, chance {closest.random:.3f}",
                failure=Reason.VOID,
            )
        )
    return tuple(gates)


def summarise(arms: Mapping[str, Pairwise], gates: tuple[Gate, ...] = ()) -> Metric:
    """PW-MCC over seed pairs, an observation (ALT-a of SCIENCE 6.3), beside the nulls and corrected for each of them:
    (theta - null) / (1 - null)."""
    main = {field: _over_pairs(arms[MAIN], field) for field in ("cosine", "same", "energy", "activation")}
    notes: dict[str, str] = {}
    corrected: dict[str, float | None] = {}
    for arm, pairs in arms.items():
        if arm != MAIN:
            null = {field: _over_pairs(pairs, field).value for field in main}
            notes[arm] = ", ".join(f"{field} {value:.3f}" for field, value in null.items())
            corrected |= {
                f"{field}_above_{arm}": finite((main[field].value - null[field]) / max(1 - null[field], 1e-12))
                for field in ("cosine", "activation")
            }
    return over_seeds(
        "pw_mcc",
        "cosine",
        ">=",
        {arm: _over_pairs(pairs, "cosine") for arm, pairs in arms.items()},
        notes=notes,
        ceiling=1.0,
        gates=gates,
        also={
            "share_above_0.7": finite(main["same"].value),
            "pw_mcc_energy": finite(main["energy"].value),
            "pw_mcc_activation": finite(main["activation"].value),
            **corrected,
        },
    )


def _over_pairs(pairs: Pairwise, field: str) -> Estimate:
    return jackknife_over_seeds(pairs.matrix(field))


def _weighted(side: Dictionary, matched: np.ndarray, score: np.ndarray) -> float:
    energy = side.energy
    return float((energy[matched] * score).sum() / max(energy.sum(), np.finfo(float).tiny))


def _random_pw_mcc(a: np.ndarray, b: np.ndarray) -> float:
    rng = np.random.default_rng(0)
    return pw_mcc(random_rows(len(a), a.shape[1], rng), random_rows(len(b), b.shape[1], rng))
