"""Dead latents begin again, as readers of what is reconstructed worst (Bricken et al. 2023, "Towards Monosemanticity").

Every worker must choose the same tokens without seeing the others' shards: each shard puts its own worst ones into its
place of a buffer, and the sum over workers, to which all others add zeros, is the same everywhere.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from raysae.saes import SparseAutoencoder

ENCODER_SHARE = 0.2
"""Norm of a new encoder column, as a share of the mean over the living."""
LAST_THIRD = 2 / 3


def due(step: int, steps: int, every: int) -> bool:
    """Not at the beginning, nor so late that a new latent could not be learnt."""
    return every > 0 and step > 0 and step % every == 0 and step < steps * LAST_THIRD


def worst_tokens(sae: SparseAutoencoder, x: Float[Tensor, "n d_in"], count: int) -> Float[Tensor, "count d_in"]:
    """The tokens of a shard with the largest squared error, centred; zeros where the shard has fewer."""
    error = (sae(x).reconstruction - x).square().sum(dim=1)
    worst = error.topk(min(count, len(x))).indices
    found = x.new_zeros(count, sae.d_in)
    found[: len(worst)] = x[worst] - sae.b_dec
    return found


def resample(
    sae: SparseAutoencoder,
    optimizer: torch.optim.Optimizer,
    dead: Int64[Tensor, " dead"],
    tokens: Float[Tensor, "tokens d_in"],
) -> None:
    """Point the dead latents at `tokens`, at least as many as they are, and forget their moments.

    A token of zeros points nowhere: its latent keeps its decoder row, and its encoder is tied to that.
    """
    rows = tokens[: len(dead)]
    norms = rows.norm(dim=1, keepdim=True)
    alive = torch.ones(sae.d_sae, dtype=torch.bool, device=dead.device).index_fill_(0, dead, False)
    size = sae.W_enc.norm(dim=0)[alive].mean() if bool(alive.any()) else sae.W_enc.norm(dim=0).mean()
    rows = torch.where(norms > 0, rows / norms.clamp(min=torch.finfo(rows.dtype).tiny), sae.W_dec[dead])
    sae.W_dec[dead] = rows
    sae.W_enc.T[dead] = rows * (size * ENCODER_SHARE)
    sae.revive(dead)
    for name, parameter in sae.named_parameters():
        if name == "b_dec":  # of no latent; every other parameter has one part of each
            continue
        for moment in ("exp_avg", "exp_avg_sq"):
            of_latents = optimizer.state[parameter][moment]
            (of_latents.T if name == "W_enc" else of_latents)[dead] = 0
