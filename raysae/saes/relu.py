"""ReLU SAE, made sparse by an L1 penalty on its latents (Bricken et al. 2023, "Towards Monosemanticity")."""

from jaxtyping import Float
from torch import Tensor

from raysae.saes.base import Selection, SparseAutoencoder


class ReLU(SparseAutoencoder):
    """h = relu((x - b_dec) @ W_enc + b_enc)."""

    architecture = "relu"
    needs_k = False

    def activate(self, pre: Float[Tensor, "n d_sae"]) -> Float[Tensor, "n d_sae"]:
        return pre.relu()

    def select(self, pre: Float[Tensor, "n d_sae"], k: float) -> Selection:
        return Selection(pre.relu(), pre.new_zeros(()))
