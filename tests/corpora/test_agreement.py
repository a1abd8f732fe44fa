"""Alpha against the published example, its null and its interval; F1 sums by hand."""

import numpy as np
import pytest

from raysae.corpora.agreement import Hits, boundary_hits, krippendorff, token_hits
from raysae.corpora.aligners import NO_ANSWER
from tests.corpora.tables import renumbered

PUBLISHED = """
    1 2 3 3 2 1 4 1 2 . . .
    1 2 3 3 2 2 4 1 2 5 . 3
    . 3 3 3 2 3 4 2 2 5 1 .
    1 2 3 3 2 4 4 1 2 5 1 ."""
"""Krippendorff 2011, example C: four observers, missing values, nominal alpha 0.743."""


def table(text: str) -> np.ndarray:
    return np.array([[NO_ANSWER if v == "." else int(v) for v in line.split()] for line in text.strip().splitlines()])


def alpha(votes: np.ndarray, document: np.ndarray | None = None) -> tuple[float | None, ...]:
    found = krippendorff(
        votes, np.zeros(votes.shape[1], np.int64) if document is None else document, bootstrap=400, draws=50, seed=0
    )
    return found.value, *(found.interval or (None, None)), found.null_mean, found.null_p95


def test_alpha_of_the_published_example() -> None:
    assert alpha(table(PUBLISHED))[0] == pytest.approx(0.743, abs=5e-4)


def test_alpha_is_one_for_equal_votes_and_its_null_is_near_none() -> None:
    rng = np.random.default_rng(0)
    document = np.repeat(np.arange(60), 30)
    row = np.concatenate([np.repeat(np.arange(3), rng.multinomial(30, [0.3, 0.3, 0.4])) for _ in range(60)])
    value, low, high, mean, p95 = alpha(np.stack([row] * 3), document)
    assert (value, low, high) == (1, 1, 1)
    assert mean is not None
    assert p95 is not None
    assert abs(mean) < 0.1
    assert p95 < 0.2


def test_alpha_of_votes_by_chance_is_near_zero_and_its_interval_holds_zero() -> None:
    votes = np.random.default_rng(1).integers(0, 4, size=(3, 2000))
    value, low, high, *_ = alpha(votes, np.repeat(np.arange(50), 40))
    assert value is not None
    assert low is not None
    assert high is not None
    assert low < 0 < high
    assert abs(value) < 0.05


def test_alpha_is_undefined_where_nothing_could_have_disagreed() -> None:
    assert alpha(np.zeros((3, 5), np.int64)) == (None, None, None, None, None)
    assert alpha(np.empty((3, 0), np.int64))[0] is None


def test_hits_of_tokens_and_of_bounds_by_hand() -> None:
    wanted = np.array([-1, 0, 0, 0, -1, 1, 1, 1, 1])
    found = np.array([0, 0, 0, 0, -1, 1, 1, -1, -1])
    assert token_hits(found, wanted) == Hits(5, 6, 7)
    assert boundary_hits(found, wanted) == Hits(3, 4, 4), "the last bound is two tokens off"
    assert boundary_hits(found, wanted, tolerance=0) == Hits(2, 4, 4)


def test_a_wanted_bound_is_used_once() -> None:
    wanted = np.array([-1, 0, -1, -1, -1])
    assert boundary_hits(np.array([0, 1, 2, -1, -1]), wanted) == Hits(2, 6, 2)


def test_steps_are_renumbered_by_the_tokens_they_share() -> None:
    wanted = np.array([0, 0, 1, 1, 1, 2, 2])
    found = np.array([0, 0, 0, 0, 0, 1, 1])
    assert renumbered(found, wanted).tolist() == [1, 1, 1, 1, 1, 2, 2]
    nobody = renumbered(np.array([5, 5, 7, -1]), np.array([0, 0, -1, -1])).tolist()
    assert nobody[:2] == [0, 0]
    assert nobody[2] not in (0, -1)
    assert nobody[3] == -1
