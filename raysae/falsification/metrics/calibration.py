"""A detector that says 0.8 should be right in 80 % of cases: expected calibration error and Brier score (SCIENCE 7)."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from raysae.falsification.intervals import Estimate
from raysae.falsification.metrics.documents import MAIN, as_null
from raysae.falsification.metrics.tallies import Tally, scores
from raysae.falsification.resampling import Weights, hierarchical
from raysae.types.metric import Metric

BINS = 15
"""Of equal mass."""


class Reliability(NamedTuple):
    """Detectors of one SAE on TEST: sums per document, detector and bin of predicted probability."""

    predicted: Float[np.ndarray, "d f b"]
    happened: Float[np.ndarray, "d f b"]
    tokens: Float[np.ndarray, " d"]
    brier: Tally
    """Squared error, a column per detector."""
    base: Tally
    """The same for a forecast that always says the FIT rate."""


def probabilities(
    fit_score: Float[np.ndarray, " n"],
    fit_label: Bool[np.ndarray, " n"],
    test_score: Float[np.ndarray, " k"],
    method: Literal["isotonic", "platt"] = "isotonic",
) -> Float[np.ndarray, " k"]:
    """A score turned into a probability by what FIT says. A label that FIT holds always or never has its rate."""
    if fit_label.all() or not fit_label.any():
        return np.full(len(test_score), float(fit_label.any()))
    if method == "isotonic":
        curve = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
        return curve.fit(fit_score, fit_label.astype(np.float64)).predict(test_score)
    platt = LogisticRegression(C=np.inf).fit(fit_score[:, None], fit_label)
    return platt.predict_proba(test_score[:, None])[:, 1]


def reliability(
    predicted: Float[np.ndarray, "k f"],
    happened: Bool[np.ndarray, "k f"],
    fit_rate: Float[np.ndarray, " f"],
    document: Int[np.ndarray, " k"],
    documents: int,
) -> Reliability:
    """Bins of equal mass on these tokens, per detector; equal probabilities share a bin, so there may be fewer."""
    detectors, columns = predicted.shape[1], []
    for f in range(detectors):
        edges = np.unique(np.quantile(predicted[:, f], np.arange(1, BINS) / BINS))
        at = document * BINS + np.searchsorted(edges, predicted[:, f], side="left")
        columns.append([
            np.bincount(at, weights=values, minlength=documents * BINS).reshape(documents, BINS)
            for values in (predicted[:, f], happened[:, f].astype(np.float64))
        ])  # fmt: skip
    tokens = np.bincount(document, minlength=documents).astype(np.float64)
    of = np.repeat(tokens[:, None], detectors, axis=1)
    brier, base = (
        np.stack([np.bincount(document, weights=row, minlength=documents) for row in squares.T], axis=1)
        for squares in ((predicted - happened) ** 2, (fit_rate - happened) ** 2)
    )
    return Reliability(
        predicted=np.stack([pair[0] for pair in columns], axis=1),
        happened=np.stack([pair[1] for pair in columns], axis=1),
        tokens=tokens,
        brier=Tally(brier, of),
        base=Tally(base, of),
    )


def summarise(arms: Mapping[str, Sequence[Reliability]], *, bootstrap: int, seed: int) -> Metric:
    """Mean ECE over detectors. A forecast of the base rate is perfectly calibrated and says nothing: read it with the
    Brier skill, 1 - Brier / Brier of the base rate. Bins stay as they are over the resamples; few tokens in a bin make
    every ECE too large, and its resamples more so, never too small."""
    found = {arm: _ece(seeds, bootstrap, seed) for arm, seeds in arms.items()}
    main, seeds = found[MAIN], arms[MAIN]
    n = len(seeds[0].tokens)
    brier, base = (_mean([getattr(one, field) for one in seeds]) for field in ("brier", "base"))
    return Metric(
        name="calibration",
        unit="expected calibration error",
        direction="<=",
        value=main.value if main.interval else None,
        interval=main.interval,
        n=n,
        unit_of_sampling="document",
        seeds=len(seeds),
        per_seed=main.per_seed if main.interval else (),
        nulls={arm: as_null(one, n) for arm, one in found.items() if arm != MAIN},
        also={"brier": brier, "brier_base_rate": base, "brier_skill": 1 - brier / base if base else None},
        not_run=None if main.interval else "There is no detector, or no TEST token.",
    )


def _ece(seeds: Sequence[Reliability], bootstrap: int, seed: int) -> Estimate:
    def statistic(weights: Weights) -> Float[np.ndarray, "s b"]:
        drawn, rows = weights["TEST"], []
        for one in seeds:
            gap = drawn @ (one.predicted - one.happened).reshape(len(one.tokens), -1)
            detectors = one.predicted.shape[1]
            with np.errstate(divide="ignore", invalid="ignore"):
                rows.append(np.abs(gap).sum(axis=1) / (drawn @ one.tokens) / np.float64(detectors))
        return np.stack(rows)

    return hierarchical(statistic, {"TEST": len(seeds[0].tokens)}, bootstrap=bootstrap, seed=seed)


def _mean(tallies: Sequence[Tally]) -> float:
    return float(np.mean([scores(tally, np.ones((1, len(tally.of))))[0] for tally in tallies]))
