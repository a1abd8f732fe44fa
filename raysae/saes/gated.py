"""Gated SAE (arXiv 2404.16014): one path decides which latents fire, another, sharing its weights, how strongly."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from raysae.saes.base import Pull, SparseAutoencoder, Which
from raysae.saes.selection import Above


class Gated(SparseAutoencoder):
    """h = 1[gate > 0] * relu(magnitude), where
    gate = (x - b_dec) @ W_enc + b_enc   and   magnitude = exp(r_mag) * ((x - b_dec) @ W_enc) + b_mag.

    The gate is the pre-activation here and its bias is `b_enc`, which SAELens calls `b_gate`. It learns from the L1
    penalty and from an auxiliary reconstruction through a frozen copy of the decoder (equation 8 of the paper).
    """

    architecture = "gated"
    penalises_gate = True

    def __init__(self, d_in: int, d_sae: int, k: int = 0) -> None:
        super().__init__(d_in, d_sae, k)
        self.r_mag = nn.Parameter(torch.zeros(d_sae))
        self.b_mag = nn.Parameter(torch.zeros(d_sae))

    def activate(self, pre: Float[Tensor, "n d_sae"]) -> Float[Tensor, "n d_sae"]:
        return torch.where(pre > 0, self.respond(pre, slice(None)), 0.0)

    def rule(self, k: float, tokens: int) -> Above:
        return Above(0.0)

    def respond(self, pre: Float[Tensor, "..."], which: Which) -> Float[Tensor, "..."]:
        return (self.r_mag[which].exp() * (pre - self.b_enc[which]) + self.b_mag[which]).relu()

    def pull(self, pre: Float[Tensor, "..."], which: Which, grad: Float[Tensor, "..."], l0: float) -> Pull:
        scale = self.r_mag[which].exp()
        linear = scale * (pre - self.b_enc[which])
        grad = grad * ((linear + self.b_mag[which] > 0) & (pre > 0))
        return Pull(grad * scale, {"r_mag": grad * linear, "b_mag": grad, "b_enc": -grad * scale})

    def strength(self) -> tuple[Float[Tensor, "d_in d_sae"], Float[Tensor, " d_sae"]]:
        return self.W_enc * self.r_mag.exp(), self.b_mag

    def revive(self, dead: Int64[Tensor, " dead"]) -> None:
        super().revive(dead)
        self.r_mag[dead] = 0
        self.b_mag[dead] = 0

    def _in_activation_units(self) -> list[Tensor]:
        return [*super()._in_activation_units(), self.b_mag]
