"""TopK SAE (arXiv 2406.04093): every token keeps its k largest latents."""

import torch
from jaxtyping import Float
from torch import Tensor

from raysae.saes.base import SparseAutoencoder
from raysae.saes.selection import LargestOfToken


class TopK(SparseAutoencoder):
    """h = relu of the k largest pre-activations of each token, in training and afterwards (section 2.3)."""

    architecture = "topk"
    needs_k = True

    def activate(self, pre: Float[Tensor, "n d_sae"]) -> Float[Tensor, "n d_sae"]:
        largest = pre.topk(self.k, dim=1, sorted=False)
        return torch.zeros_like(pre).scatter_(1, largest.indices, largest.values.relu())

    def rule(self, k: float, tokens: int) -> LargestOfToken:
        return LargestOfToken(min(self.d_sae, max(1, round(k))))
