"""Answers kept and lost through an SAE: by hand, and where there is nothing to lose."""

import numpy as np
import pytest

from raysae.falsification.metrics import answers

HOW = {"bootstrap": 400, "seed": 0}


def columns(clean: list[int], sae: list[int]) -> dict[str, np.ndarray]:
    n = len(clean)
    found = {"clean": clean, "sae": sae, "ablated": [0] * n, "written": [1] * n, "fits": [1] * n, "tokens": [1] * n}
    found |= {f"{name}_given_steps": [1] * n for name in answers.READINGS}
    return {name: np.array(values, float) for name, values in found.items()}


def test_the_value_is_the_share_of_problems_lost() -> None:
    clean = [1] * 60 + [0] * 40
    seeds = [columns(clean, [1] * 50 + [0] * 50), columns(clean, [1] * 54 + [0] * 42 + [1] * 4)]
    found = answers.summarise({"main": seeds, "random_dictionary": [columns(clean, [0] * 100)] * 2}, **HOW)
    assert found.value == pytest.approx(np.mean([-0.10, -0.02]))
    assert found.interval is not None and found.interval[0] < found.value < found.interval[1]
    assert found.also["accuracy_clean"] == 0.6 and found.also["accuracy_sae"] == pytest.approx(0.54)
    assert found.nulls["random_dictionary"].mean == pytest.approx(-0.6)
    low, high = found.also["accuracy_clean_low"], found.also["accuracy_clean_high"]
    assert low is not None and high is not None and low < 0.6 < high


def test_a_model_that_solves_nothing_loses_nothing_and_shows_it() -> None:
    found = answers.summarise({"main": [columns([0] * 30, [0] * 30)] * 2}, **HOW)
    assert (found.value, found.interval) == (0.0, (0.0, 0.0)), "no ratio, so no 0/0"
    assert found.also["accuracy_clean"] == 0.0 and found.also["accuracy_clean_high"] == pytest.approx(
        1 - 0.05 ** (1 / 30)
    )


def test_no_benchmark_says_so() -> None:
    assert answers.nothing(2).not_run == answers.NO_BENCHMARK
