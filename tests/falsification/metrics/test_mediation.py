"""Patched latents of VERIFY against a count by hand."""

import numpy as np
import pytest

from raysae.falsification.metrics import mediation
from raysae.falsification.metrics.mediation import Patched

BOOT = {"bootstrap": 500, "seed": 0}


def patched(lost: int, matched: tuple[int, ...] = (0, 1), n: int = 100) -> Patched:
    """Of n traces, the last 20 % of which miss the error anyway: how many of the first go unnoticed after each edit."""
    unedited = np.where(np.arange(n) < 0.8 * n, 2.0, -1.0)

    def after(count: int) -> np.ndarray:
        return np.where(np.arange(n) < count, -0.5, unedited)

    return Patched(unedited, after(lost), np.stack([after(k) for k in matched]), after(2), after(80))


def test_only_errors_that_were_found_can_be_lost():
    metric = mediation.summarise({"main": [patched(40), patched(20)]}, **BOOT)
    assert metric.value == pytest.approx((40 + 20) / 2 / 80)
    assert metric.per_seed == pytest.approx((0.5, 0.25))
    assert metric.ceiling == 1.0
    assert metric.also["found_unedited"] == pytest.approx(0.8)
    assert metric.also["log_odds_moved"] == pytest.approx((40 + 20) / 2 * -2.5 / 100)
    assert metric.nulls["matched_latents"].mean == pytest.approx(0.5 / 80)
    assert metric.nulls["random_direction"].mean == pytest.approx(2 / 80)


def test_a_label_that_moves_no_more_than_matched_latents_is_readout_only():
    inert = [patched(1 + i % 2, matched=(0, 1, 2, 3)) for i in range(5)]
    causal = [patched(60 + i, matched=(0, 1, 2, 3)) for i in range(5)]
    assert mediation.summarise({"main": inert}, **BOOT).also["readout_only"] == 1.0
    assert mediation.summarise({"main": causal}, **BOOT).also["readout_only"] == 0.0


def test_where_no_error_is_found_there_is_no_number():
    blind = patched(0)._replace(unedited=np.full(100, -1.0))
    metric = mediation.summarise({"main": [blind, blind]}, **BOOT)
    assert metric.value is None and metric.not_run is not None
    assert metric.ceiling is None and metric.nulls["matched_latents"].mean is None
