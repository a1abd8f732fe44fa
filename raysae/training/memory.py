"""What one worker needs, as arithmetic: to be printed before training, beside what was measured after it."""

from typing import NamedTuple

from raysae.saes import ARCHITECTURES
from raysae.saes.selection import DENSE
from raysae.training.optim import k_at
from raysae.types.learning import LossConfig, SAEConfig, TrainConfig

FLOAT = 4
"""Bytes of a float32: of weights, moments, gradients and pre-activations alike."""
LISTED = 4
"""Matrices tokens x latents at the peak of a step over a list of pairs, AuxK with most latents dead included."""
MASKED = {"relu": 7, "gated": 13}
MASKED_OTHER = 9
"""The same of a step over a masked matrix, by architecture, without AuxK. Measured, as the others are."""
AUX_K = 3
"""What AuxK adds to a masked step when most latents are dead."""


class Memory(NamedTuple):
    """Bytes, and how they come about."""

    bytes: int
    text: str


def step_matrices(sae: SAEConfig, loss: LossConfig, train: TrainConfig, d_in: int) -> int:
    """Matrices tokens x latents at the peak of a step. Without a budget of latents half of them fire at first."""
    budget = k_at(0, sae.k, train)
    if ARCHITECTURES[sae.architecture].needs_k and budget <= DENSE * d_in * sae.expansion:
        return LISTED
    return MASKED.get(sae.architecture, MASKED_OTHER) + (AUX_K if loss.aux else 0)


def estimate(d_in: int, widest: int, batch_tokens: int, shards: int, workers: int, saes: int, matrices: int) -> Memory:
    """For `saes` of `widest` latents trained together, a step of which makes `matrices` of tokens x latents. Libraries
    (torch and Ray, about 0.5 GB) and what the reader keeps come on top.

    A worker with s shards holds log2(s), rounded up, + 1 buffers of gradients at once (they are summed pairwise), one
    more to receive those of another worker, and while a checkpoint is written a copy of weights and moments.
    """
    parameters = 2 * d_in * widest + 2 * widest + d_in
    mine = shards // workers
    gradients = (mine - 1).bit_length() + 1 + (workers > 1)
    tokens = batch_tokens // shards
    each = parameters * FLOAT * (1 + 2 + gradients)
    once = parameters * FLOAT * 3 + matrices * tokens * widest * FLOAT
    text = (
        f"{saes} x {parameters:,} parameters x 4 B x (1 weights + 2 Adam + {gradients} gradients) "
        f"+ a checkpoint of 3 + {matrices} matrices of {tokens:,} tokens x {widest:,} latents x 4 B "
        f"= {(saes * each + once) / 1e9:.2f} GB"
    )
    return Memory(saes * each + once, text)
