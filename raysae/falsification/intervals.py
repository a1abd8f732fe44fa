"""Intervals, tests and power. Every bound is one-sided at `alpha`, given as a (lower, upper) pair (SCIENCE 0.3,
0.4)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

Interval = tuple[float, float]

Weights = Mapping[str, Float[np.ndarray, "b _"]]
"""How often each document of a split is drawn, in each of b resamples."""

_ALL = "all"

_WEIGHTS_AT_ONCE = 4_000_000
"""Bootstrap weights held in memory at the same time."""


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


def smallest_passing_n(threshold: float, failures: int, alpha: float = 0.05) -> int:
    """Fewest units that can show `proportion >= threshold` with that many failures (SCIENCE 0.8)."""
    n = failures + 1
    while clopper_pearson(n - failures, n, alpha)[0] < threshold:
        n += 1
    return n


def proportion_power(threshold: float, n: int, true: float, alpha: float = 0.05) -> float:
    """Exact probability that n units with success rate `true` show `proportion >= threshold` (SCIENCE 0.8)."""
    failures = allowed_failures(threshold, n, alpha) if n else None
    return 0.0 if failures is None else float(stats.binom.cdf(failures, n, 1 - true))


def minimum_detectable(threshold: float, n: int, power: float = 0.8, alpha: float = 0.05) -> float | None:
    """Smallest true rate that n units show to be >= threshold with probability `power`; None if they show none."""
    failures = allowed_failures(threshold, n, alpha) if n else None
    if failures is None:
        return None
    # P(Binomial(n, q) <= f) = power has the closed form of a beta quantile.
    return 1 - float(stats.beta.ppf(1 - power, failures + 1, n - failures))


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
        return Estimate(float("nan"), None, ())
    value = float(off.sum() / (s * (s - 1)))
    per_seed = tuple(map(float, of_seed / (s - 1)))
    if s < 3 or not np.isfinite(value):
        return Estimate(value, None, per_seed)
    without = (off.sum() - 2 * of_seed) / ((s - 1) * (s - 2))
    error = np.sqrt((s - 1) / s * np.square(without - without.mean()).sum())
    half = float(stats.t.ppf(1 - alpha, s - 1) * error)
    return Estimate(value, (value - half, value + half), per_seed)


def wider(a: Interval | None, b: Interval | None) -> Interval | None:
    """Envelope of two intervals: the smaller lower and the larger upper bound; None stands aside."""
    if a is None or b is None:
        return a or b
    return min(a[0], b[0]), max(a[1], b[1])


def ratio_over_documents(
    numerator: Float[np.ndarray, "s d"],
    denominator: Float[np.ndarray, "s d"],
    *,
    bootstrap: int,
    seed: int,
    alpha: float = 0.05,
) -> Estimate:
    """Mean over s seeds of sum(numerator) / sum(denominator) over d documents; interval: the wider of the hierarchical
    bootstrap and the t-interval over seeds (SCIENCE 0.4)."""

    def statistic(weights: Weights) -> Float[np.ndarray, "s b"]:
        drawn = weights[_ALL].T
        with np.errstate(divide="ignore", invalid="ignore"):
            return (numerator @ drawn) / (denominator @ drawn)

    return hierarchical(statistic, {_ALL: numerator.shape[1]}, bootstrap=bootstrap, seed=seed, alpha=alpha)


def quantile_over_documents(
    values: Float[np.ndarray, "s d"], q: float, *, bootstrap: int, seed: int, alpha: float = 0.05
) -> Estimate:
    """Mean over s seeds of the q-quantile over d documents (inverse of the empirical distribution, so a value that
    occurs); interval as in `ratio_over_documents` (SCIENCE S2)."""
    order = np.argsort(values, axis=1, kind="stable")

    def statistic(weights: Weights) -> Float[np.ndarray, "s b"]:
        rows = []
        for seed_values, seed_order in zip(values, order, strict=True):
            mass = np.cumsum(weights[_ALL][:, seed_order], axis=1)
            reached = np.argmax(mass >= q * mass[:, -1:] - 1e-9, axis=1)
            rows.append(seed_values[seed_order[reached]])
        return np.stack(rows)

    return hierarchical(statistic, {_ALL: values.shape[1]}, bootstrap=bootstrap, seed=seed, alpha=alpha)


def hierarchical(
    statistic: Callable[[Weights], Float[np.ndarray, "s b"]],
    documents: Mapping[str, int],
    *,
    bootstrap: int,
    seed: int,
    alpha: float = 0.05,
) -> Estimate:
    """Mean over s seeds of a statistic of document weights; interval: the wider of the hierarchical bootstrap and the
    t-interval over seeds (SCIENCE 0.4).

    `documents` counts them per split: those of one split are resampled together, splits apart from each other. Seeds
    and documents are crossed (every seed reads the same documents), so both are resampled, each once a replicate.
    """
    if min(documents.values(), default=0) == 0:
        return Estimate(float("nan"), None, ())
    per_seed = statistic({split: np.ones((1, count)) for split, count in documents.items()})[:, 0]
    if not np.isfinite(per_seed).all():
        return Estimate(float("nan"), None, tuple(map(float, per_seed)))
    rng = np.random.default_rng(seed)
    replicates = np.empty(bootstrap)
    at_once = max(1, _WEIGHTS_AT_ONCE // sum(documents.values()))
    for start in range(0, bootstrap, at_once):
        size = min(at_once, bootstrap - start)
        by_seed = statistic({split: _multinomial(rng, size, count) for split, count in documents.items()})
        drawn = _multinomial(rng, size, len(by_seed)).T / len(by_seed)
        replicates[start : start + size] = (by_seed * drawn).sum(axis=0)
    # A resample may hold no denominator at all; it says nothing, and a bound through it would be a NaN.
    finite = replicates[np.isfinite(replicates)]
    bounds = tuple(np.quantile(finite, [alpha, 1 - alpha])) if len(finite) else (float("nan"), float("nan"))
    interval = wider((float(bounds[0]), float(bounds[1])), t_interval(per_seed, alpha))
    return Estimate(float(per_seed.mean()), interval, tuple(map(float, per_seed)))


def worst_of(estimates: Sequence[Estimate]) -> tuple[float | None, Interval | None]:
    """The largest value, and (largest lower bound, largest upper bound): below a line only if all are, above it as soon
    as one is. An estimate without an interval leaves the whole without one."""
    intervals = [estimate.interval for estimate in estimates]
    if not intervals or any(interval is None for interval in intervals):
        return None, None
    known = [interval for interval in intervals if interval is not None]
    return max(e.value for e in estimates), (max(lower for lower, _ in known), max(upper for _, upper in known))


def _multinomial(rng: np.random.Generator, size: int, n: int) -> Float[np.ndarray, "size n"]:
    """How often each of n things is drawn in n draws with replacement."""
    drawn = rng.integers(0, n, size=(size, n)) + np.arange(size)[:, None] * n
    return np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)


def permutation_p(observed: Float[np.ndarray, " u"], null: Float[np.ndarray, "u k"]) -> Float[np.ndarray, " u"]:
    """(1 + number of null draws >= observed) / (1 + K): never 0 (SCIENCE 0.6)."""
    return (1.0 + (null >= observed[:, None]).sum(axis=1)) / (1.0 + null.shape[1])


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


def benjamini_hochberg(p: Float[np.ndarray, " u"], q: float = 0.05) -> Bool[np.ndarray, " u"]:
    """Which hypotheses are rejected at false discovery rate q (Benjamini and Hochberg 1995)."""
    return stats.false_discovery_control(p, method="bh") <= q if len(p) else np.zeros(0, dtype=bool)
