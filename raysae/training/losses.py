"""The loss terms beside reconstruction, each with its gradient written down (no autograd in the step).

The whole loss of a step, in units where the mean squared norm of x is d_in (SCIENCE S4):
    mean over tokens and dimensions of (x_hat - x)^2  +  l1 * mean over tokens of sum_i h_i
    + decorrelation * excess cosine of the decoder  +  aux * AuxK
"""

import math
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

DecorrelationForm = Literal["repaired", "literal"]
DECORRELATION_ROWS = 512


class AuxK(NamedTuple):
    """Squared error of AuxK summed over the shard, and its gradients."""

    squared_error: Float[Tensor, ""]
    latents: Float[Tensor, "n dead"]
    """With respect to the dead latents' pre-activations."""
    rows: Float[Tensor, "dead d_in"]
    """With respect to the dead latents' decoder rows."""


def aux_k(
    pre: Float[Tensor, "n d_sae"],
    error: Float[Tensor, "n d_in"],
    W_dec: Float[Tensor, "d_sae d_in"],
    dead: Int64[Tensor, " dead"],
    scale: float,
) -> AuxK:
    """Reconstruct what the live latents missed from each token's d_in / 2 largest dead ones (arXiv 2406.04093, A.2).

    `error` is x_hat - x, taken as given; the loss is `scale / 2` times the squared error. A dead latent whose
    pre-activation is negative gets no gradient, as in the paper.
    """
    latents, rows = pre[:, dead].relu_(), W_dec[dead]
    budget = max(1, W_dec.shape[1] // 2)
    if len(dead) > budget:
        latents *= latents >= _kth_largest(latents, budget)
    missed = torch.addmm(error, latents, rows)
    slope = missed * scale
    return AuxK(missed.square().sum(), (slope @ rows.T) * (latents > 0), latents.T @ slope)


def _kth_largest(values: Float[Tensor, "n m"], k: int) -> Float[Tensor, "n 1"]:
    """Per row; on the CPU numpy's partial sort, which `torch.topk` is several times slower than."""
    if values.device.type == "cpu":
        place = values.shape[1] - k
        return torch.from_numpy(np.partition(values.numpy(), place, axis=1)[:, place : place + 1])
    return values.topk(k, dim=1, sorted=False).values.amin(dim=1, keepdim=True)


def decorrelation(
    W_dec: Float[Tensor, "d_sae d_in"],
    step: int = 0,
    form: DecorrelationForm = "repaired",
    tau_c: float | None = None,
    rows: int = DECORRELATION_ROWS,
) -> tuple[Float[Tensor, ""], Float[Tensor, "d_sae d_in"]]:
    """The redundancy penalty of a decoder with unit rows, and its gradient (for unit rows, up to the radial part).

    repaired: mean over i != j of relu(|w_i . w_j| - tau_c)^2. i runs over a window of `rows` rows that moves on with
    `step`, so that no d_sae x d_sae matrix is made and every row has its turn; `tau_c` defaults to `chance_cosine`.
    literal: sum over i < j of w_i . w_j, least for pairs of +v and -v: there for comparison with the plan, not for use.
    """
    d_sae = len(W_dec)
    if form == "literal":
        total = W_dec.sum(dim=0)
        return (total.square().sum() - W_dec.square().sum()) / 2, total - W_dec
    tau_c = chance_cosine(*W_dec.shape) if tau_c is None else tau_c
    rows = min(rows, d_sae)
    window = torch.arange(step * rows, (step + 1) * rows, device=W_dec.device) % d_sae
    cosine = W_dec[window] @ W_dec.T
    cosine[torch.arange(rows, device=W_dec.device), window] = 0
    excess = (cosine.abs() - tau_c).relu_()
    pairs = max(1, rows * (d_sae - 1))
    slope = cosine.sign() * excess * (2 / pairs)
    gradient = slope.T @ W_dec[window]
    gradient.index_add_(0, window, slope @ W_dec)
    return excess.square().sum() / pairs, gradient


def chance_cosine(d_sae: int, d_in: int) -> float:
    """About the largest |cosine| of a random unit row with d_sae others: sqrt(2 ln d_sae / d_in), at most 0.9."""
    return min(0.9, math.sqrt(2 * math.log(max(d_sae, 2)) / d_in))
