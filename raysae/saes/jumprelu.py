"""JumpReLU SAE (arXiv 2407.14435): a learnt threshold per latent, by straight-through gradients, and an L0 loss."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from raysae.saes.base import Pull, SparseAutoencoder, Which
from raysae.saes.selection import Above

BANDWIDTH = 0.05
"""Width of the rectangle kernel, in units where activations have a mean square of 1 per dimension. The paper's 0.001 is
in units of the whole vector's norm: the same at d_in = 2,500."""
INITIAL_THRESHOLD = 0.1


class JumpReLU(SparseAutoencoder):
    """h = pre where pre > threshold, else 0.

    The threshold itself is trained and kept at or above 0, not its logarithm, which Adam would hardly move.
    """

    architecture = "jumprelu"

    def __init__(self, d_in: int, d_sae: int, k: int = 0) -> None:
        super().__init__(d_in, d_sae, k)
        self.threshold = nn.Parameter(torch.full((d_sae,), INITIAL_THRESHOLD))

    def activate(self, pre: Float[Tensor, "n d_sae"]) -> Float[Tensor, "n d_sae"]:
        return torch.where(pre > self.threshold, pre, 0.0)

    def rule(self, k: float, tokens: int) -> Above:
        """Active latents, and those so close below their threshold that they pull at it."""
        return Above(self.threshold - BANDWIDTH / 2)

    def respond(self, pre: Float[Tensor, "..."], which: Which) -> Float[Tensor, "..."]:
        return torch.where(pre > self.threshold[which], pre, 0.0)

    def pull(self, pre: Float[Tensor, "..."], which: Which, grad: Float[Tensor, "..."], l0: float) -> Pull:
        """Equations 11 and 12 of the paper, with K the rectangle: the pseudo-derivative of h with respect to its
        threshold is -threshold / bandwidth * K((pre - threshold) / bandwidth), that of the step -1 / bandwidth * K."""
        threshold = self.threshold[which]
        near = ((pre - threshold).abs() < BANDWIDTH / 2) / BANDWIDTH
        return Pull(torch.where(pre > threshold, grad, 0.0), {"threshold": -near * (threshold * grad + l0)})

    def revive(self, dead: Int64[Tensor, " dead"]) -> None:
        super().revive(dead)
        self.threshold[dead] = INITIAL_THRESHOLD

    def project(self) -> None:
        self.threshold.clamp_(min=0)

    def _in_activation_units(self) -> list[Tensor]:
        return [*super()._in_activation_units(), self.threshold]
