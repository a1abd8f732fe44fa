"""Which latents of a batch take part in a training step: exactly the asked-for ones, as a list or, where dense, a mask.

A rule first finds a bound below its cut. The maxima of interleaved groups of latents are values of the batch too, so
their k-th largest is at most the k-th largest of all; one pass over the batch then leaves few candidates, and only
those are sorted (a flat `torch.topk` of 2,048 x 4,096 values takes longer than the product that made them).

`slack` is for pre-activations that are only known to within it: the candidates are then a superset, which the caller
computes again exactly (`refine`) before the rule decides.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

DENSE = 0.1
"""From this share of active latents on, dense products are faster than sparse ones."""
GROUPS = (16, 8, 4, 2, 1)
"""Sizes of a group whose maximum is taken."""
OUTPUT_ROUNDING = 2.0**-7
"""Twice the relative rounding of a bfloat16 value, which the bound and the value both carry."""


class Listed(NamedTuple):
    """Chosen (token, latent) pairs, by token. A pair whose value is not positive adds nothing."""

    pre: Float[Tensor, " pairs"]
    token: Int64[Tensor, " pairs"]
    latent: Int64[Tensor, " pairs"]


class Masked(NamedTuple):
    """The same where many are chosen, or where counting them would wait for the device."""

    pre: Float[Tensor, "n d_sae"]
    mask: Bool[Tensor, "n d_sae"]


Selection = Listed | Masked
Refine = Callable[[Listed], Listed]
"""The same pairs with their exact pre-activations."""


class Rule(ABC):
    """Says which latents of a batch take part."""

    @abstractmethod
    def choose(self, pre: Float[Tensor, "n d_sae"]) -> Selection:
        """From exact pre-activations."""

    @abstractmethod
    def screen(self, pre: Float[Tensor, "n d_sae"], slack: Float[Tensor, " n"], refine: Refine) -> Listed | None:
        """The same selection from pre-activations known to within `slack`; None where its candidates are many."""


@dataclass(frozen=True)
class Above(Rule):
    """Every latent whose pre-activation exceeds its own floor."""

    floor: Float[Tensor, " d_sae"] | float

    def choose(self, pre: Float[Tensor, "n d_sae"]) -> Selection:
        mask = exceeds(pre, self.floor)
        return Masked(pre.float(), mask) if _is_dense(mask) else listed(pre, mask)

    def screen(self, pre: Float[Tensor, "n d_sae"], slack: Float[Tensor, " n"], refine: Refine) -> Listed | None:
        if isinstance(self.floor, Tensor):  # the widest slack for all tokens, so that no matrix of floors is made
            lowered = self.floor - slack.amax() - self.floor.abs() * OUTPUT_ROUNDING
        else:
            lowered = (self.floor - slack - abs(self.floor) * OUTPUT_ROUNDING)[:, None]
        mask = exceeds(pre, lowered)
        if _is_dense(mask):
            return None
        pairs = refine(listed(pre, mask))
        return _keep(pairs, pairs.pre > (self.floor[pairs.latent] if isinstance(self.floor, Tensor) else self.floor))


@dataclass(frozen=True)
class LargestOfToken(Rule):
    """The `k` largest positive pre-activations of each token; of equal ones the first."""

    k: int

    def choose(self, pre: Float[Tensor, "n d_sae"]) -> Selection:
        n, d_sae = pre.shape
        if self.k <= DENSE * d_sae and pre.device.type == "cpu":
            pairs = _candidates(pre, self._bound(pre), None)
            return _keep(pairs, _largest_of_each(pairs, n, self.k))
        value, latent = pre.topk(min(self.k, d_sae), dim=1)
        if self.k > DENSE * d_sae:
            return Masked(pre.float(), torch.zeros_like(pre, dtype=torch.bool).scatter_(1, latent, value > 0))
        token = torch.arange(n, device=pre.device).repeat_interleave(self.k)
        return Listed(value.flatten().float(), token, latent.flatten())

    def screen(self, pre: Float[Tensor, "n d_sae"], slack: Float[Tensor, " n"], refine: Refine) -> Listed | None:
        if self.k > DENSE * pre.shape[1]:
            return None
        pairs = refine(_candidates(pre, self._bound(pre) - slack, slack))
        return _keep(pairs, _largest_of_each(pairs, len(pre), self.k))

    def _bound(self, pre: Float[Tensor, "n d_sae"]) -> Float[Tensor, " n"]:
        return kth_largest(_group_maxima(pre, self.k), self.k)[:, 0]


@dataclass(frozen=True)
class LargestOfBatch(Rule):
    """The `count` largest positive pre-activations of all tokens together; of equal ones the first."""

    count: int

    def choose(self, pre: Float[Tensor, "n d_sae"]) -> Selection:
        count, (n, d_sae) = min(self.count, pre.numel()), pre.shape
        if count <= DENSE * pre.numel() and pre.device.type == "cpu":
            pairs = _candidates(pre, self._bound(pre).expand(n), None)
            return _keep(pairs, _largest(pairs.pre, count))
        value, place = pre.flatten().topk(count)
        if count > DENSE * pre.numel():
            mask = torch.zeros_like(pre, dtype=torch.bool).flatten().scatter_(0, place, value > 0)
            return Masked(pre.float(), mask.view(n, d_sae))
        place = place.sort().values
        return Listed(pre.flatten()[place].float(), place // d_sae, place % d_sae)

    def screen(self, pre: Float[Tensor, "n d_sae"], slack: Float[Tensor, " n"], refine: Refine) -> Listed | None:
        if self.count > DENSE * pre.numel():
            return None
        pairs = refine(_candidates(pre, (self._bound(pre) - slack.amax()).expand(len(pre)), slack))
        return _keep(pairs, _largest(pairs.pre, self.count))

    def _bound(self, pre: Float[Tensor, "n d_sae"]) -> Float[Tensor, ""]:
        return kth_largest(_group_maxima(pre, -(-self.count // len(pre))).flatten()[None], self.count)[0, 0]


def kth_largest(values: Float[Tensor, "n m"], k: int) -> Float[Tensor, "n 1"]:
    """Per row, k at most m; on the CPU numpy's partial sort, which `torch.topk` is several times slower than."""
    if values.device.type == "cpu":
        place = values.shape[1] - k
        return torch.from_numpy(np.partition(values.float().numpy(), place, axis=1)[:, place : place + 1])
    return values.topk(k, dim=1, sorted=False).values.amin(dim=1, keepdim=True)


def listed(pre: Float[Tensor, "n d_sae"], mask: Bool[Tensor, "n d_sae"]) -> Listed:
    """The pairs of a mask."""
    place = (
        torch.from_numpy(np.flatnonzero(mask.numpy())) if mask.device.type == "cpu" else mask.flatten().nonzero()[:, 0]
    )
    token = place // pre.shape[1]
    return Listed(pre.flatten()[place].float(), token, place - token * pre.shape[1])


def exceeds(pre: Float[Tensor, "n d_sae"], floor: Float[Tensor, "..."] | float) -> Bool[Tensor, "n d_sae"]:
    """pre > floor, for a floor of one number, of a column or of a row.

    PERF: on the CPU torch compares bfloat16 three times as slowly as numpy compares the same bits as integers, which
    sort like the numbers among positive ones and, unsigned, backwards among negative ones.
    """
    if pre.device.type != "cpu":
        return pre > floor
    floor = torch.as_tensor(floor).to(pre.dtype)
    if pre.dtype is not torch.bfloat16:
        return torch.from_numpy(np.greater(pre.numpy(), floor.numpy()))
    bits, least = pre.view(torch.int16).numpy(), floor.contiguous().view(torch.int16).numpy()
    if (least >= 0).all():
        return torch.from_numpy(np.greater(bits, least))
    if (least < 0).all():
        return torch.from_numpy(np.less(bits.view(np.uint16), least.view(np.uint16)))
    return pre > floor


def _group_maxima(pre: Float[Tensor, "n d_sae"], k: int) -> Float[Tensor, "n groups"]:
    """Of groups as large as leave about twice as many of them as values are wanted of a token."""
    n, d_sae = pre.shape
    size = next(size for size in GROUPS if d_sae % size == 0 and (d_sae // size >= 2 * k or size == 1))
    return pre.view(n, size, d_sae // size).amax(dim=1)


def _candidates(pre: Float[Tensor, "n d_sae"], bound: Float[Tensor, " n"], slack: Float[Tensor, " n"] | None) -> Listed:
    """Every value that may be positive and not below `bound`."""
    if slack is None:
        below = (
            bound.nextafter(torch.full_like(bound, -torch.inf)) if pre.dtype is torch.float32 else bound * (1 - 2**-7)
        )
        return listed(pre, exceeds(pre, below.clamp(min=0)[:, None]))
    return listed(pre, exceeds(pre, (bound - slack - bound.abs() * OUTPUT_ROUNDING).maximum(-slack)[:, None]))


def _is_dense(mask: Bool[Tensor, "n d_sae"]) -> bool:
    """Off the CPU always, because counting would wait for the device."""
    return mask.device.type != "cpu" or int(np.count_nonzero(mask.numpy())) > DENSE * mask.numel()


def _largest_of_each(pairs: Listed, n: int, k: int) -> Bool[Tensor, " pairs"]:
    """Which pairs are among the k largest positive of their token, by way of a padded row per token."""
    width = torch.bincount(pairs.token, minlength=n)
    column = torch.arange(len(pairs.token)) - (width.cumsum(0) - width)[pairs.token]
    columns = int(width.max()) if len(pairs.token) else 0
    if columns <= k:
        return pairs.pre > 0
    rows = torch.full((n, columns), -torch.inf)
    rows[pairs.token, column] = pairs.pre
    cut = kth_largest(rows, k)
    more, equal = rows > cut, rows == cut
    keep = more | (equal & (equal.cumsum(dim=1) <= k - more.sum(dim=1, keepdim=True)))
    return keep[pairs.token, column] & (pairs.pre > 0)


def _largest(values: Float[Tensor, " m"], count: int) -> Bool[Tensor, " m"]:
    if len(values) <= count:
        return values > 0
    cut = kth_largest(values[None], count)[0]
    more, equal = values > cut, values == cut
    return (more | (equal & (equal.cumsum(0) <= count - more.sum()))) & (values > 0)


def _keep(pairs: Listed, keep: Bool[Tensor, " pairs"]) -> Listed:
    kept = keep.nonzero()[:, 0]
    return Listed(pairs.pre[kept], pairs.token[kept], pairs.latent[kept])
