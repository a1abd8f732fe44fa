"""What one worker needs, as arithmetic: to be printed before training, beside what was measured after it."""

from typing import NamedTuple

FLOAT = 4
"""Bytes of a float32: of weights, moments, gradients and pre-activations alike."""


class Memory(NamedTuple):
    """Bytes, and how they come about."""

    bytes: int
    text: str


def estimate(d_in: int, widest: int, batch_tokens: int, shards: int, workers: int, saes: int) -> Memory:
    """For `saes` of `widest` latents trained together. Libraries (torch and Ray, about 0.5 GB) and what the reader
    keeps come on top.

    A worker with s shards holds log2(s) + 1 buffers of gradients at once (they are summed pairwise), one more to
    receive those of another worker, and while a checkpoint is written a copy of weights and moments.
    """
    parameters = 2 * d_in * widest + 2 * widest + d_in
    mine = shards // workers
    gradients = mine.bit_length() + (workers > 1)
    tokens = batch_tokens // shards
    each = parameters * FLOAT * (1 + 2 + gradients)
    once = parameters * FLOAT * 3 + 3 * tokens * widest * FLOAT
    text = (
        f"{saes} x {parameters:,} parameters x 4 B x (1 weights + 2 Adam + {gradients} gradients) "
        f"+ a checkpoint of 3 + {tokens:,} tokens x {widest:,} latents x 4 B x 3 = {(saes * each + once) / 1e9:.2f} GB"
    )
    return Memory(saes * each + once, text)
