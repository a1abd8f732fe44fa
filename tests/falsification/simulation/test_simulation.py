"""The court on trial: false claims are seldom called GO, true ones are found, and each simulation is what it says."""

from functools import partial

import numpy as np
import pytest

from raysae.falsification import CRITERIA
from raysae.falsification.simulation import SIMULATIONS, Trial, World, allowed, rates, try_world
from raysae.falsification.simulation.circuits import UNITS, coherence
from raysae.falsification.simulation.factors import share_of_factors
from raysae.falsification.simulation.pushes import FEWEST_LATENTS, share_that_holds
from raysae.falsification.simulation.trial import FEWEST_UNITS
from raysae.falsification.verdict import attains, misses
from raysae.types import Outcome, Reason

CHEAP = ("reconstruction", "sparsity", "fidelity", "capture_latency", "capture_throughput", "capture_memory")
RUNS = 40
SMALLER = {
    ("alignment", "truth"): World("", partial(share_of_factors, count=FEWEST_UNITS, rate=1.0), FEWEST_UNITS),
    ("causal_interchange", "truth"): World("", partial(coherence, count=UNITS, rate=1.0), UNITS),
    ("causal_interchange", "labels"): World("", partial(coherence, count=UNITS, rate=1.0, labels_permuted=True), UNITS),
    ("causal_interchange", "null"): World("", partial(coherence, count=UNITS, rate=None), UNITS),
    ("causal_attribution", "truth"): World(
        "", partial(share_that_holds, first=FEWEST_LATENTS, rate=1.0), FEWEST_LATENTS
    ),
}
"""Worlds with as few units as can be GO, where the registered ones take seconds."""
FALSE = [
    (name, kind) for name, worlds in SIMULATIONS.items() for kind, world in worlds.items() if not world.claim_holds
]


def go(name: str, world: World, runs: int) -> int:
    return sum(try_world(name, world, seed).outcome is Outcome.GO for seed in range(runs))


def test_every_criterion_is_simulated() -> None:
    assert set(SIMULATIONS) == set(CRITERIA)


@pytest.mark.parametrize("name", SIMULATIONS)
def test_every_criterion_has_false_worlds_and_a_true_one(name: str) -> None:
    worlds = SIMULATIONS[name]
    assert worlds["truth"].claim_holds and not any(worlds[kind].claim_holds for kind in worlds if kind != "truth")
    assert "threshold" in worlds
    assert ("labels" in worlds) == CRITERIA[name].reads_labels
    assert "null" in worlds or not CRITERIA[name].voiding_nulls


@pytest.mark.parametrize("name", CHEAP)
def test_at_the_threshold_a_cheap_claim_is_seldom_go(name: str) -> None:
    assert go(name, SIMULATIONS[name]["threshold"], RUNS) <= allowed(RUNS)


@pytest.mark.slow
def test_guidance_without_leak_or_benefit_is_seldom_go() -> None:
    """Labels of other documents put the benefit at its own threshold, 0."""
    assert go("leakage", SIMULATIONS["leakage"]["labels"], RUNS // 2) <= allowed(RUNS // 2)


@pytest.mark.parametrize(
    ("name", "kind"), [pair for pair in FALSE if pair[1] != "threshold" and pair != ("leakage", "labels")]
)
def test_nulls_and_permuted_labels_are_not_go(name: str, kind: str) -> None:
    assert go(name, SMALLER.get((name, kind), SIMULATIONS[name][kind]), 1) == 0


@pytest.mark.parametrize("name", SIMULATIONS)
def test_the_planted_truth_is_within_reach(name: str) -> None:
    """Else a low rate of false GO would mean nothing. In alignment it is an oracle, the true directions."""
    assert go(name, SMALLER.get((name, "truth"), SIMULATIONS[name]["truth"]), 1) == 1


@pytest.mark.parametrize("name", [name for name, row in CRITERIA.items() if row.voiding_nulls])
def test_every_null_arm_fails_beside_the_planted_truth(name: str) -> None:
    row, world = CRITERIA[name], SMALLER.get((name, "truth"), SIMULATIONS[name]["truth"])
    metric = world.measure(np.random.default_rng(0))
    assert attains(metric.interval, row.direction, row.threshold)
    for null in row.voiding_nulls:
        interval = metric.nulls[null].interval
        assert interval is not None and misses(interval, row.direction, row.threshold), null


@pytest.mark.parametrize("name", CHEAP)
def test_a_simulation_depends_on_its_seed_alone(name: str) -> None:
    world = SIMULATIONS[name]["threshold"]
    assert try_world(name, world, 5) == try_world(name, world, 5) != try_world(name, world, 6)


def test_the_bound_is_that_of_the_specification() -> None:
    assert allowed(400) == 27


def test_rates_count_every_outcome_and_hold_the_bound_against_the_right_side() -> None:
    trials = [Trial(Outcome.GO, None, 0.96, (0.95, 1.0))] * 3 + [
        Trial(Outcome.INCONCLUSIVE, Reason.VOID, 0.5, (0.4, 0.6)),
        Trial(Outcome.INCONCLUSIVE, Reason.NOT_RUN, None, None),
    ]
    false, true = (
        rates(World("w", lambda rng: pytest.fail(), 60, claim_holds=holds, needed=0.95), trials)
        for holds in (False, True)
    )
    assert false["go"] == true["go"] == 3 and false["rate"] == 0.6
    assert false["interval"] == pytest.approx([0.147, 0.947], abs=1e-3)  # Clopper-Pearson, two-sided 95 %.
    assert false["said"] == {"GO": 3, "INCONCLUSIVE (NOT_RUN)": 1, "INCONCLUSIVE (VOID)": 1}
    assert (false["at_most"], false["at_least"], false["within"]) == (1, None, False)
    assert (true["at_most"], true["at_least"], true["within"]) == (None, 5, False)
    assert len(false["drawn"]) == 4 and false["drawn"][0] == [0.5, 0.4, 0.6, "INCONCLUSIVE"]
    reported = rates(World("w", lambda rng: pytest.fail(), 60, claim_holds=True), trials)
    assert reported["within"] and reported["at_least"] is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("reconstruction", 0.001),
        ("sparsity", 0.0015),
        ("fidelity", 0.0015),
        ("capture_latency", 0.005),
        ("capture_throughput", 2.0),
        ("capture_memory", 0.0001),
    ],
)
def test_the_true_value_is_the_threshold(name: str, tolerance: float) -> None:
    """In the mean over many simulations, which the estimates of these are without much bias: a value that occurs, at a
    low quantile, lies 0.0012 below the true one, on the safe side."""
    values = [try_world(name, SIMULATIONS[name]["threshold"], seed).value for seed in range(1000)]
    assert np.mean([value for value in values if value is not None]) == pytest.approx(
        CRITERIA[name].threshold, abs=tolerance
    )
