"""Token rows of many corpus blocks -> token blocks of even size, cut at the same places whatever made the rows.

A *part* holds the rows of one corpus block. A token block is a list of pieces, each a range of one part; `plan` decides
the ranges from the rows' lengths alone, `gather` brings one block's pieces together.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysae.corpora.blocks import TokenRows


@dataclass(frozen=True)
class Piece:
    """A range of one part."""

    part: str
    first_row: int
    last_row: int
    """One past the last row that any of the tokens is of."""
    first_token: int
    last_token: int

    def plain(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class GatheredRows:
    """The rows of one token block and the documents in them."""

    starts: NDArray[np.int64]
    """[rows + 1]: row i is tokens starts[i] to starts[i + 1]."""
    documents: list[list[str]]
    """[rows]: the records whose tokens the row holds, in order."""
    document_starts: list[list[int]]
    """[rows]: where in the row each of them begins."""
    skipped: NDArray[np.int32]
    """[rows]: tokens of the first of them that stand in earlier rows."""
    cut: int
    """Tokens of these documents that stand in no row."""
    columns: dict[str, NDArray[Any]]
    """[tokens] each."""


def plan(
    parts: Iterable[tuple[str, NDArray[np.int64]]], block_tokens: int, row_tokens: int | None
) -> Iterator[list[Piece]]:
    """The pieces of each block, for parts (name, starts of its rows [rows + 1]) in order.

    A block holds consecutive rows, at most `block_tokens` tokens together (a longer row stands alone). With
    `row_tokens` (packed) rows of the parts are no limits: a block is as many rows of that many tokens as fit in it, one
    at least, and only the last is short.
    """
    if row_tokens is not None:
        block_tokens = max(block_tokens // row_tokens, 1) * row_tokens
    block: list[Piece] = []
    room = block_tokens
    for name, starts in parts:
        row, token = 0, 0
        while row < len(starts) - 1:
            if row_tokens is None:
                last = int(np.searchsorted(starts, token + room, side="right")) - 1
                last = max(last, row + (not block))  # the first row of a block fits, however long it is
                end = int(starts[last])
            else:
                end = min(token + room, int(starts[-1]))
                last = int(np.searchsorted(starts, end, side="left"))
            if last > row and (end > token or row_tokens is None):
                block.append(Piece(name, row, last, token, end))
                room -= end - token
            full = room <= 0 or (row_tokens is None and last < len(starts) - 1)
            row = last if row_tokens is None or end == starts[last] else last - 1
            token = end
            if full:
                yield block
                block, room = [], block_tokens
    if block:
        yield block


def gather(pieces: Sequence[tuple[Piece, TokenRows]], row_tokens: int | None) -> GatheredRows:
    """One block from its pieces and the parts they are of."""
    names: list[str] = []
    starts: list[NDArray[np.int64]] = []
    skipped: list[NDArray[np.integer]] = []
    cut = 0
    total = 0
    for piece, rows in pieces:
        begin = rows.starts[piece.first_row : piece.last_row]
        names += rows.documents[piece.first_row : piece.last_row]
        starts.append(np.maximum(begin - piece.first_token, 0) + total)
        skipped.append(rows.skipped[piece.first_row : piece.last_row] + np.maximum(piece.first_token - begin, 0))
        cut += int(rows.cut[piece.first_row : piece.last_row].sum())
        total += piece.last_token - piece.first_token
    columns = {
        name: np.concatenate([rows.columns[name][piece.first_token : piece.last_token] for piece, rows in pieces])
        for name in pieces[0][1].columns
    }
    document_starts, document_skipped = np.concatenate(starts), np.concatenate(skipped)
    if row_tokens is None:
        ones = [[0]] * len(names)
        whole = np.append(document_starts, np.int64(total))
        return GatheredRows(whole, [[name] for name in names], ones, document_skipped.astype(np.int32), cut, columns)
    row_starts = np.append(np.arange(0, total, row_tokens), total)
    first = np.searchsorted(document_starts, row_starts[:-1], side="right") - 1
    last = np.searchsorted(document_starts, row_starts[1:], side="left")
    return GatheredRows(
        row_starts,
        [names[a:b] for a, b in zip(first, last, strict=True)],
        [np.maximum(document_starts[a:b] - at, 0).tolist() for a, b, at in zip(first, last, row_starts, strict=False)],
        (document_skipped[first] + row_starts[:-1] - document_starts[first]).astype(np.int32),
        cut,
        columns,
    )
