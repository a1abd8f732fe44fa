"""Rows of windows -> shuffled batches. The next window is filled while this one is emptied."""

import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import tee

import numpy as np

from raysae.store.order import Group, Window
from raysae.store.schema import STORED_AS, decode

Rows = Callable[[Iterator[Group]], Iterator[np.ndarray]]
"""The rows of each group, [rows, width] in the storage type, in the order of the groups."""


KEPT_BATCHES = 8
"""More than are on their way at once; of those that a reader keeps for itself, the rest are let go."""


@dataclass(frozen=True)
class Shuffle:
    """How windows become batches."""

    batch_tokens: int
    width: int
    dtype: str
    """Storage type, a key of STORED_AS."""
    guides: Callable[[Group], np.ndarray] | None
    """float32 [rows, 2] of a group: label, and whether the next row follows."""
    pairs: bool
    """Whether rows stay beside their neighbour."""

    def batches(self, windows: Iterator[Window], rows: Rows) -> Iterator[np.ndarray]:
        """float32 [batch_tokens, width], or two columns more with guides. Two windows stand in memory at once."""
        ordered, asked = tee(windows)
        arrays = rows(group for window in asked for group in window.groups)
        columns = self.width + (0 if self.guides is None else 2)
        memory = _Memory((self.batch_tokens, columns))
        batch, have = memory.free(), 0
        gathered = np.empty((self.batch_tokens, self.width), STORED_AS[self.dtype].to_pandas_dtype())
        coming, spare = self._filling(ordered, arrays, None), None
        while coming is not None:
            coming.fill(1.0)
            window, coming = coming, self._filling(ordered, arrays, spare)
            spare = window.memory
            order = window.window.order(pairs=self.pairs)
            known = self._known(window.window, order)
            place, stop = window.window.start, window.window.stop
            while place < stop:
                until = min(place + self.batch_tokens - have, stop)
                to = have + until - place
                part = gathered[have:to]
                np.take(window.rows, order[place:until], axis=0, out=part, mode="clip")
                decode(part, self.dtype, batch[have:to, : self.width])
                if known is not None:
                    batch[have:to, self.width :] = known[place:until]
                place, have = until, to
                if have == self.batch_tokens:
                    yield batch
                    batch, have = memory.free(), 0
                if coming is not None:
                    coming.fill((place - window.window.start) / (stop - window.window.start))

    def _filling(
        self, windows: Iterator[Window], arrays: Iterator[np.ndarray], memory: np.ndarray | None
    ) -> "_Filling | None":
        window = next(windows, None)
        if window is None:
            return None
        if memory is None or len(memory) < window.rows:  # new pages cost as much as reading what goes into them
            memory = np.empty((window.rows, self.width), STORED_AS[self.dtype].to_pandas_dtype())
        return _Filling(window, arrays, memory)

    def _known(self, window: Window, order: np.ndarray) -> np.ndarray | None:
        if self.guides is None:
            return None
        known = np.concatenate([self.guides(group) for group in window.groups])[order]
        # Of the next row only the first of a pair knows which it is.
        known[1 if self.pairs else 0 :: 2 if self.pairs else 1, -1] = 0
        return known


class _Memory:
    """Arrays of one shape, float32, taken up again when nobody holds them: pages given back and asked for anew cost the
    training step more than its wait for a batch."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.given: deque[np.ndarray] = deque(maxlen=KEPT_BATCHES)

    def free(self) -> np.ndarray:
        for place in range(len(self.given)):
            if sys.getrefcount(self.given[place]) == 2:  # the deque and the argument: no view, no tensor, no reader
                self.given.rotate(-place - 1)
                return self.given[-1]
        self.given.append(np.empty(self.shape, np.float32))
        return self.given[-1]


class _Filling:
    """A window on its way into memory."""

    def __init__(self, window: Window, arrays: Iterator[np.ndarray], memory: np.ndarray) -> None:
        self.window, self.arrays, self.memory = window, arrays, memory
        self.rows = memory[: window.rows]
        self.sizes = [group.rows for group in window.groups]
        self.groups = self.filled = 0

    def fill(self, share: float) -> None:
        """Up to `share` of its row groups."""
        while self.groups < round(share * len(self.sizes)):
            to = self.filled + self.sizes[self.groups]
            self.rows[self.filled : to] = next(self.arrays)
            self.filled, self.groups = to, self.groups + 1
