"""ReLU SAE, made sparse by an L1 penalty on its latents (Bricken et al. 2023, "Towards Monosemanticity")."""

from jaxtyping import Float
from torch import Tensor

from raysae.saes.base import SparseAutoencoder
from raysae.saes.selection import Above


class ReLU(SparseAutoencoder):
    """h = relu((x - b_dec) @ W_enc + b_enc)."""

    architecture = "relu"

    def activate(self, pre: Float[Tensor, "n d_sae"]) -> Float[Tensor, "n d_sae"]:
        return pre.relu()

    def rule(self, k: float, tokens: int) -> Above:
        return Above(0.0)
