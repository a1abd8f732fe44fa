from collections.abc import Callable
from typing import Any

import pytest

from raysae.falsification import CRITERIA, NULLS, Protocol, draft
from raysae.types import Experiment, Metric, NullValue

FIVE = 5


@pytest.fixture
def make_protocol() -> Callable[..., Protocol]:
    def make(
        mode: str = "confirmatory", seeds: int = FIVE, factors: int = 200, units: int = 60, **protocol: Any
    ) -> Protocol:
        experiment = Experiment.model_validate(
            {"name": "trial", "train": {"seeds": max(seeds, 1)}, "protocol": {"mode": mode, "pairs": 200, **protocol}}
        )
        return draft(
            experiment,
            l0_cap=6.4,
            splits={"TRAIN": "a", "FIT": "b", "TEST": "c"},
            test_documents=200,
            activation_documents=200,
            factors=tuple(f"total={i}" for i in range(factors)),
            dropped_factors={},
            causal_units=tuple(f"total={i}" for i in range(units)),
            model_sha256="m",
            tokenizer_sha256="t",
            commit=None,
        )

    return make


@pytest.fixture
def make_metric() -> Callable[..., Metric]:
    """A metric that passes its criterion, with nulls that fail it, unless told otherwise."""

    def make(name: str, **changes: Any) -> Metric:
        row = CRITERIA[name]
        line = row.threshold
        scale = 2 * line if line > 1 else 1.0
        good, bad = (
            ((0.99 * scale, (0.98 * scale, scale)), (0.1, (0.05, 0.2)))
            if row.direction == ">="
            else ((0.5 * line, (0.4 * line, 0.6 * line)), (0.9, (0.8, 1.0)))
        )
        n = {"alignment": 200, "causal_interchange": 60, "causal_attribution": 30}.get(name, max(200, row.minimum_n))
        fields: dict[str, Any] = {
            "name": name,
            "unit": row.unit,
            "direction": row.direction,
            "value": good[0],
            "interval": good[1],
            "n": n,
            "unit_of_sampling": row.unit_of_sampling,
            "seeds": row.min_seeds,
            "nulls": {null: NullValue(mean=bad[0], p95=bad[0], interval=bad[1], n=n) for null in NULLS},
        }
        return Metric(**{**fields, **changes})

    return make
