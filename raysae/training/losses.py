"""The loss terms beside reconstruction, each with its gradient written down (no autograd in the step).

The whole loss of a step, in units where the mean squared norm of x is d_in (SCIENCE S4):
    mean over tokens and dimensions of (x_hat - x)^2, summed over nested dictionaries
    + l1 * mean over tokens of sum_i h_i  +  l0 * mean number of active latents  +  the gate's own loss
    + decorrelation * excess cosine of the decoder  +  aux * AuxK
    + probe * a label probe's cross-entropy  +  temporal * the change between neighbouring tokens (guides.py)
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from raysae.saes import SparseAutoencoder
from raysae.saes.selection import kth_largest
from raysae.training.kernels import Products
from raysae.types.learning import Form

DECORRELATION_ROWS = 512


class AuxK(NamedTuple):
    """AuxK of a shard, and its gradients by dead latent."""

    loss: Float[Tensor, ""]
    W_dec: Float[Tensor, "dead d_in"]
    W_enc_rows: Float[Tensor, "dead d_in"]
    b_enc: Float[Tensor, " dead"]


def aux_k(
    sae: SparseAutoencoder,
    centred: Float[Tensor, "n d_in"],
    error: Float[Tensor, "n d_in"],
    dead: Int64[Tensor, " dead"],
    scale: float,
) -> AuxK:
    """Reconstruct what the live latents missed from each token's d_in / 2 largest dead ones (arXiv 2406.04093, A.2).

    `centred` is x - b_dec, `error` x_hat - x, taken as given; the loss is `scale / 2` times the squared error. A dead
    latent whose pre-activation is negative gets no gradient, as in the paper.
    """
    readers, rows = sae.W_enc.T[dead], sae.W_dec[dead]
    latents = torch.addmm(sae.b_enc[dead], centred, readers.T).relu_()
    budget = max(1, sae.d_in // 2)
    if len(dead) > budget:
        latents *= latents >= kth_largest(latents, budget)
    missed = torch.addmm(error, latents, rows)
    slope = missed * scale
    grad_pre = (slope @ rows.T) * (latents > 0)
    return AuxK(missed.square().sum() * (scale / 2), latents.T @ slope, grad_pre.T @ centred, grad_pre.sum(dim=0))


class GatePath(NamedTuple):
    """What trains the gate of a gated SAE."""

    values: Float[Tensor, "..."]
    """relu of the gate's pre-activations, which the L1 penalty is on."""
    loss: Float[Tensor, ""]
    """The auxiliary reconstruction's."""
    grad_pre: Float[Tensor, "..."]
    """Of both, with respect to the gate's pre-activations; none reaches the decoder (arXiv 2404.16014, equation 8)."""


def gate_path(
    sae: SparseAutoencoder, active: Products, x: Float[Tensor, "n d_in"], l1: float, scale: float
) -> GatePath:
    """Reconstruct x from the gate alone, the decoder as given; the loss is `scale / 2` times the squared error."""
    values = active.keep(active.pre.relu())
    error = active.decode(values, sae.W_dec).add_(sae.b_dec).sub_(x)
    slope = active.sample(error * scale, sae.W_dec).add_(l1)
    return GatePath(values, error.square().sum() * (scale / 2), slope.mul_(values > 0))


def decorrelation(
    W_dec: Float[Tensor, "d_sae d_in"],
    step: int = 0,
    form: Form = "repaired",
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
