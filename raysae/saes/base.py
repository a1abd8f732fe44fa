"""What every sparse autoencoder is: four tensors, `encode`, `decode`, and what a training step asks of it.

A step works on the latents that take part in it (`selection.py`), in whatever shape they come: as a list of (token,
latent) pairs or as a masked matrix. So the per-latent tensors of an architecture are read as `tensor[which]`, where
`which` is the list's latents, or the slice of all of them.
"""

import copy
from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from raysae.saes.selection import Rule

Which = Int64[Tensor, " pairs"] | slice
"""The latents a step works on: indices of a list, or `slice(None)` for the columns of a matrix."""


class SAEOutput(NamedTuple):
    """What `forward` returns."""

    latents: Float[Tensor, "n d_sae"]
    reconstruction: Float[Tensor, "n d_in"]


class Pull(NamedTuple):
    """What a step's loss pulls at, in the shape of `pre`."""

    pre: Float[Tensor, "..."]
    """Gradient with respect to the pre-activations."""
    own: dict[str, Float[Tensor, "..."]]
    """With respect to the architecture's own parameters, one value per latent each, still to be summed over tokens."""


class SparseAutoencoder(nn.Module, ABC):
    """x -> h(x) -> x_hat = h @ W_dec + b_dec, with unit-norm rows of W_dec (SCIENCE 0.1)."""

    architecture: ClassVar[str]
    """Its row in `raysae.saes.ARCHITECTURES`."""
    needs_k: ClassVar[bool] = False
    """Whether `k` means anything to it."""
    penalises_gate: ClassVar[bool] = False
    """Whether the L1 penalty falls on relu(pre), which a frozen decoder then also reconstructs from (gated)."""

    def __init__(self, d_in: int, d_sae: int, k: int = 0) -> None:
        super().__init__()
        self.d_in, self.d_sae, self.k = d_in, d_sae, k
        # PERF: stored latent by latent, so that its gradient is made of whole rows and a product reads it in order
        self.W_enc = nn.Parameter(torch.zeros(d_sae, d_in).T)
        self.W_dec = nn.Parameter(torch.zeros(d_sae, d_in))
        self.b_enc = nn.Parameter(torch.zeros(d_sae))
        self.b_dec = nn.Parameter(torch.zeros(d_in))

    @property
    def prefixes(self) -> tuple[int, ...]:
        """Widths of the nested dictionaries that each reconstruct x in training, the last of them d_sae."""
        return (self.d_sae,)

    def pre_activations(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_sae"]:
        """(x - b_dec) @ W_enc + b_enc."""
        return torch.addmm(self.b_enc, x - self.b_dec, self.W_enc)

    @abstractmethod
    def activate(self, pre: Float[Tensor, "n d_sae"]) -> Float[Tensor, "n d_sae"]:
        """Inference: the latents of each token, whatever else is in the batch."""

    @abstractmethod
    def rule(self, k: float, tokens: int) -> Rule:
        """Training: which latents of a batch of `tokens` take part, `k` of them per token in the mean."""

    def respond(self, pre: Float[Tensor, "..."], which: Which) -> Float[Tensor, "..."]:
        """Training: the values of latents that take part."""
        return pre.relu()

    def pull(self, pre: Float[Tensor, "..."], which: Which, grad: Float[Tensor, "..."], l0: float) -> Pull:
        """From the gradient with respect to `respond`'s values, and the weight of each active latent in the L0 loss."""
        return Pull(grad * (pre > 0), {})

    def strength(self) -> tuple[Float[Tensor, "d_in d_sae"], Float[Tensor, " d_sae"]]:
        """The encoder and bias whose pre-activations are the values of the latents that fire."""
        return self.W_enc, self.b_enc

    def observe(self, cut: Float[Tensor, ""], weight: float) -> None:
        """Take the mean over shards of the smallest value a step kept into what inference needs, with this weight."""

    def revive(self, dead: Int64[Tensor, " dead"]) -> None:
        """Latents that begin again: their biases and own parameters as in the beginning."""
        self.b_enc[dead] = 0

    def project(self) -> None:
        """After an optimizer step: own parameters back to where they may be."""

    def encode(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_sae"]:
        return self.activate(self.pre_activations(x))

    def decode(self, latents: Float[Tensor, "n d_sae"]) -> Float[Tensor, "n d_in"]:
        return torch.addmm(self.b_dec, latents, self.W_dec)

    def forward(self, x: Float[Tensor, "n d_in"]) -> SAEOutput:
        latents = self.encode(x)
        return SAEOutput(latents, self.decode(latents))

    @torch.no_grad()
    def unscaled(self, input_scale: float) -> "SparseAutoencoder":
        """A copy that reads x where this one reads input_scale * x, and reconstructs x.

        Everything between is homogeneous: W_enc and the unit rows of W_dec stay, whatever is measured in units of
        activations shrinks, and the latents come out in raw units.
        """
        raw = copy.deepcopy(self)
        for tensor in raw._in_activation_units():
            tensor.div_(input_scale)
        return raw

    def _in_activation_units(self) -> list[Tensor]:
        return [self.b_enc, self.b_dec]
