"""TRAIN, FIT or TEST for every problem: by the source's own split, else by a hash of the problem.

FIT and TEST of the source are kept; every other row, the source's own training rows among them, is divided by a hash of
its problem, so that all rows of one problem fall together and the number of records or workers changes nothing. A
problem that occurs on both sides, itself or as a near duplicate, goes wholly to the more locked side.
"""

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysae.types import CorpusRecord, Split
from raysae.types.experiment import stream_seed
from raysae.types.text import SplitShares

LOCKS = (Split.TRAIN, Split.FIT, Split.TEST)
"""The later, the more locked."""


def problem(record: CorpusRecord) -> str:
    """The original question (NFKC, no case, single spaces): what makes two rows one problem."""
    question = str(record.extras.get("original_question") or record.question)
    return " ".join(unicodedata.normalize("NFKC", question).casefold().split())


def problem_key(record: CorpusRecord) -> str:
    """SHA-256 of the problem."""
    return hashlib.sha256(problem(record).encode()).hexdigest()


def short_key(key: str) -> int:
    """The first 64 bits of a problem's key, as tables of millions of problems hold it."""
    return int(key[:16], 16)


def uniform(key: str, seed: int, stream: str = "splits") -> float:
    """A number in [0, 1) that depends on the key and the experiment's seed alone."""
    digest = hashlib.sha256(f"{stream_seed(seed, stream)}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


@dataclass(frozen=True)
class SplitRule:
    """How the rows of one corpus fall when no other row is of their problem."""

    shares: SplitShares
    native_test: bool
    """Whether the source has test rows of its own: then the hash gives no TEST."""
    eval_only: bool = False
    """Every row is TEST."""

    def alone(self, native: Split | None, uniform: float) -> Split:
        """The split of a row by its native split and the uniform number of its problem."""
        if self.eval_only:
            return Split.TEST
        if native is Split.FIT or native is Split.TEST:
            return native
        if uniform < self.shares.fit:
            return Split.FIT
        if not self.native_test and uniform < self.shares.fit + self.shares.test:
            return Split.TEST
        return Split.TRAIN


@dataclass(frozen=True, eq=False)
class ProblemTable:
    """One entry per record of every corpus."""

    key: NDArray[np.uint64]
    """[records], `short_key` of its problem"""
    uniform: NDArray[np.float64]
    native: NDArray[np.int8]
    """[records], index into LOCKS, -1 for none"""
    corpus: NDArray[np.int8]
    """[records], index into the rules"""


@dataclass(frozen=True, eq=False)
class Decision:
    """The split of every record, and what moved."""

    split: NDArray[np.int8]
    """[records], index into LOCKS"""
    moved: dict[int, Split]
    """Problem -> its split, where a row alone would fall elsewhere."""
    duplicates: dict[str, Any]
    """Counts of exact and near duplicates."""


def decide(
    table: ProblemTable, rules: Sequence[SplitRule], first: NDArray[np.int64], group: NDArray[np.int64]
) -> Decision:
    """Join the records of a problem and of near duplicates on their most locked side.

    `first` [records] is the number of the record's problem (0 to problems - 1, by key); `group` [problems] the smallest
    problem that it is joined with, itself if none. A group falls by the hash of that one.
    """
    own = group[first]
    of_group = np.full(len(group), np.inf)
    of_group[first] = table.uniform
    split = np.empty(len(first), np.int8)
    alone = np.empty(len(first), np.int8)
    for corpus, rule in enumerate(rules):
        for native in range(-1, len(LOCKS)):
            rows = np.flatnonzero((table.corpus == corpus) & (table.native == native))
            side = None if native < 0 else LOCKS[native]
            for target, values in ((split, of_group[own[rows]]), (alone, table.uniform[rows])):
                target[rows] = _alone(rule, side, values)
    most = np.zeros(len(group), np.int8)
    np.maximum.at(most, own, split)
    final = most[own]
    moved = np.flatnonzero(final != alone)
    return Decision(
        final,
        {int(key): LOCKS[lock] for key, lock in zip(table.key[moved], final[moved], strict=True)},
        {"moved_records": len(moved), **_count(table, first, group)},
    )


def _alone(rule: SplitRule, native: Split | None, uniform: NDArray[np.float64]) -> NDArray[np.int8]:
    """`SplitRule.alone` of many."""
    edges = [rule.shares.fit, rule.shares.fit + rule.shares.test]
    sides = np.array([LOCKS.index(rule.alone(native, value)) for value in (0.0, edges[0], edges[1])], np.int8)
    return sides[np.searchsorted(edges, uniform, side="right")]


def _count(table: ProblemTable, first: NDArray[np.int64], group: NDArray[np.int64]) -> dict[str, Any]:
    """How many problems, and groups of near duplicates, stand on several native sides or in several corpora."""

    def spread_over(of: NDArray[np.int64], what: NDArray[np.int8]) -> NDArray[np.bool_]:
        bits = np.zeros(len(group), np.int64)
        np.bitwise_or.at(bits, of, 1 << what.astype(np.int64))
        return np.bitwise_count(bits) > 1

    sides = np.maximum(table.native, 0)  # a row without a native split is a training row
    size = np.bincount(group, minlength=len(group))
    near = size > 1
    found: dict[str, Any] = {"problems": len(group)}
    for name, of, mask in (("exact", first, np.ones(len(group), bool)), ("near", group[first], near)):
        found[name] = {
            "across_splits": int((spread_over(of, sides) & mask).sum()),
            "across_corpora": int((spread_over(of, table.corpus) & mask).sum()),
        }
    found["near"] |= {
        "groups": int(near.sum()),
        "problems": int(size[near].sum()),
        "largest_group": int(size.max(initial=0)),
    }
    return found


def train_rates(split: NDArray[np.int8], corpus: NDArray[np.int8], weights: Sequence[float | None]) -> list[float]:
    """The share of each corpus's TRAIN records to keep, so that they stand in the proportion of the weights."""
    counts = [int(((corpus == i) & (split == 0)).sum()) for i in range(len(weights))]
    unit = min((count / weight for count, weight in zip(counts, weights, strict=True) if weight), default=0.0)
    return [
        1.0 if weight is None or not count else unit * weight / count
        for count, weight in zip(counts, weights, strict=True)
    ]
