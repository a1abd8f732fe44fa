"""Which decision opens the gate of the next phase, and what stands in the chain."""

from typing import Any

import pytest

from raysae.falsification.phases import NOTHING, footing, obstacle
from raysae.types import PhaseLink, RunRecord


def decided(phase: int, **changes: Any) -> RunRecord:
    """A confirmatory GO by the criterion of the phase, unless something is changed."""
    judged = {1: "alignment", 2: "causal_interchange", 3: "leakage", 4: "stability"}[phase]
    made: dict[str, Any] = {
        "experiment": f"run{phase}", "started_at": "2030-01-01T00:00:00Z", "decided_at": "2030-01-01T01:00:00Z",
        "fingerprint": "f", "config": {}, "seeds": {}, "commit": None, "versions": {}, "tokens": 1, "bytes_written": 1,
        "seconds": {}, "device": "cpu", "device_hours": 0.0, "protocol_sha256": f"{phase}" * 64, "mode": "confirmatory",
        "outcome": "GO", "criteria": {judged: "GO"}, "attempt": 1, "phase": phase,
    }  # fmt: skip
    return RunRecord(**made | changes)


def test_a_confirmatory_go_by_the_criterion_of_the_phase_opens() -> None:
    assert [obstacle(decided(phase)) for phase in (1, 2, 3, 4)] == [None] * 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"outcome": "NO_GO"}, "NO_GO (confirmatory)"),
        ({"outcome": "INCONCLUSIVE"}, "INCONCLUSIVE (confirmatory)"),
        ({"mode": "exploratory"}, "GO (exploratory)"),
        ({"criteria": {"reconstruction": "GO"}}, "GO without alignment"),
        ({"config": {"protocol": {"stand_in": "random_dictionary"}}}, "GO of the null random_dictionary"),
        ({"config": {"model": {"randomize": True}}}, "GO of the null random_model"),
    ],
)
def test_anything_else_does_not(change: dict[str, Any], said: str) -> None:
    assert obstacle(decided(1, **change)) == said


def test_the_first_phase_stands_on_nothing() -> None:
    assert footing([decided(1), decided(2)], 1) == NOTHING


def test_a_phase_stands_on_the_one_before_and_on_what_that_stood_on() -> None:
    first = decided(1)
    second = decided(2, chain=footing([first], 2).chain)
    chain, overrides = footing([first, second, decided(1, outcome="NO_GO")], 3)
    assert [(link.phase, link.experiment, link.protocol_sha256, link.opens) for link in chain] == [
        (1, "run1", "1" * 64, True),
        (2, "run2", "2" * 64, True),
    ]
    assert chain[0].decided_at == "2030-01-01T01:00:00Z" and overrides == ()


def test_decisions_that_do_not_count_are_counted_all_the_same() -> None:
    missed = decided(1, outcome="NO_GO", experiment="earlier")
    (link,) = footing([missed, decided(1), decided(1, experiment="later")], 2).chain
    assert (link.experiment, link.decisions) == ("run1", 3)


def test_a_go_that_needed_no_override_is_preferred() -> None:
    records = [decided(2, overrides=("phase 2: slow",), experiment="overridden"), decided(2, experiment="clean")]
    assert footing(records, 3).chain[-1].experiment == "clean" and footing(records, 3).overrides == ()
    assert footing(records[:1], 3).overrides == ("phase 2: slow",)


def test_what_did_not_open_stands_in_the_chain_as_what_it_was() -> None:
    (link,) = footing([decided(1), decided(1, mode="exploratory")][1:], 2).chain
    assert (link.outcome, link.mode, link.opens) == ("GO", "exploratory", False)
    chain, _ = footing([decided(1)], 3)
    assert chain[0].opens and chain[1] == PhaseLink(phase=2), "a phase that nobody ran"
