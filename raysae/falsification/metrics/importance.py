"""What stands for importance without being it, against measured effects; predicted against measured (SCIENCE 7)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from raysae.falsification.intervals import Interval

BINS = 10
REPLICATES = 500


class Calibration(NamedTuple):
    """Measured effects regressed on predicted ones, a point per latent."""

    slope: float
    """1 where predictions have the right size."""
    r_squared: float
    gap: float
    """Mean over bins of equal mass of |mean measured - mean predicted|, in units of the effects (as ECE does)."""


def rank_correlation(
    proxy: Float[np.ndarray, " m"], measured: Float[np.ndarray, " m"], seed: int, alpha: float = 0.05
) -> tuple[float, Interval | None]:
    """Spearman, with a percentile interval of a bootstrap over latents; NaN where either is constant."""
    if len(proxy) < 3 or np.ptp(proxy) == 0 or np.ptp(measured) == 0:
        return float("nan"), None
    rows = np.random.default_rng(seed).integers(0, len(proxy), (REPLICATES, len(proxy)))
    ranks = (stats.rankdata(values[rows], axis=1) for values in (proxy, measured))
    low, high = np.nanquantile(_pearson(*ranks), [alpha, 1 - alpha])
    whole = _pearson(stats.rankdata(proxy)[None], stats.rankdata(measured)[None])
    return float(whole[0]), (float(low), float(high))


def calibration(predicted: Float[np.ndarray, " m"], measured: Float[np.ndarray, " m"]) -> Calibration | None:
    """None with fewer than three latents or where all predictions are equal."""
    if len(predicted) < 3 or np.ptp(predicted) == 0:
        return None
    spread = predicted - predicted.mean()
    line = float(spread @ measured / (spread @ spread))
    bins = np.array_split(np.argsort(predicted, kind="stable"), min(BINS, len(predicted)))
    gap = sum(len(rows) * abs(measured[rows].mean() - predicted[rows].mean()) for rows in bins) / len(predicted)
    return Calibration(line, float(_pearson(predicted[None], measured[None])[0]) ** 2, float(gap))


def _pearson(x: Float[np.ndarray, "b m"], y: Float[np.ndarray, "b m"]) -> Float[np.ndarray, " b"]:
    """Row by row; NaN where one is constant."""
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    size = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return np.divide((x * y).sum(axis=1), size, out=np.full(len(x), np.nan), where=size > 0)
