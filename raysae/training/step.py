"""One training step of one SAE, without autograd: `differentiate` a shard, sum the shards, `update`.

Everything a step must sum over shards and workers, gradients and statistics alike, lies in one flat buffer
(`StepSums`), so that it is one reduction, and so that the sum does not depend on which worker held which shard.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from raysae.saes import SparseAutoencoder
from raysae.training.losses import aux_k
from raysae.training.optim import CLIP_NORM
from raysae.types.experiment import LossConfig

STATISTICS = ("reconstruction", "l1", "aux", "squared_error", "variance", "active", "cut")
PARAMETERS = ("W_enc", "W_dec", "b_enc", "b_dec")


class StepSums:
    """`flat` float32 [n]; the attributes are views of it, gradients first."""

    def __init__(self, d_in: int, d_sae: int, device: torch.device) -> None:
        shapes = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_in), "b_enc": (d_sae,), "b_dec": (d_in,)}
        shapes |= {"fired": (d_sae,), "statistics": (len(STATISTICS),)}
        # each view starts on a 64-byte boundary: products written to it then have the bits of a tensor of its own
        sizes = [-(-torch.Size(shape).numel() // 16) * 16 for shape in shapes.values()]
        self.flat = torch.zeros(sum(sizes), device=device)
        views = [
            part[: torch.Size(shape).numel()].view(shape)
            for part, shape in zip(self.flat.split(sizes), shapes.values(), strict=True)
        ]
        self.W_enc, self.W_dec, self.b_enc, self.b_dec, self.fired, self.statistics = views
        self.gradients = self.flat[: sum(sizes[: len(PARAMETERS)])]


def differentiate(
    sae: SparseAutoencoder,
    x: Float[Tensor, "n d_in"],
    k: float,
    loss: LossConfig,
    dead: Int64[Tensor, " dead"],
    shards_total: int,
    sums: StepSums,
) -> None:
    """Write into `sums` this shard's part of the loss, its gradients, and the statistics (SCIENCE S4, losses.py)."""
    tokens = len(x) * shards_total
    scale = 2 / (tokens * sae.d_in)
    centred = x - sae.b_dec
    pre = torch.addmm(sae.b_enc, centred, sae.W_enc)
    latents, cut = sae.select(pre, k)
    active = latents > 0
    error = torch.addmm(sae.b_dec, latents, sae.W_dec).sub_(x)

    grad_error = error * scale
    grad_pre = (grad_error @ sae.W_dec.T).add_(loss.l1 / tokens).mul_(active)
    torch.mm(latents.T, grad_error, out=sums.W_dec)
    aux_error = error.new_zeros(())
    if loss.aux and len(dead):
        aux = aux_k(pre, error, sae.W_dec, dead, loss.aux * scale)
        grad_pre.index_add_(1, dead, aux.latents)
        sums.W_dec.index_add_(0, dead, aux.rows)
        aux_error = aux.squared_error
    torch.mm(centred.T, grad_pre, out=sums.W_enc)
    torch.sum(grad_pre, dim=0, out=sums.b_enc)
    torch.sub(grad_error.sum(dim=0), sae.W_enc @ sums.b_enc, out=sums.b_dec)  # b_dec is also subtracted from the input

    torch.sum(active, dim=0, dtype=torch.float32, out=sums.fired)
    squared_error, variance = error.square().sum(), (x - x.mean(dim=0)).square().sum()
    terms = (squared_error * (scale / 2), latents.sum() * (loss.l1 / tokens), aux_error * (loss.aux * scale / 2))
    torch.stack([*terms, squared_error, variance, sums.fired.sum(), cut / shards_total], out=sums.statistics)


def update(sae: SparseAutoencoder, optimizer: torch.optim.Optimizer, sums: StepSums, lr: float) -> None:
    """Adam along the clipped gradient, the decoder's part taken tangential to its unit rows, and unit rows again."""
    radial = (sums.W_dec * sae.W_dec).sum(dim=1, keepdim=True)
    sums.W_dec.addcmul_(sae.W_dec, radial, value=-1)
    sums.gradients.mul_((CLIP_NORM / torch.linalg.vector_norm(sums.gradients)).clamp_(max=1))
    for name in PARAMETERS:
        getattr(sae, name).grad = getattr(sums, name)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    sae.W_dec.div_(sae.W_dec.norm(dim=1, keepdim=True))
