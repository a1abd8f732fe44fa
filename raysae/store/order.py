"""The order in which training sees the tokens of a split: a function of the seed and the step alone.

An epoch permutes the row groups of all blocks, and shuffles the rows of about WINDOW_ROWS of them together, so that a
batch mixes many documents at bounded memory. So any number of workers sees the same batches, from any step on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from raysae.store.manifest import BlockInfo
from raysae.store.schema import ROW_GROUP_ROWS
from raysae.types.experiment import stream_seed

WINDOW_ROWS = 262_144
"""Rows shuffled together."""


QUARANTINED = "quarantined"
"""Fact of a block: its documents that could not be stored, in whose place there are nulls."""


class DocumentShard(NamedTuple):
    """What one of several independent trainings reads: the blocks, and so the documents, are dealt out among them."""

    number: int
    total: int

    def of(self, blocks: Sequence[BlockInfo]) -> Sequence[BlockInfo]:
        return blocks[self.number :: self.total]


class Group(NamedTuple):
    """Rows of a block that are read together."""

    block: BlockInfo
    number: int
    """Of the row group in its block."""
    first: int
    length: int
    """Rows in the file."""
    rows: int
    """Rows that are shown: not those of quarantined documents."""


@dataclass(frozen=True)
class Window:
    """Row groups whose rows are shuffled together; of the shuffled rows, those from `start` to `stop` are shown."""

    groups: tuple[Group, ...]
    seed: int
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return sum(group.rows for group in self.groups)

    def order(self, *, pairs: bool) -> np.ndarray:
        """int64 [rows], a permutation: of all rows, or of pairs of rows, a last odd one left out of the shuffle."""
        random, rows = np.random.default_rng(self.seed), self.rows
        if not pairs:
            return random.permutation(rows)
        first = 2 * random.permutation(rows // 2)
        return np.append(np.stack([first, first + 1], axis=1).ravel(), np.arange(rows // 2 * 2, rows))


def shown(block: BlockInfo) -> np.ndarray:
    """bool [rows of the file]: of documents that are not quarantined."""
    kept = np.ones(block.rows, bool)
    for document in block.facts.get(QUARANTINED, ()):
        kept[document["first"] : document["first"] + document["rows"]] = False
    return kept


def row_groups(blocks: Sequence[BlockInfo]) -> list[Group]:
    """Every row group of every block."""
    return [
        Group(block, number, first, len(kept), int(kept.sum()))
        for block in blocks
        for whole in [shown(block)]
        for number, first in enumerate(range(0, block.rows, ROW_GROUP_ROWS))
        for kept in [whole[first : first + ROW_GROUP_ROWS]]
    ]


def windows(
    groups: Sequence[Group], batch_tokens: int, seed: int, start_step: int = 0, steps: int | None = None
) -> Iterator[Window]:
    """The windows of `steps` batches from `start_step` on, without an end by default. An epoch ends with its last whole
    batch; a window that lies wholly before the first step is left out."""
    per_epoch = sum(group.rows for group in groups) // batch_tokens
    epoch, skip = divmod(start_step, per_epoch)
    while steps is None or steps > 0:
        take = per_epoch - skip if steps is None else min(per_epoch - skip, steps)
        start, stop = skip * batch_tokens, (skip + take) * batch_tokens
        order = np.random.default_rng(stream_seed(seed, f"row-groups/{epoch}")).permutation(len(groups))
        for number, window in enumerate(_cut([groups[i] for i in order])):
            rows = sum(group.rows for group in window)
            if start < rows and stop > 0:
                yield Window(window, stream_seed(seed, f"rows/{epoch}/{number}"), max(start, 0), min(stop, rows))
            start, stop = start - rows, stop - rows
        steps = None if steps is None else steps - take
        epoch, skip = epoch + 1, 0


def _cut(groups: Sequence[Group]) -> Iterator[tuple[Group, ...]]:
    window: list[Group] = []
    rows = 0
    for group in groups:
        window.append(group)
        rows += group.rows
        if rows >= WINDOW_ROWS:
            yield tuple(window)
            window, rows = [], 0
    if window:
        yield tuple(window)
