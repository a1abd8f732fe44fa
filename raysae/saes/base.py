"""What every sparse autoencoder is: four tensors, `encode`, `decode`, and the selection it is trained with."""

import copy
from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn


class SAEOutput(NamedTuple):
    """What `forward` returns."""

    latents: Float[Tensor, "n d_sae"]
    reconstruction: Float[Tensor, "n d_in"]


class Selection(NamedTuple):
    """Latents as the training step sees them, and the smallest value that was kept (0 where nothing is cut)."""

    latents: Float[Tensor, "n d_sae"]
    cut: Float[Tensor, ""]


class SparseAutoencoder(nn.Module, ABC):
    """x -> h(x) -> x_hat = h @ W_dec + b_dec, with unit-norm rows of W_dec (SCIENCE 0.1)."""

    architecture: ClassVar[str]
    """Its row in `raysae.saes.ARCHITECTURES`."""
    needs_k: ClassVar[bool]
    """Whether `k` means anything to it."""

    def __init__(self, d_in: int, d_sae: int, k: int = 0) -> None:
        super().__init__()
        self.d_in, self.d_sae, self.k = d_in, d_sae, k
        self.W_enc = nn.Parameter(torch.zeros(d_in, d_sae))
        self.W_dec = nn.Parameter(torch.zeros(d_sae, d_in))
        self.b_enc = nn.Parameter(torch.zeros(d_sae))
        self.b_dec = nn.Parameter(torch.zeros(d_in))

    def pre_activations(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_sae"]:
        """(x - b_dec) @ W_enc + b_enc."""
        return torch.addmm(self.b_enc, x - self.b_dec, self.W_enc)

    @abstractmethod
    def activate(self, pre: Float[Tensor, "n d_sae"]) -> Float[Tensor, "n d_sae"]:
        """Inference: the latents of each token, whatever else is in the batch."""

    @abstractmethod
    def select(self, pre: Float[Tensor, "n d_sae"], k: float) -> Selection:
        """Training: latents are `pre` where they are positive, 0 elsewhere; `k` of them per token in the mean."""

    def observe(self, cut: Float[Tensor, ""], weight: float) -> None:
        """Take this step's mean `Selection.cut` into what inference needs, as a running mean of this weight."""

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

        Everything between the ReLU and its homogeneity: W_enc and the unit rows of W_dec stay, whatever is measured in
        units of activations shrinks, and the latents come out in raw units.
        """
        raw = copy.deepcopy(self)
        for tensor in raw._in_activation_units():
            tensor.div_(input_scale)
        return raw

    def _in_activation_units(self) -> list[Tensor]:
        return [self.b_enc, self.b_dec]
