"""Splits: the source's own, the hash of the problem, and the lock over duplicates."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysae.corpora.splits import LOCKS, ProblemTable, SplitRule, decide, problem_key, short_key, train_rates, uniform
from raysae.types import CorpusRecord, Split
from raysae.types.text import SplitShares

SHARES = SplitShares(fit=0.1, test=0.2)
TRAIN, FIT, TEST = Split.TRAIN, Split.FIT, Split.TEST
FREE, WITH_TEST = SplitRule(SHARES, native_test=False), SplitRule(SHARES, native_test=True)
EVALUATION = SplitRule(SHARES, native_test=True, eval_only=True)


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


@pytest.mark.parametrize("same", ["  how many\u00a0CLIPS? ", "How\nmany clips?", "Ｈow many clips?"])
def test_width_case_and_space_do_not_make_another_problem(same: str) -> None:
    assert problem_key(record(same)) == problem_key(record("How many clips?"))
    assert problem_key(record("How many clips")) != problem_key(record("How many clips?"))


def test_a_rephrased_question_is_the_problem_it_came_from() -> None:
    assert problem_key(record("rephrased", original_question="How many?")) == problem_key(record("how many?"))


def test_the_hash_divides_by_the_shares() -> None:
    counts = Counter(FREE.alone(None, uniform(str(i), 0)) for i in range(20_000))
    assert counts[FIT] / 20_000 == pytest.approx(0.1, abs=0.01)
    assert counts[TEST] / 20_000 == pytest.approx(0.2, abs=0.01)


def test_with_native_test_rows_the_hash_gives_no_test_and_the_same_fit() -> None:
    numbers = [uniform(str(i), 0) for i in range(2_000)]
    assert {WITH_TEST.alone(None, number) for number in numbers} == {TRAIN, FIT}
    assert all((WITH_TEST.alone(TRAIN, n) is FIT) == (FREE.alone(TRAIN, n) is FIT) for n in numbers)


def test_native_sides_are_kept_and_evaluation_only_is_test() -> None:
    assert [FREE.alone(native, 0.99) for native in (None, TRAIN, FIT, TEST)] == [TRAIN, TRAIN, FIT, TEST]
    assert {EVALUATION.alone(native, n) for native in (None, *Split) for n in (0.0, 0.15, 0.9)} == {TEST}


def test_a_seed_gives_its_own_division_again() -> None:
    first, again, other = ([uniform(str(i), seed) for i in range(500)] for seed in (1, 1, 2))
    assert first == again
    assert not set(first) & set(other)


RULES = [FREE, WITH_TEST, EVALUATION]
rows_in = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from([None, *Split]), st.integers(0, 2)), min_size=1, max_size=20
)


@given(rows=rows_in, joined=st.dictionaries(st.integers(1, 5), st.integers(0, 4), max_size=3))
def test_every_group_stands_on_its_most_locked_side(
    rows: list[tuple[int, Split | None, int]], joined: dict[int, int]
) -> None:
    """Against a naive rule: a group falls by the hash of its first problem, then by its most locked row."""
    keys = [problem_key(record(f"problem {number}")) for number, _, _ in rows]
    table = ProblemTable(
        key=np.array([short_key(key) for key in keys], np.uint64),
        uniform=np.array([uniform(key, 3) for key in keys]),
        native=np.array([-1 if native is None else LOCKS.index(native) for _, native, _ in rows], np.int8),
        corpus=np.array([corpus for _, _, corpus in rows], np.int8),
    )
    problems, first = np.unique(table.key, return_inverse=True)
    group = np.arange(len(problems))
    for later, earlier in sorted(joined.items()):
        if earlier < later < len(group):
            group[later] = group[earlier]

    got = decide(table, RULES, first, group)

    hashed = {int(key): float(number) for key, number in zip(table.key, table.uniform, strict=True)}
    for mine in set(group):
        members = [i for i in range(len(rows)) if group[first[i]] == mine]
        number = hashed[int(problems[mine])]
        expected = max((RULES[rows[i][2]].alone(rows[i][1], number) for i in members), key=LOCKS.index)
        assert {LOCKS[got.split[i]] for i in members} == {expected}
        for i in members:
            alone = RULES[rows[i][2]].alone(rows[i][1], float(table.uniform[i]))
            assert got.moved.get(int(table.key[i]), alone) is expected


def test_duplicates_are_counted_across_sides_and_corpora() -> None:
    table = ProblemTable(
        key=np.array([10, 10, 20, 20, 30, 40], np.uint64),
        uniform=np.array([0.9] * 6),
        native=np.array([0, 2, 0, -1, 1, 0], np.int8),
        corpus=np.array([0, 0, 0, 1, 0, 1], np.int8),
    )
    got = decide(table, [FREE, FREE], np.array([0, 0, 1, 1, 2, 3]), np.array([0, 1, 2, 2]))
    assert got.duplicates == {
        "problems": 4,
        "moved_records": 2,
        "exact": {"across_splits": 1, "across_corpora": 1},
        "near": {"across_splits": 1, "across_corpora": 1, "groups": 1, "problems": 2, "largest_group": 2},
    }
    assert got.moved == {10: TEST, 40: FIT}


def test_weights_thin_all_but_the_scarcest_corpus() -> None:
    split = np.array([0] * 90 + [0] * 10 + [2] * 50, np.int8)
    corpus = np.array([0] * 90 + [1] * 10 + [1] * 50, np.int8)
    assert train_rates(split, corpus, [3.0, 1.0]) == pytest.approx([30 / 90, 1.0])
    assert train_rates(split, corpus, [1.0, None]) == [1.0, 1.0]
    assert train_rates(split, corpus, [None, None]) == [1.0, 1.0]
