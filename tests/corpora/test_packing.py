"""Rows of many parts to blocks: no token lost or doubled, wherever the parts end, in both layouts."""

from itertools import accumulate, pairwise

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from raysae.corpora.blocks import TokenRows
from raysae.corpora.packing import GatheredRows, gather, plan

Parts = list[list[int]]
"""Tokens of every row of every part."""


def rows_of(parts: Parts) -> dict[str, TokenRows]:
    """Every token has a number of its own; row `part.row` begins 10 tokens into its record."""
    count = iter(range(10**6))
    found = {}
    for p, lengths in enumerate(parts):
        starts = np.array([0, *accumulate(lengths)])
        ids = np.array([next(count) for _ in range(starts[-1])], np.int32)
        skipped = np.full(len(lengths), 10, np.int32)
        names = [f"{p}.{r}" for r in range(len(lengths))]
        found[str(p)] = TokenRows(names, skipped, np.ones(len(lengths), np.int32), starts, {"input_ids": ids})
    return found


def blocks_of(parts: Parts, block_tokens: int, row_tokens: int | None) -> list[GatheredRows]:
    rows = rows_of(parts)
    planned = plan(((name, part.starts) for name, part in rows.items()), block_tokens, row_tokens)
    return [gather([(piece, rows[piece.part]) for piece in block], row_tokens) for block in planned]


def naive_documents(parts: Parts, block_tokens: int) -> list[list[tuple[str, int]]]:
    """Blocks of (row, tokens): the next row goes to the block if it fits, else it begins another."""
    blocks: list[list[tuple[str, int]]] = []
    for p, lengths in enumerate(parts):
        for r, length in enumerate(lengths):
            if not blocks or sum(tokens for _, tokens in blocks[-1]) + length > block_tokens:
                blocks.append([])
            blocks[-1].append((f"{p}.{r}", length))
    return blocks


parts_in = st.lists(st.lists(st.integers(1, 9), max_size=5), max_size=5)


@given(parts=parts_in, block_tokens=st.integers(1, 30))
@example(parts=[[9, 1], [], [1]], block_tokens=1)
def test_documents_fill_blocks_as_a_naive_loop_fills_them(parts: Parts, block_tokens: int) -> None:
    blocks = blocks_of(parts, block_tokens, None)
    found = [
        [(name, end - start) for (name,), (start, end) in zip(block.documents, pairwise(block.starts), strict=True)]
        for block in blocks
    ]
    assert found == naive_documents(parts, block_tokens)
    check_every_token_once(parts, blocks)
    assert all(block.skipped.tolist() == [10] * len(block.documents) for block in blocks)
    assert sum(block.cut for block in blocks) == sum(map(len, parts))


@given(parts=parts_in, block_rows=st.integers(0, 4), row_tokens=st.integers(1, 7))
@example(parts=[[3, 4], [7], [2]], block_rows=1, row_tokens=7)
def test_packed_rows_are_of_one_length_and_know_their_documents(parts: Parts, block_rows: int, row_tokens: int) -> None:
    blocks = blocks_of(parts, block_rows * row_tokens + row_tokens // 2, row_tokens)
    check_every_token_once(parts, blocks)
    lengths = [length for block in blocks for length in np.diff(block.starts)]
    assert all(length == row_tokens for length in lengths[:-1])
    assert all(len(block.documents) == max(block_rows, 1) for block in blocks[:-1])
    of_token = {}
    for part in rows_of(parts).values():
        for name, (start, end) in zip(part.documents, pairwise(part.starts), strict=True):
            of_token |= {int(token): (name, place) for place, token in enumerate(part.columns["input_ids"][start:end])}
    for block in blocks:
        for row, (start, end) in enumerate(pairwise(block.starts)):
            expected = [of_token[int(token)] for token in block.columns["input_ids"][start:end]]
            places = [*block.document_starts[row], end - start]
            documents = [
                (name, place)
                for name, (first, last) in zip(block.documents[row], pairwise(places), strict=True)
                for place in range(last - first)
            ]
            skipped = block.skipped[row] - 10  # of the first document only
            first = [(name, place + skipped * (name == block.documents[row][0])) for name, place in documents]
            assert first == expected


def check_every_token_once(parts: Parts, blocks: list[GatheredRows]) -> None:
    tokens = [token for block in blocks for token in block.columns["input_ids"].tolist()]
    assert tokens == list(range(sum(map(sum, parts))))
    assert all(block.starts[0] == 0 and block.starts[-1] == len(block.columns["input_ids"]) for block in blocks)
