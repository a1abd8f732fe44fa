"""Intervals, tests and power. Every bound is one-sided at `alpha`, given as a (lower, upper) pair (SCIENCE 0.3,
0.4)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import optimize, stats

Interval = tuple[float, float]

_NEARLY_ONE = 1 - 1e-12
"""A correlation of 1 has no place on Fisher's scale."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its interval; `interval` is null only where the value is not a number."""

    value: float
    interval: Interval | None
    per_seed: tuple[float, ...]


def clopper_pearson(successes: int, n: int, alpha: float = 0.05) -> Interval:
    """Exact one-sided bounds of a proportion (Clopper and Pearson 1934). ValueError unless 0 <= successes <= n."""
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"successes={successes} of n={n}; allowed: 0 <= successes <= n with n >= 1")
    lower = 0.0 if successes == 0 else float(stats.beta.ppf(alpha, successes, n - successes + 1))
    upper = 1.0 if successes == n else float(stats.beta.ppf(1 - alpha, successes + 1, n - successes))
    return lower, upper


def allowed_failures(threshold: float, n: int, alpha: float = 0.05) -> int | None:
    """Most failures among n units with which the exact lower bound still reaches `threshold`; None if even 0 do not."""
    if threshold**n > alpha:
        return None
    # The bound reaches the threshold iff P(failures <= f | 1 - threshold) <= alpha; ppf finds where that is crossed.
    crossed = int(stats.binom.ppf(alpha, n, 1 - threshold))
    while crossed >= 0 and clopper_pearson(n - crossed, n, alpha)[0] < threshold:
        crossed -= 1
    return crossed


def minimum_detectable(threshold: float, n: int, power: float = 0.8, alpha: float = 0.05) -> float | None:
    """Smallest true rate that n units show to be >= threshold with probability `power`; None if they show none."""
    failures = allowed_failures(threshold, n, alpha) if n else None
    if failures is None:
        return None
    # P(Binomial(n, q) <= f) = power has the closed form of a beta quantile.
    return 1 - float(stats.beta.ppf(1 - power, failures + 1, n - failures))


def minimum_detectable_mean(
    threshold: float, direction: str, sd: float, seeds: int, power: float = 0.8, alpha: float = 0.05
) -> float | None:
    """The true mean nearest to `threshold` that the t-interval over seeds with a spread of `sd` between them shows to
    lie beyond it with probability `power` (non-central t); None for fewer than two seeds."""
    if seeds < 2:
        return None
    critical = float(stats.t.ppf(1 - alpha, seeds - 1))

    def miss(shift: float) -> float:
        return float(stats.nct.sf(critical, seeds - 1, shift)) - power

    root = optimize.brentq(miss, 0.0, 10.0 * critical + 10.0, full_output=False)
    shift = float(np.asarray(root)) * sd / seeds**0.5
    return threshold + shift if direction == ">=" else threshold - shift


def t_interval(values: Float[np.ndarray, " s"], alpha: float = 0.05) -> Interval | None:
    """Student interval of a mean over independent seeds, df = s - 1; None for one seed (SCIENCE 0.4)."""
    if len(values) < 2:
        return None
    half = float(stats.t.ppf(1 - alpha, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return float(values.mean()) - half, float(values.mean()) + half


def mean_over_seeds(values: Float[np.ndarray, " s"], alpha: float = 0.05) -> Estimate:
    """Mean and t-interval of what has no documents to resample; no interval for one seed or a value that is no
    number."""
    value = float(values.mean()) if len(values) else float("nan")
    return Estimate(value, t_interval(values, alpha) if np.isfinite(value) else None, tuple(map(float, values)))


def fisher_interval(values: Float[np.ndarray, " s"], alpha: float = 0.05) -> Interval | None:
    """Interval of a mean correlation over independent seeds: Student's on Fisher's scale z = artanh r, on which the
    spread does not depend on the level (Fisher 1921). Around the mean itself; None for one seed."""
    z = np.arctanh(np.clip(values, -_NEARLY_ONE, _NEARLY_ONE))
    around = t_interval(z, alpha)
    if around is None:
        return None
    centre = np.arctanh(np.clip(values.mean(), -_NEARLY_ONE, _NEARLY_ONE)) - z.mean()
    return float(np.tanh(around[0] + centre)), float(np.tanh(around[1] + centre))


def jackknife_over_seeds(pairs: Float[np.ndarray, "s s"], alpha: float = 0.05) -> Estimate:
    """Mean over the pairs of s seeds of a symmetric statistic (the diagonal is not read), with a t-interval on the
    delete-one-seed jackknife, df = s - 1.

    s seeds give s(s - 1)/2 pairs but only s independent units, so pairs are never resampled (SCIENCE 0.4). `per_seed`
    is the mean over the pairs a seed is in. No interval for fewer than three seeds.
    """
    s = len(pairs)
    off = np.where(np.eye(s, dtype=bool), 0.0, pairs)
    of_seed = off.sum(axis=1)
    if s < 2:
        return Estimate(float("nan"), None, (float("nan"),) * s)
    value = float(off.sum() / (s * (s - 1)))
    per_seed = tuple(map(float, of_seed / (s - 1)))
    if s < 3 or not np.isfinite(value):
        return Estimate(value, None, per_seed)
    without = (off.sum() - 2 * of_seed) / ((s - 1) * (s - 2))
    error = np.sqrt((s - 1) / s * np.square(without - without.mean()).sum())
    half = float(stats.t.ppf(1 - alpha, s - 1) * error)
    return Estimate(value, (value - half, value + half), per_seed)


def in_quadrature(value: float, first: Interval | None, second: Interval | None) -> Interval | None:
    """Interval of a value with two independent sources of error, from its interval under each alone: their distances
    from the value are added as squares (Zou and Donner 2008). Never narrower than either; None stands aside."""
    if first is None or second is None:
        return first or second
    lower, upper = (float(np.hypot(value - a, value - b)) for a, b in zip(first, second, strict=True))
    return value - lower, value + upper


def share_over_seeds(counts: Sequence[tuple[int, int]]) -> Estimate:
    """Mean over seeds of a share, from (successes, of how many) of each.

    Interval: the exact ones, averaged, and the t-interval over seeds in quadrature, within 0 and 1.
    """
    shares = np.array([count / n for count, n in counts])
    lower, upper = np.mean([clopper_pearson(count, n) for count, n in counts], axis=0)
    value = float(shares.mean())
    wide = in_quadrature(value, (float(lower), float(upper)), t_interval(shares))
    return Estimate(value, (max(wide[0], 0.0), min(wide[1], 1.0)) if wide else None, tuple(shares.tolist()))


def quantile_over_documents(values: Float[np.ndarray, "s d"], q: float, *, alpha: float = 0.05) -> Estimate:
    """Mean over s seeds of the q-quantile over d documents (inverse of the empirical distribution, so a value that
    occurs) of a share between 0 and 1.

    Interval: the exact one of order statistics, which assumes nothing of the distribution (Conover 1999, 3.2), averaged
    over seeds, and the t-interval over seeds in quadrature. Too few documents bound nothing: then 0 or 1 is the bound.
    """
    n = values.shape[1]
    if n == 0 or not np.isfinite(values).all():
        return Estimate(float("nan"), None, ())
    ordered = np.sort(values, axis=1)
    # Of n documents, a Binomial(n, q) number lies at or below the true quantile.
    below = stats.binom.cdf(np.arange(n), n, q)
    first, last = int((below <= alpha).sum()), int((below < 1 - alpha).sum())
    per_seed = ordered[:, int(np.argmax(np.arange(1, n + 1) >= q * n - 1e-9))]
    lower = float(ordered[:, first - 1].mean()) if first else 0.0
    upper = float(ordered[:, last].mean()) if last < n else 1.0
    value = float(per_seed.mean())
    wide = in_quadrature(value, (lower, upper), t_interval(per_seed, alpha))
    interval = (max(wide[0], 0.0), min(wide[1], 1.0)) if wide else None
    return Estimate(value, interval, tuple(map(float, per_seed)))


def worst_of(estimates: Sequence[Estimate]) -> tuple[float | None, Interval | None]:
    """The largest value, and (largest lower bound, largest upper bound): below a line only if all are, above it as soon
    as one is. An estimate without an interval leaves the whole without one."""
    intervals = [estimate.interval for estimate in estimates]
    if not intervals or any(interval is None for interval in intervals):
        return None, None
    known = [interval for interval in intervals if interval is not None]
    return max(e.value for e in estimates), (max(lower for lower, _ in known), max(upper for _, upper in known))


def permutation_p(
    observed: Float[np.ndarray, " u"],
    null: Float[np.ndarray, "u k"],
    distinct: Int[np.ndarray, " u"] | None = None,
) -> Float[np.ndarray, " u"]:
    """(1 + number of null draws >= observed) / (1 + K): never 0 (SCIENCE 0.6).

    `distinct`: how many of the K are different ones, where there were few to draw from. They say as much as so many
    draws, however often each was taken.
    """
    draws = null.shape[1] if distinct is None else distinct
    return (1.0 + draws * (null >= observed[:, None]).mean(axis=1)) / (1.0 + draws)


def pooled_p(
    observed: Float[np.ndarray, " u"], null: Float[np.ndarray, "k u"], stratum: Int[np.ndarray, " u"]
) -> Float[np.ndarray, " u"]:
    """`permutation_p` against the null draws of every hypothesis in the same stratum (SCIENCE 0.6).

    Exchangeable within a stratum is what the statistic must be under the null: standardise it, and form the strata from
    what shapes its null distribution. Then K draws give a smallest p of 1 / (1 + K x size of the stratum).
    """
    p = np.ones(len(observed))
    for one in np.unique(stratum):
        at = np.flatnonzero(stratum == one)
        pool = np.sort(null[:, at], axis=None)
        p[at] = (1.0 + len(pool) - np.searchsorted(pool, observed[at], side="left")) / (1.0 + len(pool))
    return p


def sequential_p(exceeds: Bool[np.ndarray, " k"], enough: int, draws: int) -> float:
    """Monte-Carlo p-value of draws that stop at the `enough`-th one to reach the observed value (Besag and Clifford
    1991), in the order drawn; `exceeds` may be cut anywhere behind it, else it holds all `draws`. Never 0."""
    at = np.flatnonzero(exceeds)
    if len(at) >= enough:
        return enough / (int(at[enough - 1]) + 1)
    return (1 + len(at)) / (1 + draws)


class Sweep(NamedTuple):
    """Statistics of all cells of a sweep under one band."""

    statistic: Float[np.ndarray, " c"]
    """Mean over its standard error, by cell; 0 where nothing varies."""
    band: float
    """What the largest statistic of the whole sweep exceeds with probability alpha where no cell has an effect."""
    p: Float[np.ndarray, " c"]
    """Of each cell, corrected for the sweep."""


def max_statistic_band(differences: Float[np.ndarray, "c n"], draws: int, seed: int, alpha: float = 0.05) -> Sweep:
    """Paired differences of c cells over the same n independent units, all cells tested at once (Westfall and Young
    1993; SCIENCE 0.6).

    Under the null hypothesis a unit's difference is as likely to have the other sign; a unit's sign is drawn once for
    all cells, so however the cells depend on each other is kept. ValueError for fewer than two units.
    """
    n = differences.shape[1]
    if n < 2:
        raise ValueError(f"{n} units; allowed: at least two")
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(draws, n))
    # Flipping signs leaves the squares as they are, so a cell's statistic depends on its flipped mean alone.
    square = (differences**2).mean(axis=1)

    def statistic(mean: Float[np.ndarray, "b c"]) -> Float[np.ndarray, "b c"]:
        error = np.sqrt(np.maximum(square - mean**2, 0) / (n - 1))
        return np.divide(mean, error, out=np.zeros_like(mean), where=error > 0)

    largest = statistic(signs @ differences.T / n).max(axis=1)
    found = statistic(differences.mean(axis=1)[None])[0]
    p = (1 + (largest[:, None] >= found).sum(axis=0)) / (1 + draws)
    return Sweep(found, float(np.quantile(largest, 1 - alpha, method="higher")), p)


def draws_needed(hypotheses: int, discoveries: int, q: float = 0.05) -> int:
    """Null draws K per hypothesis, so that the smallest p, 1 / (1 + K), survives Benjamini-Hochberg among `hypotheses`
    when there are that many discoveries (SCIENCE 0.6)."""
    return math.ceil(hypotheses / (q * discoveries)) - 1


def benjamini_hochberg(p: Float[np.ndarray, " u"], q: float = 0.05) -> Bool[np.ndarray, " u"]:
    """Which hypotheses are rejected at false discovery rate q (Benjamini and Hochberg 1995)."""
    return stats.false_discovery_control(p, method="bh") <= q if len(p) else np.zeros(0, dtype=bool)
