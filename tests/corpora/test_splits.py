"""Splits: the source's own, the hash of the problem, and the lock."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysae.corpora.splits import assign_split, problem_key
from raysae.types import CorpusRecord, Split
from raysae.types.experiment import SplitShares

SHARES = SplitShares(fit=0.1, test=0.2)
TRAIN, FIT, TEST = Split.TRAIN, Split.FIT, Split.TEST


def record(question: str, **extras: object) -> CorpusRecord:
    return CorpusRecord(
        record_id="r",
        question=question,
        answer="",
        cot=None,
        steps=(),
        source_dataset="s",
        split=None,
        licence="",
        text="t",
        extras=extras,
    )


def of_hash(key: str, has_native_test: bool = False, seed: int = 0) -> Split:
    return assign_split(key, None, {}, SHARES, has_native_test, seed)


@pytest.mark.parametrize("same", ["  how many\u00a0CLIPS? ", "How\nmany clips?", "Ｈow many clips?"])
def test_width_case_and_space_do_not_make_another_problem(same: str) -> None:
    assert problem_key(record(same)) == problem_key(record("How many clips?"))
    assert problem_key(record("How many clips")) != problem_key(record("How many clips?"))


def test_a_rephrased_question_is_the_problem_it_came_from() -> None:
    assert problem_key(record("rephrased", original_question="How many?")) == problem_key(record("how many?"))


def test_the_hash_divides_by_the_shares() -> None:
    counts = Counter(of_hash(str(i)) for i in range(20_000))
    assert counts[FIT] / 20_000 == pytest.approx(0.1, abs=0.01)
    assert counts[TEST] / 20_000 == pytest.approx(0.2, abs=0.01)


def test_with_native_test_rows_the_hash_gives_no_test_and_the_same_fit() -> None:
    keys = [str(i) for i in range(2_000)]
    assert {of_hash(key, has_native_test=True) for key in keys} == {TRAIN, FIT}
    assert all((of_hash(key, True) is FIT) == (of_hash(key) is FIT) for key in keys)


def test_a_seed_gives_its_own_division_again() -> None:
    keys = [str(i) for i in range(500)]
    first, again, other = ([of_hash(key, seed=seed) for key in keys] for seed in (1, 1, 2))
    assert first == again
    assert first != other


@given(
    key=st.text(max_size=8),
    native=st.sampled_from([None, *Split]),
    locked=st.sampled_from([None, FIT, TEST]),
    seed=st.integers(0, 9),
)
def test_all_rows_of_a_problem_fall_on_its_most_locked_side(
    key: str, native: Split | None, locked: Split | None, seed: int
) -> None:
    got = assign_split(key, native, {key: locked} if locked else {}, SHARES, True, seed)
    if TEST in (native, locked):
        assert got is TEST
    elif FIT in (native, locked):
        assert got is FIT
    else:
        assert got is of_hash(key, True, seed)
        assert got is not TEST


def test_native_training_rows_are_divided_like_the_rest() -> None:
    assert {assign_split(str(i), TRAIN, {}, SHARES, False, 0) for i in range(200)} == {TRAIN, FIT, TEST}
