"""The functions of `bags.py` over a masked matrix, as dense products: faster from about one latent in ten active."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from raysae.saes.selection import Masked
from raysae.training.kernels.bags import least_positive


class Dense:
    """`values` are a matrix [n, d_sae]."""

    which = slice(None)
    dtype = torch.float32

    def __init__(self, masked: Masked, prefixes: tuple[int, ...]) -> None:
        self.pre, self._mask = masked
        self.levels = len(prefixes)
        self._columns = [slice(a, b) for a, b in zip((0, *prefixes), prefixes, strict=False)]

    def keep(self, values: Float[Tensor, "n d_sae"]) -> Float[Tensor, "n d_sae"]:
        """0 outside of the selection."""
        return values * self._mask

    def decode(self, values: Float[Tensor, "n d_sae"], rows: Float[Tensor, "d_sae d"]) -> Float[Tensor, "levels n d"]:
        return torch.stack([values[:, part] @ rows[part] for part in self._columns])

    def sample(self, stack: Float[Tensor, "levels n d"], rows: Float[Tensor, "d_sae d"]) -> Float[Tensor, "n d_sae"]:
        parts = [level @ rows[part].T for level, part in zip(stack, self._columns, strict=True)]
        return torch.cat(parts, dim=1).mul_(self._mask)

    def gather(self, values: Float[Tensor, "n d_sae"], stack: Float[Tensor, "levels n d"]) -> Float[Tensor, "d_sae d"]:
        if len(stack) == 1:
            return values.T @ stack[0]
        return torch.cat([values[:, part].T @ level for level, part in zip(stack, self._columns, strict=True)])

    def by_token(self, values: Float[Tensor, " n"]) -> Float[Tensor, "n 1"]:
        return values[:, None]

    def at(self, values: Float[Tensor, "n d_sae"], other: Int64[Tensor, " n"]) -> Float[Tensor, "n d_sae"]:
        return values[other.clamp(min=0)] * (other >= 0)[:, None]

    def total(self, values: Float[Tensor, "n d_sae"]) -> Float[Tensor, " d_sae"]:
        return values.sum(dim=0)

    def least(self, values: Float[Tensor, "n d_sae"]) -> Float[Tensor, ""]:
        return least_positive(values)
