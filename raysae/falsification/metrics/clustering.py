"""Do latents form groups, and the same groups in every seed? k-means and HDBSCAN on decoder rows (SCIENCE 7)."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

from raysae.falsification.intervals import Estimate, jackknife_over_seeds
from raysae.falsification.metrics.dictionaries import match_rows, unit
from raysae.falsification.metrics.documents import MAIN, as_null
from raysae.types.metric import Metric

CLUSTERS = (1, 2, 4, 8, 16, 32)
"""Numbers of clusters the gap statistic chooses from."""
REFERENCES = 10
SMALLEST = 5
"""Fewest latents HDBSCAN calls a cluster."""

Rows = Float[np.ndarray, "_ d"]


class Groups(NamedTuple):
    """Clusters of one dictionary; -1 where HDBSCAN calls a latent noise."""

    rows: Rows
    by_centre: Int[np.ndarray, " m"]
    by_density: Int[np.ndarray, " m"]


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


def group(rows: Float[np.ndarray, "m d"], clusters: int, seed: int) -> Groups:
    """Both clusterings of alive unit rows."""
    few = len(rows) < max(clusters, SMALLEST)
    by_centre = np.zeros(len(rows), np.int64) if few else _k_means(rows, clusters, seed)[0]
    by_density = np.full(len(rows), -1) if few else _hdbscan(rows)
    return Groups(rows, by_centre, by_density)


def agreement(a: Groups, b: Groups) -> tuple[float, float]:
    """Adjusted Rand index of the k-means and of the HDBSCAN clusters over latents matched one to one; for HDBSCAN over
    pairs that are noise on neither side, 0 where there are none."""
    pairs = match_rows(a.rows, b.rows)
    left, right = a.by_density[pairs.a], b.by_density[pairs.b]
    kept = (left >= 0) & (right >= 0)
    return (
        _ari(a.by_centre[pairs.a], b.by_centre[pairs.b]),
        _ari(left[kept], right[kept]),
    )


def summarise(arms: Mapping[str, Sequence[Groups]], *, gap: Sequence[int]) -> Metric:
    """An observation: ARI of the k-means clusters over seed pairs, beside the nulls clustered into as many. `gap` holds
    what the gap statistic chose in each real seed."""
    estimates = {arm: _over_pairs(seeds) for arm, seeds in arms.items()}
    by_centre, by_density = estimates[MAIN]
    return Metric(
        name="clustering",
        unit="adjusted Rand index",
        direction=">=",
        value=by_centre.value if np.isfinite(by_centre.value) else None,
        interval=by_centre.interval,
        n=len(arms[MAIN]),
        unit_of_sampling="seed",
        seeds=len(arms[MAIN]),
        per_seed=by_centre.per_seed if by_centre.interval else (),
        nulls={
            arm: as_null(found, len(arms[arm]), f"{found.value:.3f}, HDBSCAN {dense.value:.3f}")
            for arm, (found, dense) in estimates.items()
            if arm != MAIN
        },
        ceiling=1.0,
        also={
            "clusters_by_gap": float(np.mean(gap)) if len(gap) else None,
            "clusters_by_hdbscan": float(np.mean([one.by_density.max(initial=-1) + 1 for one in arms[MAIN]])),
            "noise_share": float(np.mean([(one.by_density < 0).mean() for one in arms[MAIN]])),
            "ari_hdbscan": by_density.value if np.isfinite(by_density.value) else None,
        },
        not_run=None if by_centre.interval else "Fewer than three seeds: pairs of two show no spread.",
    )


def clusters_for(gap: Sequence[int]) -> int:
    """How many clusters every arm is cut into: the median of the seeds' choices, at least 2, since one cluster agrees
    with itself."""
    return max(2, int(np.median(gap)))


def _over_pairs(seeds: Sequence[Groups]) -> tuple[Estimate, Estimate]:
    found = np.zeros((2, len(seeds), len(seeds)))
    for i, j in combinations(range(len(seeds)), 2):
        found[:, i, j] = found[:, j, i] = agreement(seeds[i], seeds[j])
    return jackknife_over_seeds(found[0]), jackknife_over_seeds(found[1])


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
