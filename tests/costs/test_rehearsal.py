"""An experiment in miniature, and the line through two of them."""

import pytest

from raysae.costs.plan import Speed
from raysae.costs.rehearsal import fit, kind, miniature
from raysae.types import Experiment


def experiment(**parts: object) -> Experiment:
    return Experiment.model_validate({"name": "x", **parts})


def test_a_miniature_is_smaller_in_what_is_read_and_trained_and_the_same_in_what_it_is() -> None:
    whole = experiment(
        train={"steps": 8000, "seeds": 5}, protocol={"mode": "confirmatory", "phase": 2}, sweep={"trials": 6}
    )
    small, large = (miniature(whole, which, records=80_000, most=60_000) for which in (0, 1))
    assert (small.corpus.records, large.corpus.records) == (240, 960), "60,000 of 80,000, 320 and 1,280 in all"
    assert (small.train.steps, large.train.steps) == (32, 128)
    assert (small.train.seed_numbers, large.train.seed_numbers) == ((0,), (0, 1))
    assert small.protocol.test_tokens == 1000 and large.protocol.test_documents == 8
    assert (small.protocol.mode, small.protocol.phase) == ("exploratory", None)
    assert kind(small) == kind(large) == kind(whole)
    assert kind(whole) != kind(experiment(sae={"k": 9})), "another SAE goes at another speed"


def test_a_miniature_of_a_small_experiment_is_no_larger_than_it() -> None:
    tiny = experiment(train={"steps": 5, "seeds": 1}, protocol={"test_tokens": 90, "test_documents": 3})
    large = miniature(tiny, 1, records=20, most=20)
    assert (large.corpus.records, large.train.steps, large.train.seed_numbers) == (20, 5, (0,))
    assert (large.protocol.test_tokens, large.protocol.test_documents) == (90, 3)


@pytest.mark.parametrize(
    ("small", "large", "line"),
    [
        ((10, 5.0), (40, 11.0), Speed(3.0, 0.2)),
        ((10, 1.0), (40, 8.0), Speed(0.0, 0.2)),  # a start below nothing: all of the larger one grows
        ((10, 5.0), (40, 4.0), Speed(4.0, 0.0)),  # it never falls
        ((0, 2.0), (0, 3.0), Speed(3.0, 0.0)),
    ],
)
def test_the_line_never_falls_nor_starts_below_nothing(small, large, line: Speed) -> None:
    assert fit({"capture": small}, {"capture": large})["capture"] == pytest.approx(line)


def test_a_stage_that_only_one_rehearsal_saw_has_no_speed() -> None:
    assert fit({"a": (1, 1.0)}, {"b": (1, 1.0)}) == {}
