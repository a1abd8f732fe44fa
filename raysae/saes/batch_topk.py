"""BatchTopK SAE (arXiv 2412.06410): the batch, not the token, has a budget of latents."""

import torch
from jaxtyping import Float
from torch import Tensor

from raysae.saes.base import SparseAutoencoder
from raysae.saes.selection import LargestOfBatch


class BatchTopK(SparseAutoencoder):
    """In training the k * n largest positive pre-activations of a batch of n tokens are kept; afterwards those above a
    threshold, which is the running mean of the smallest value a batch kept (section 3 of the paper)."""

    architecture = "batch_topk"
    needs_k = True
    threshold: Tensor

    def __init__(self, d_in: int, d_sae: int, k: int = 0) -> None:
        super().__init__(d_in, d_sae, k)
        self.register_buffer("threshold", torch.zeros(()))

    def activate(self, pre: Float[Tensor, "n d_sae"]) -> Float[Tensor, "n d_sae"]:
        return torch.where(pre > self.threshold.clamp(min=0), pre, 0.0)

    def rule(self, k: float, tokens: int) -> LargestOfBatch:
        return LargestOfBatch(max(1, round(k * tokens)))

    def observe(self, cut: Float[Tensor, ""], weight: float) -> None:
        self.threshold.lerp_(cut, weight)

    def _in_activation_units(self) -> list[Tensor]:
        return [*super()._in_activation_units(), self.threshold]
