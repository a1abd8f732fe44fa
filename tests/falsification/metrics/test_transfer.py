import numpy as np
import pytest

from raysae.falsification.metrics.transfer import FLOORS, Transfer, summarise
from raysae.types import Metric, Reason

SEEDS, DOCUMENTS = 5, 200
BOOT = {"bootstrap": 500, "seed": 0}


def scores(mean: float, seed: int, spread: float = 0.05) -> np.ndarray:
    return mean + spread * np.random.default_rng(seed).standard_normal((SEEDS, DOCUMENTS))


def found(across: float, within: float, floor: float, **arms: Transfer) -> Metric:
    floors = {name: scores(floor - 0.05 * i, 10 + i) for i, name in enumerate(FLOORS)}
    return summarise({"main": Transfer(scores(across, 0), scores(within, 1), floors), **arms}, **BOOT)


def test_transfer_is_measured_from_the_best_null_up():
    metric = found(0.8, 0.9, 0.5)
    floor = scores(0.5, 10)
    expected = np.mean((scores(0.8, 0) - floor).sum(1) / (scores(0.9, 1) - floor).sum(1))
    assert metric.value == pytest.approx(expected) and metric.value == pytest.approx(0.75, abs=0.01)
    assert metric.also["raw_ratio"] == pytest.approx(0.89, abs=0.01)
    assert metric.interval is not None and metric.interval[0] < 0.75 < metric.interval[1]


def test_a_ratio_of_two_numbers_at_the_null_is_undefined():
    metric = found(0.5, 0.5, 0.5)
    assert metric.also["raw_ratio"] == pytest.approx(1, abs=0.01)
    assert metric.value is None and metric.not_run is not None and "undefined" in metric.not_run
    assert [(gate.name, gate.failure) for gate in metric.gates if not gate.passed] == [
        ("above the null", Reason.GATE_FAILED)
    ]


def test_every_floor_must_have_been_measured():
    one = {"random_dictionary": scores(0.1, 3)}
    metric = summarise({"main": Transfer(scores(0.9, 0), scores(0.9, 1), one)}, **BOOT)
    assert metric.value is None
    assert [gate.failure for gate in metric.gates if not gate.passed] == [Reason.NOT_RUN]
    assert "frozen_decoder, pca" in metric.gates[0].detail
    assert metric.not_run is not None and "frozen_decoder, pca" in metric.not_run


def test_a_null_arm_is_judged_by_the_same_rule():
    floors = {name: scores(0.5, 20) for name in FLOORS}
    null = Transfer(scores(0.5, 0), scores(0.5, 1), floors)
    metric = found(0.8, 0.9, 0.5, random_model=null)
    assert metric.nulls["random_model"].mean is None and "undefined" in metric.nulls["random_model"].note
