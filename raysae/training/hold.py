"""What a null SAE keeps of its random beginning while the rest of it learns (N3, N3s, N3e; arXiv 2602.14111)."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from raysae.saes import SparseAutoencoder
from raysae.training.step import StepSums

HoldName = Literal["frozen_decoder", "soft_frozen_decoder", "frozen_encoder"]
HOLDS: tuple[HoldName, ...] = ("frozen_decoder", "soft_frozen_decoder", "frozen_encoder")
SOFT_COSINE = 0.8
"""Least cosine of a soft-frozen decoder row with the one it began as."""


class Hold:
    """Bound to a fresh SAE, whose weights at that moment are the beginning; a resumed one is bound before it is
    restored."""

    def __init__(self, name: HoldName, sae: SparseAutoencoder) -> None:
        self.name = name
        self.first = (sae.W_enc if name == "frozen_encoder" else sae.W_dec).detach().clone()

    def silence(self, sums: StepSums) -> None:
        """The gradient of what is frozen counts for nothing, the clipping of the others included."""
        if self.name == "frozen_decoder":
            sums.W_dec.zero_()
        elif self.name == "frozen_encoder":
            sums.W_enc.zero_()

    def restrain(self, sae: SparseAutoencoder) -> None:
        """After the update: back to the beginning, or back to within `SOFT_COSINE` of it."""
        if self.name == "frozen_encoder":
            sae.W_enc.copy_(self.first)
        elif self.name == "frozen_decoder":
            sae.W_dec.copy_(self.first)
        else:
            sae.W_dec.copy_(within(sae.W_dec, self.first, SOFT_COSINE))


def within(rows: Float[Tensor, "m d"], first: Float[Tensor, "m d"], cosine: float) -> Float[Tensor, "m d"]:
    """The unit `rows`, each that has left the cone about its unit `first` moved to the nearest point of the cone."""
    along = (rows * first).sum(dim=1, keepdim=True)
    across = rows - along * first
    across /= across.norm(dim=1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
    edge = cosine * first + (1 - cosine**2) ** 0.5 * across
    return torch.where(along < cosine, edge, rows)
