"""Characters -> tokens, through the offsets of a fast tokenizer.

A token belongs to the span of the first of its characters that any span holds, leading spaces set aside: ` 24` belongs
to the span of `24`, `($` to the span that begins at `$`. Tokens without characters (BOS, EOS) belong to none.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from raysae.types import LabelSpan

Offsets = Sequence[tuple[int, int]]
"""Characters [start, end) of each token."""

NO_STEP = -1


def token_ranges(offsets: Offsets, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Tokens [first, last) of each span; a bisection per bound, so a span costs a microsecond and not a pass.

    `spans` are in order, do not overlap, and begin on a visible character; the offsets of a document never go back.
    """
    tokens = len(offsets)
    while tokens and offsets[tokens - 1][1] == 0:  # a closing special token stands at (0, 0)
        tokens -= 1
    ranges: list[tuple[int, int]] = []
    last = 0
    for start, end in spans:
        first = max(last, bisect_right(offsets, start, 0, tokens, key=itemgetter(1)))
        last = max(first, bisect_left(offsets, end, first, tokens, key=itemgetter(0)))
        ranges.append((first, last))
    return ranges


def token_spans(text: str, offsets: Offsets, spans: Sequence[tuple[int, int]]) -> NDArray[np.int32]:
    """Index of the span of each token, -1 for none; of overlapping spans the later one counts. int32 [tokens]."""
    characters = np.full(len(text) + 1, NO_STEP, dtype=np.int32)
    for index, (start, end) in enumerate(spans):
        characters[start:end] = index
    return _first_value(text, offsets, characters)


def token_labels(text: str, offsets: Offsets, labels: Sequence[LabelSpan], variable: str) -> list[str | None]:
    """The value of `variable` on each token, None where it has none."""
    mine = [label for label in labels if label.variable == variable]
    indices = token_spans(text, offsets, [(label.start, label.end) for label in mine])
    return [None if index < 0 else mine[index].value for index in indices]


def _first_value(text: str, offsets: Offsets, characters: NDArray[np.int32]) -> NDArray[np.int32]:
    """The value at the first character of each token that has one, its leading spaces set aside."""
    if not len(offsets):
        return np.empty(0, dtype=np.int32)
    starts, ends = np.asarray(offsets, dtype=np.int64).T
    visible = np.fromiter((not character.isspace() for character in text), dtype=bool, count=len(text))
    first_visible = _next_true(np.append(visible, False))[starts]
    begin = np.where(first_visible < ends, first_visible, starts)
    first_valued = _next_true(characters >= 0)[begin]
    found = first_valued < ends
    return np.where(found, characters[np.minimum(first_valued, len(text))], NO_STEP).astype(np.int32)


def _next_true(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For each position the nearest true position from there on, or the length."""
    positions = np.where(mask, np.arange(len(mask)), len(mask))
    return np.minimum.accumulate(positions[::-1])[::-1]
