"""Do latents form groups, and the same groups in every seed? k-means and HDBSCAN on decoder rows (SCIENCE 7)."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

from raysae.falsification.intervals import jackknife_over_seeds
from raysae.falsification.metrics.dictionaries import match_rows, unit
from raysae.falsification.metrics.documents import MAIN
from raysae.falsification.metrics.observation import finite, over_seeds
from raysae.types.metric import Metric

CLUSTERS = (1, 2, 4, 8, 16, 32)
"""Numbers of clusters the gap statistic chooses from."""
REFERENCES = 10
SMALLEST = 5
"""Fewest latents HDBSCAN calls a cluster."""

Rows = Float[np.ndarray, "_ d"]


class Groups(NamedTuple):
    """Clusters of one dictionary."""

    rows: Rows
    by_centre: dict[int, Int[np.ndarray, " m"]]
    """k-means, for each number of clusters."""
    by_density: Int[np.ndarray, " m"]
    """HDBSCAN; -1 where it calls a latent noise."""


class Agreement(NamedTuple):
    """Adjusted Rand indices between the seeds of one arm, over latents matched one to one."""

    by_centre: dict[int, Float[np.ndarray, "s s"]]
    by_density: Float[np.ndarray, "s s"]
    """Over pairs that are noise on neither side."""
    clusters: tuple[int, ...]
    """How many HDBSCAN found, per seed."""
    noise: tuple[float, ...]
    """Share of latents it calls noise, per seed."""


def gap_statistic(rows: Float[np.ndarray, "m d"], seed: int) -> int:
    """The smallest number of clusters whose gap is within one standard error of the largest (Tibshirani et al. 2001).
    The largest, not the next: with these references two halves of four clusters look worse than no cluster at all.

    References are unit rows of a Gaussian with the mean and covariance of these (as N4): what has this shape, and no
    groups.
    """
    rng = np.random.default_rng(seed)
    mean, covariance = rows.mean(axis=0), np.cov(rows, rowvar=False)
    tried = [k for k in CLUSTERS if k < len(rows)] or [1]
    real = np.array([_log_within(rows, k, seed) for k in tried])
    references = [
        unit(rng.multivariate_normal(mean, covariance, size=len(rows), method="eigh")) for _ in range(REFERENCES)
    ]
    null = np.array([[_log_within(reference, k, seed) for k in tried] for reference in references])
    gap, error = null.mean(axis=0) - real, null.std(axis=0) * np.sqrt(1 + 1 / REFERENCES)
    best = int(gap.argmax())
    return tried[int(np.argmax(gap >= gap[best] - error[best]))]


def group(rows: Float[np.ndarray, "m d"], seed: int) -> Groups:
    """Both clusterings of alive unit rows."""
    m = len(rows)
    by_centre = {k: _k_means(rows, k, seed)[0] if k < m else np.zeros(m, np.int64) for k in CLUSTERS if k > 1}
    return Groups(rows, by_centre, _hdbscan(rows) if m >= SMALLEST else np.full(m, -1))


def compare(seeds: Sequence[Groups]) -> Agreement:
    shape = (len(seeds), len(seeds))
    by_centre, by_density = {k: np.zeros(shape) for k in CLUSTERS if k > 1}, np.zeros(shape)
    for i, j in combinations(range(len(seeds)), 2):
        a, b = seeds[i], seeds[j]
        pairs = match_rows(a.rows, b.rows)
        for k, found in by_centre.items():
            found[i, j] = found[j, i] = _ari(a.by_centre[k][pairs.a], b.by_centre[k][pairs.b])
        left, right = a.by_density[pairs.a], b.by_density[pairs.b]
        kept = (left >= 0) & (right >= 0)
        by_density[i, j] = by_density[j, i] = _ari(left[kept], right[kept])
    return Agreement(
        by_centre,
        by_density,
        tuple(int(one.by_density.max(initial=-1)) + 1 for one in seeds),
        tuple(float((one.by_density < 0).mean()) for one in seeds),
    )


def summarise(arms: Mapping[str, Agreement], *, gap: Sequence[int]) -> Metric:
    """An observation: ARI of the k-means clusters over seed pairs, beside the nulls cut into as many.

    `gap` holds what the gap statistic chose in each real seed; the clusters are the median of it, and at least 2, since
    a single cluster agrees with itself.
    """
    clusters = min((k for k in CLUSTERS if k > 1), key=lambda k: abs(k - float(np.median(gap))))
    estimates = {arm: jackknife_over_seeds(found.by_centre[clusters]) for arm, found in arms.items()}
    by_density = {arm: jackknife_over_seeds(found.by_density).value for arm, found in arms.items()}
    return over_seeds(
        "clustering",
        "adjusted Rand index",
        ">=",
        estimates,
        notes={arm: f"{found.value:.3f}, HDBSCAN {by_density[arm]:.3f}" for arm, found in estimates.items()},
        ceiling=1.0,
        also={
            "clusters": float(clusters),
            "clusters_by_gap": float(np.mean(gap)),
            "clusters_by_hdbscan": float(np.mean(arms[MAIN].clusters)),
            "noise_share": float(np.mean(arms[MAIN].noise)),
            "ari_hdbscan": finite(by_density[MAIN]),
        },
    )


def _ari(a: Int[np.ndarray, " k"], b: Int[np.ndarray, " k"]) -> float:
    """0 where a side has a single cluster: two of those agree by definition."""
    return float(adjusted_rand_score(a, b)) if min(len(np.unique(a)), len(np.unique(b))) > 1 else 0.0


def _k_means(rows: Rows, clusters: int, seed: int) -> tuple[Int[np.ndarray, " m"], float]:
    """Labels, and the summed squared distances to the centres."""
    # On so few rows its threads wait for one another longer than they work, and the order of their sums would show.
    with threadpool_limits(1):
        fitted: Any = KMeans(clusters, n_init="auto", random_state=seed % 2**32).fit(rows)
    return fitted.labels_.astype(np.int64), fitted.inertia_


def _hdbscan(rows: Rows) -> Int[np.ndarray, " m"]:
    fitted: Any = HDBSCAN(SMALLEST, copy=True).fit(rows)  # pyright: ignore[reportArgumentType]  The stub says str.
    return fitted.labels_.astype(np.int64)


def _log_within(rows: Rows, clusters: int, seed: int) -> float:
    return float(np.log(max(_k_means(rows, clusters, seed)[1], 1e-12)))
