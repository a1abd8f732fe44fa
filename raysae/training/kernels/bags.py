"""Products over a list of (token, latent) pairs, as weighted sums of matrix rows (`torch.embedding_bag`).

PERF: the fastest stock sparse product on a CPU; each is a few percent of its dense counterpart at 1 % density. MKL's
CSR is 2 to 3 times slower, gather + index_add slower than dense. On an accelerator: `triton_bags.py`.
"""

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy.sparse import csr_array
from torch import Tensor

from raysae.saes.selection import Listed


class Bags:
    """`values` are one per pair, in the order of `pre`; a row of a stack [levels, n, d] is one token at one level.

    A level is one of the nested dictionaries (`SparseAutoencoder.prefixes`): a latent belongs to the first it is in.
    """

    def __init__(
        self, pairs: Listed, prefixes: tuple[int, ...], tokens: int, dtype: torch.dtype = torch.float32
    ) -> None:
        self.dtype = dtype
        """What rows are read as: most of a sum's time is their way from memory. Sums are made in float32;
        on a CPU those of bfloat16 rows are rounded to bfloat16 once they are made."""
        self.tokens, self.levels, self.d_sae = tokens, len(prefixes), prefixes[-1]
        row = pairs.token
        if self.levels > 1:
            bounds = torch.tensor(prefixes, device=row.device)
            row = torch.bucketize(pairs.latent, bounds, right=True) * tokens + row
            row, order = row.sort(stable=True)
            pairs = Listed(*(part[order] for part in pairs))
        self.pre, self.token, self.which = pairs
        self._row = row
        self._first = _first_of_each(row, self.levels * tokens)

    def keep(self, values: Float[Tensor, " pairs"]) -> Float[Tensor, " pairs"]:
        """Nothing to remove: every pair was selected."""
        return values

    def decode(self, values: Float[Tensor, " pairs"], rows: Float[Tensor, "d_sae d"]) -> Float[Tensor, "levels n d"]:
        """What the latents of each level add to each token: sum of value * row of its latent."""
        sums = bag(rows.to(self.dtype), self.which, self._first, values).float()
        return sums.view(self.levels, self.tokens, rows.shape[1])

    def sample(self, stack: Float[Tensor, "levels n d"], rows: Float[Tensor, "d_sae d"]) -> Float[Tensor, " pairs"]:
        """The inner product of each pair's token, at the latent's level, with the latent's row."""
        stack = stack.to(self.dtype).reshape(-1, stack.shape[2])
        return sampled(stack, rows.to(self.dtype), self._row, self.which, self._by_latent)

    def gather(self, values: Float[Tensor, " pairs"], stack: Float[Tensor, "levels n d"]) -> Float[Tensor, "d_sae d"]:
        """By latent: sum over its pairs of value * the token's row at the latent's level; one level serves all."""
        order, first, row, _ = self._by_latent
        stack = stack.to(self.dtype)
        place = row % self.tokens if len(stack) < self.levels else row
        return bag(stack.reshape(-1, stack.shape[2]), place, first, values[order])

    def by_token(self, values: Float[Tensor, " n"]) -> Float[Tensor, " pairs"]:
        """Each pair's token's value."""
        return values[self.token]

    def at(self, values: Float[Tensor, " pairs"], other: Int64[Tensor, " n"]) -> Float[Tensor, " pairs"]:
        """The value of the same latent at another token, given by token; 0 where it is not active there, or at -1."""
        key, order = (self._row * self.d_sae + self.which).sort()
        shifted = self._row - self.token + other[self.token]
        wanted = torch.where(other[self.token] >= 0, shifted * self.d_sae + self.which, -1)
        place = torch.searchsorted(key, wanted).clamp(max=max(len(key) - 1, 0))
        return torch.where(key[place] == wanted, values[order[place]], 0.0)

    def total(self, values: Float[Tensor, " pairs"]) -> Float[Tensor, " d_sae"]:
        """By latent: the sum over its pairs."""
        return values.new_zeros(self.d_sae).index_add_(0, self.which, values)

    def least(self, values: Float[Tensor, " pairs"]) -> Float[Tensor, ""]:
        """The smallest positive value; 0 where there is none."""
        return least_positive(values)

    @cached_property
    def _by_latent(self) -> "ByLatent":
        return by_latent(self._row, self.which, self.levels * self.tokens, self.d_sae)


class ByLatent(NamedTuple):
    """A list of pairs sorted by latent and then by row."""

    order: Int64[Tensor, " pairs"]
    first: Int64[Tensor, " d_sae"]
    """Each latent's first place."""
    row: Int64[Tensor, " pairs"]
    latent: Int64[Tensor, " pairs"]


def by_latent(row: Int64[Tensor, " pairs"], latent: Int64[Tensor, " pairs"], rows: int, d_sae: int) -> ByLatent:
    """`row` ascending. PERF: on a CPU the transposition of a sparse matrix, several times faster than sorting."""
    if latent.device.type != "cpu":
        order = latent.sort(stable=True).indices
        return ByLatent(order, _first_of_each(latent[order], d_sae), row[order], latent[order])
    bounds = np.append(_first_of_each(row, rows).numpy(), len(row)).astype(np.int32)
    pairs = csr_array((np.arange(len(row), dtype=np.int32), latent.numpy().astype(np.int32), bounds), (rows, d_sae))
    columns = pairs.tocsc()
    first = torch.from_numpy(columns.indptr).long()
    sorted_latent = torch.arange(d_sae).repeat_interleave(first.diff())
    return ByLatent(
        torch.from_numpy(columns.data).long(), first[:-1], torch.from_numpy(columns.indices).long(), sorted_latent
    )


def bag(
    rows: Float[Tensor, "m d"],
    which: Int64[Tensor, " pairs"],
    first: Int64[Tensor, " bags"],
    weights: Float[Tensor, " pairs"],
) -> Float[Tensor, "bags d"]:
    """Sums of `rows[which]` times `weights`, cut into bags that begin at `first`; on a CPU of the type of `rows`, to
    which the weights are rounded as well."""
    if rows.is_cuda:
        return _triton().bag(rows, which, first, weights)
    return torch.embedding_bag(rows, which, first, False, 0, False, weights.to(rows.dtype))[0]


def sampled(
    left: Float[Tensor, "n d"],
    right: Float[Tensor, "m d"],
    row: Int64[Tensor, " pairs"],
    which: Int64[Tensor, " pairs"],
    sorted_pairs: ByLatent | None = None,
) -> Float[Tensor, " pairs"]:
    """left[row] . right[which] for each pair, `row` ascending.

    PERF: taken latent by latent, because then one of the two rows is at hand: half the time at 3 % density.
    """
    order, first, rows, latent = sorted_pairs or by_latent(row, which, len(left), len(right))
    if left.is_cuda:
        products = _triton().sampled(left, right, rows, latent)
        return torch.empty_like(products).index_copy_(0, order, products)
    products = torch.ops.aten._embedding_bag_per_sample_weights_backward(left, right, latent, first, rows, 0)
    return torch.empty(len(order), device=left.device).index_copy_(0, order, products.float())


def _triton() -> Any:
    """Imported where it is needed: a machine without an accelerator may have none."""
    from raysae.training.kernels import triton_bags

    return triton_bags


def least_positive(values: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    inf = torch.full((1,), torch.inf, device=values.device)
    least = torch.cat([torch.where(values > 0, values, torch.inf).flatten(), inf]).amin()
    return torch.where(least.isinf(), 0.0, least)


def _first_of_each(ascending: Int64[Tensor, " pairs"], count: int) -> Int64[Tensor, " count"]:
    """Where each of 0 .. count - 1 begins."""
    return torch.searchsorted(ascending, torch.arange(count, device=ascending.device))
