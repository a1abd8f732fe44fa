"""A number over seeds beside the same number of the null arms, without a threshold."""

from collections.abc import Mapping

import numpy as np

from raysae.falsification.intervals import Estimate
from raysae.falsification.metrics.documents import MAIN, as_null
from raysae.types.metric import Direction, Gate, Metric, NullValue

FEW = "One seed, or two where pairs are compared, shows no spread."
UNDEFINED = "It has no value in at least one seed."


def over_seeds(
    name: str,
    unit: str,
    direction: Direction,
    estimates: Mapping[str, Estimate],
    *,
    also: Mapping[str, float | None],
    notes: Mapping[str, str] | None = None,
    nulls: Mapping[str, NullValue] | None = None,
    ceiling: float | None = None,
    gates: tuple[Gate, ...] = (),
) -> Metric:
    """`estimates` holds `main` and the null arms; `nulls` those that were measured in another way."""
    main, notes = estimates[MAIN], notes or {}
    seeds = len(main.per_seed)
    return Metric(
        name=name,
        unit=unit,
        direction=direction,
        value=finite(main.value),
        interval=main.interval,
        n=seeds,
        unit_of_sampling="seed",
        seeds=seeds,
        per_seed=main.per_seed if main.interval else (),
        nulls={
            **{
                arm: as_null(found, len(found.per_seed), notes.get(arm, ""))
                for arm, found in estimates.items()
                if arm != MAIN
            },
            **(nulls or {}),
        },
        ceiling=ceiling,
        gates=gates,
        also=dict(also),
        not_run=None if main.interval else FEW if seeds < 2 or np.isfinite(main.value) else UNDEFINED,
    )


def finite(value: float) -> float | None:
    """None for a NaN or an infinity."""
    return float(value) if np.isfinite(value) else None
