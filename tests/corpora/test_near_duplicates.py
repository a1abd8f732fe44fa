"""Near duplicates: against the exact Jaccard index of every pair, and transitive over chains."""

import random
from itertools import combinations

import numpy as np
import pytest

from raysae.corpora.near_duplicates import RECALL, bands, join, signature


def jaccard(one: str, other: str) -> float:
    a, b = ({tuple(text.split()[i : i + 3]) for i in range(len(text.split()) - 2)} for text in (one, other))
    return len(a & b) / len(a | b)


def texts_with_variants() -> list[str]:
    """Forty texts of fifty words, and for each a copy with 0 to 8 words replaced."""
    rng = random.Random(0)
    words = [f"w{i}" for i in range(400)]
    texts = [rng.choices(words, k=50) for _ in range(40)]
    for i, text in enumerate(texts[:40]):
        copy = list(text)
        for at in rng.sample(range(50), i % 9):
            copy[at] = "other"
        texts.append(copy)
    return [" ".join(text) for text in texts]


@pytest.mark.parametrize("threshold", [0.5, 0.8, 1.0])
def test_the_joined_pairs_are_those_of_the_jaccard_index(threshold: float) -> None:
    texts = texts_with_variants()
    group = join(np.stack([signature(text) for text in texts]), threshold)
    for i, j in combinations(range(len(texts)), 2):
        known = jaccard(texts[i], texts[j])
        if known >= min(threshold + 0.11, 1.0):  # three standard errors of the estimate
            assert group[i] == group[j], known
        if known < threshold - 0.11:
            assert group[i] != group[j], known


def test_a_group_is_named_by_its_first_problem_and_joins_chains() -> None:
    words = [f"w{i}" for i in range(60)]
    chain = [" ".join(words[3 * i : 40 + 3 * i]) for i in range(6)]
    assert jaccard(chain[0], chain[5]) < 0.5 < jaccard(chain[0], chain[1])
    group = join(np.stack([signature(text) for text in ["unrelated words stand here", *chain]]), 0.6)
    assert group.tolist() == [0, 1, 1, 1, 1, 1, 1]


def test_empty_and_single_tables_join_nothing() -> None:
    assert join(np.empty((0, 128), np.uint32), 0.8).tolist() == []
    assert join(signature("one")[None], 0.8).tolist() == [0]


def test_a_text_shorter_than_a_run_is_compared_whole() -> None:
    group = join(np.stack([signature(text) for text in ("2 + 2", "2 + 2", "3 + 3", "")]), 0.8)
    assert group.tolist() == [0, 0, 2, 3]


@pytest.mark.parametrize("threshold", [0.3, 0.8, 0.95])
def test_bands_let_two_problems_at_the_threshold_meet(threshold: float) -> None:
    count, rows = bands(threshold)
    assert 1 - (1 - threshold**rows) ** count >= RECALL
    assert count * rows <= 128
