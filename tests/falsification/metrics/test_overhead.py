"""Latency, throughput and memory of capture against numbers worked by hand, and what they refuse to say."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from raysae.falsification.metrics import overhead
from raysae.falsification.resampling import median
from raysae.falsification.simulation.timings import SOUND
from raysae.types import Metric, Reason

BOOT = {"bootstrap": 400, "seed": 0}


def seconds(blocks: int, **changes: Any) -> dict[str, np.ndarray]:
    """Every block: 2 s without hooks, 3 s captured, 2.2 s hooked, 5 s to the end of the model."""
    means = {"base": 2.0, "capture": 3.0, "forward": 2.2, "whole": 5.0} | changes
    columns = {"base": 2, "capture": 2, "forward": 1, "whole": 1}
    return {name: np.broadcast_to(means[name], (blocks, columns[name])).astype(float) for name in means}


def failed(metric: Metric) -> dict[str, Reason]:
    return {gate.name: gate.failure for gate in metric.gates if not gate.passed}


def test_latency_is_the_median_over_blocks_of_the_ratio_within_a_block():
    rng = np.random.default_rng(0)
    slow = rng.uniform(1, 9, (7, 1))  # The whole block is slow or quick, which a ratio within it does not see.
    base, captured = slow * rng.uniform(1, 2, (7, 2)), slow * rng.uniform(1, 4, (7, 2))
    metric = overhead.latency(seconds(7) | {"base": base, "capture": captured}, SOUND, **BOOT)
    rises = sorted(sum(c) / sum(b) - 1 for b, c in zip(base, captured, strict=True))
    assert metric.value == pytest.approx(rises[3])
    assert metric.also["p95"] == pytest.approx(rises[-1])
    assert (metric.n, metric.unit_of_sampling, failed(metric)) == (7, "block", {})


def test_the_rival_readings_of_latency_are_beside_it():
    metric = overhead.latency(seconds(6), SOUND, **BOOT)
    assert metric.value == pytest.approx(0.5)
    assert metric.also["forward_only"] == pytest.approx(0.1)
    assert metric.also["against_whole_model"] == pytest.approx(-0.4)


def test_four_blocks_bound_no_median():
    metric = overhead.latency(seconds(4), SOUND, **BOOT)
    assert metric.interval is None and metric.not_run == "4 blocks bound no median; at least five do."


@pytest.mark.parametrize("n", [5, 12, 30])
def test_the_bounds_of_a_median_are_no_narrower_than_the_order_statistics(n: int):
    values = np.random.default_rng(n).exponential(size=n)
    found = median(values, **BOOT)
    below = next(k for k in range(n, -1, -1) if sum(math.comb(n, i) for i in range(k)) / 2**n <= 0.05)
    ordered = sorted(values)
    assert found.interval is not None and found.value == np.median(values)
    assert found.interval[0] <= ordered[below - 1] and found.interval[1] >= ordered[n - below]


def test_throughput_is_tokens_over_wall_time_in_parts_of_neighbours():
    rng = np.random.default_rng(0)
    tokens, taken = rng.integers(1500, 2500, 50), rng.uniform(1, 2, 50)
    metric = overhead.throughput(tokens, taken, 10 * tokens, 3000.0, SOUND, **BOOT)
    assert metric.value == pytest.approx(tokens.sum() / taken.sum())
    assert metric.also["bytes_per_second"] == pytest.approx(10 * tokens.sum() / taken.sum())
    assert metric.also["processed"] == 3000.0
    assert metric.n == 10 and metric.interval is not None
    rates = [tokens[i : i + 5].sum() / taken[i : i + 5].sum() for i in range(0, 50, 5)]
    half = stats.t.ppf(0.95, 9) * np.std(rates, ddof=1) / math.sqrt(10)
    assert metric.interval[0] <= metric.value - 0.9 * half  # Student's, up to the difference of two kinds of mean.


@pytest.mark.parametrize(
    ("files", "each", "enough"), [(49, 1.0, True), (48, 1.0, False), (10, 6.0, True), (10, 5.9, False)]
)
def test_a_short_stretch_is_underpowered_by_time_and_by_tokens(files: int, each: float, enough: bool):
    tokens = np.full(files, 2048)
    metric = overhead.throughput(tokens, np.full(files, each), tokens, None, SOUND, **BOOT)
    assert failed(metric) == ({} if enough else {"sustained": Reason.UNDERPOWERED})


@pytest.mark.parametrize("unknown", ["parameters", "sites"])
def test_a_throughput_of_an_unknown_model_is_no_number(unknown: str):
    tokens = np.full(50, 2048)
    metric = overhead.throughput(tokens, np.ones(50), tokens, None, SOUND._replace(**{unknown: 0}), **BOOT)
    assert failed(metric) == {"described": Reason.NOT_RUN}


def test_memory_of_a_gpu_is_its_share_of_the_device_and_of_the_base():
    base, captured = np.array([100, 104, 102, 101, 100, 103]), np.array([150, 140, 141, 142, 143, 144])
    metric = overhead.memory(base, captured, 1000, SOUND)
    assert metric.value == pytest.approx((142.5 - 101.5) / 1000)
    assert metric.interval == pytest.approx(((140 - 104) / 1000, (150 - 100) / 1000))
    assert metric.also["relative_to_base"] == pytest.approx(41 / 101.5)
    assert metric.n == 6 and "cpu_share_of_physical" not in metric.also


def test_memory_of_a_cpu_is_printed_and_is_not_the_criterion():
    peaks = np.full(8, 10**9)
    metric = overhead.memory(peaks, peaks + 5 * 10**7, 10**10, SOUND._replace(gpu=False))
    assert metric.value is None and metric.interval is None
    assert metric.not_run is not None and "No GPU" in metric.not_run and "50.0 MB, 0.50% of physical" in metric.not_run
    assert metric.also["cpu_share_of_physical"] == pytest.approx(0.005)
    assert metric.also["cpu_relative_to_base"] == pytest.approx(0.05)
    assert "relative_to_base" not in metric.also


def test_a_system_without_a_word_for_peaks_has_no_number():
    nothing = np.array([], np.int64)
    metric = overhead.memory(nothing, nothing, 10**10, SOUND._replace(gpu=False))
    assert metric.value is None and metric.not_run == "No GPU, and no peak to print."


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        ({"differing": 1}, "equal to a reference"),
        ({"compared": 0}, "equal to a reference"),
        ({"changed": 1}, "model unchanged"),
        ({"generated": 0}, "model unchanged"),
        ({"rows": 0}, "every token once"),
        ({"rows": 2}, "every token once"),
        ({"wrong_documents": 1}, "every token once"),
        ({"devices": 2}, "one device"),
    ],
)
def test_a_capture_that_changes_or_loses_something_fails_every_criterion(change: dict[str, int], gate: str):
    capture, ones = SOUND._replace(**change), np.full(50, 2048)
    for metric in (
        overhead.latency(seconds(30), capture, **BOOT),
        overhead.throughput(ones, np.ones(50), ones, None, capture, **BOOT),
        overhead.memory(ones, ones, 10**6, capture),
    ):
        assert failed(metric) == {gate: Reason.GATE_FAILED}
