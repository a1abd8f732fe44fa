"""What carries over from A to B, corrected for what needs no learning (SCIENCE 6.4)."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from raysae.falsification.intervals import Estimate
from raysae.falsification.metrics.documents import MAIN, as_null
from raysae.falsification.resampling import ratio_over_documents
from raysae.types.metric import Gate, Metric, NullValue, Reason

FLOORS = ("random_dictionary", "frozen_decoder", "pca")
"""The nulls whose best score is subtracted: N1, N3, N8, at the same budget of latents."""

Scores = Float[np.ndarray, "s d"]
"""SAE seeds x TEST documents (or problems) of B; larger is better."""


class Transfer(NamedTuple):
    """Scores on B: of what was fitted on A, of what was fitted on B, and of the floors."""

    across: Scores
    within: Scores
    floors: Mapping[str, Scores]


def summarise(arms: Mapping[str, Transfer], *, bootstrap: int, seed: int) -> Metric:
    """T = (s_AB - s_null) / (s_BB - s_null) over documents and seeds, s_null the best floor.

    Where the interval of s_BB - s_null does not lie above 0, both numbers are at the null and T is undefined.
    """
    main = arms[MAIN]
    gates, estimate = _judge(main, bootstrap, seed)
    failed = next((gate for gate in gates if not gate.passed), None)
    defined = failed is None and estimate.interval is not None
    seeds, n = main.within.shape
    return Metric(
        name="transfer",
        unit="share of the effect",
        direction=">=",
        value=estimate.value if defined else None,
        interval=estimate.interval if defined else None,
        n=n,
        unit_of_sampling="document",
        seeds=seeds,
        per_seed=estimate.per_seed if defined else (),
        nulls={arm: _null(found, bootstrap, seed) for arm, found in arms.items() if arm != MAIN},
        ceiling=1.0,
        gates=gates,
        also={
            "score_across": float(main.across.mean()),
            "score_within": float(main.within.mean()),
            **{f"score_{name}": float(scores.mean()) for name, scores in main.floors.items()},
            "raw_ratio": float(main.across.mean() / main.within.mean()) if main.within.mean() else None,
        },
        not_run=None if defined else f"The ratio is undefined: {failed.detail if failed else 'no document'}.",
    )


def _judge(found: Transfer, bootstrap: int, seed: int) -> tuple[tuple[Gate, ...], Estimate]:
    missing = [name for name in FLOORS if name not in found.floors]
    all_there = Gate(
        name="floors",
        passed=not missing,
        detail=f"not measured: {', '.join(missing)}" if missing else "all measured",
        failure=Reason.NOT_RUN,
    )
    floor = max(found.floors.values(), key=lambda scores: float(scores.mean()), default=np.zeros_like(found.within))
    above = ratio_over_documents(found.within - floor, np.ones_like(floor), bootstrap=bootstrap, seed=seed)
    lower = above.interval[0] if above.interval else float("nan")
    gap = Gate(
        name="above the null",
        passed=bool(lower > 0),
        detail=f"s_BB exceeds the best null by {above.value:.4f} (lower bound {lower:.4f}), needed above 0",
    )
    estimate = ratio_over_documents(found.across - floor, found.within - floor, bootstrap=bootstrap, seed=seed)
    return (all_there, gap), estimate


def _null(found: Transfer, bootstrap: int, seed: int) -> NullValue:
    gates, estimate = _judge(found, bootstrap, seed)
    n = found.within.shape[1]
    failed = next((gate for gate in gates if not gate.passed), None)
    return NullValue(mean=None, p95=None, n=n, note=f"undefined: {failed.detail}") if failed else as_null(estimate, n)
