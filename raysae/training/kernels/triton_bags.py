"""The two products of `bags.py` for an accelerator: sums of weighted rows, and inner products of rows, pair by pair.

Both read each row that a pair names once, in the precision it is stored in, and sum in float32. No pair is written by
two programs, so there are no atomics and the same input gives the same bits.
"""

# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportIndexIssue=false
import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int64
from torch import Tensor

PAIRS = 16
"""Pairs whose rows a program has on their way from memory at once."""
COLUMNS = 512
"""Of a row, at most, in one program."""


def bag(
    rows: Float[Tensor, "m d"],
    which: Int64[Tensor, " pairs"],
    first: Int64[Tensor, " bags"],
    weights: Float[Tensor, " pairs"],
) -> Float[Tensor, "bags d"]:
    """float32 sums of `rows[which]` times `weights`, cut into bags that begin at `first`."""
    rows, bags, d = rows.contiguous(), len(first), rows.shape[1]
    out = torch.empty(bags, d, dtype=torch.float32, device=rows.device)
    columns = min(triton.next_power_of_2(d), COLUMNS)
    if bags:
        _bag[(bags, triton.cdiv(d, columns))](
            rows, which, first, weights, out, len(which), bags, d, PAIRS=PAIRS, COLUMNS=columns
        )
    return out


def sampled(
    left: Float[Tensor, "n d"],
    right: Float[Tensor, "m d"],
    row: Int64[Tensor, " pairs"],
    which: Int64[Tensor, " pairs"],
) -> Float[Tensor, " pairs"]:
    """float32 left[row] . right[which] for each pair; fastest where equal `which` stand together, which then stay in
    the cache."""
    left, right, d = left.contiguous(), right.contiguous(), left.shape[1]
    out = torch.empty(len(row), dtype=torch.float32, device=left.device)
    columns = min(triton.next_power_of_2(d), COLUMNS)
    if len(row):
        _sampled[(triton.cdiv(len(row), PAIRS),)](
            left, right, row, which, out, len(row), d, PAIRS=PAIRS, COLUMNS=columns
        )
    return out


@triton.jit
def _bag(rows, which, first, weights, out, pairs, bags, d, PAIRS: tl.constexpr, COLUMNS: tl.constexpr):  # noqa: N803
    """One program: some columns of one bag."""
    number = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < d
    begin = tl.load(first + number)
    end = tl.load(first + number + 1, mask=number + 1 < bags, other=pairs)
    total = tl.zeros((COLUMNS,), tl.float32)
    for start in range(begin, end, PAIRS):
        pair = start + tl.arange(0, PAIRS)
        mine = pair < end
        place = tl.load(which + pair, mask=mine, other=0)
        weight = tl.load(weights + pair, mask=mine, other=0.0).to(tl.float32)
        part = tl.load(rows + place[:, None] * d + column[None, :], mask=mine[:, None] & inside[None, :], other=0.0)
        total += tl.sum(part.to(tl.float32) * weight[:, None], axis=0)
    tl.store(out + number * d + column, total, mask=inside)


@triton.jit
def _sampled(left, right, row, which, out, pairs, d, PAIRS: tl.constexpr, COLUMNS: tl.constexpr):  # noqa: N803
    """One program: PAIRS inner products."""
    pair = tl.program_id(0).to(tl.int64) * PAIRS + tl.arange(0, PAIRS)
    mine = pair < pairs
    above = tl.load(row + pair, mask=mine, other=0) * d
    below = tl.load(which + pair, mask=mine, other=0) * d
    total = tl.zeros((PAIRS,), tl.float32)
    for start in range(0, d, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        there = mine[:, None] & (column < d)[None, :]
        one = tl.load(left + above[:, None] + column[None, :], mask=there, other=0.0).to(tl.float32)
        other = tl.load(right + below[:, None] + column[None, :], mask=there, other=0.0).to(tl.float32)
        total += tl.sum(one * other, axis=1)
    tl.store(out + pair, total, mask=mine)
