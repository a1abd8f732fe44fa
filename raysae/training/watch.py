"""How an SAE in training does on FIT tokens that it is not trained on."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from raysae.saes import SparseAutoencoder
from raysae.training.guides import LinearProbe


class Watched(NamedTuple):
    """FIT tokens, in the units the SAE in training reads."""

    x: Float[Tensor, "n d_in"]
    label: Int64[Tensor, " n"] | None
    """-1 where a token has none."""

    @torch.no_grad()
    def numbers(self, sae: SparseAutoencoder, probe: LinearProbe | None) -> dict[str, float]:
        """FVU and L0 by the SAE's inference; with labels, how often the probe names them."""
        latents, reconstruction = sae(self.x)
        missed = (reconstruction - self.x).square().sum() / (self.x - self.x.mean(dim=0)).square().sum()
        found = {"fit_fvu": float(missed), "fit_l0": float((latents > 0).sum(dim=1).float().mean())}
        if probe is not None and self.label is not None:
            known = self.label >= 0
            named = (latents @ probe.rows + probe.bias).argmax(dim=1) == self.label
            found["fit_probe_accuracy"] = float((named & known).sum() / known.sum().clamp(min=1))
        return found
