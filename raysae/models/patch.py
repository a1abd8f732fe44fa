"""Many edits of one place in a text, in one forward pass behind the hook point.

The prefix of a text is the same for every edit, so it is computed once: behind it stand copies of what follows the
edited place, one for each edit, and a mask that lets a copy see the prefix and itself.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from raysae.models.capture import resume
from raysae.models.families import blocks, down_projection
from raysae.types import HookPoint
from raysae.types.hookpoint import LINEAR_SITES

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKENS = 4096
"""Per forward pass, prefix and copies together: small enough for a cache, large enough for the overhead."""
COPIED = 128
"""Tokens of copies in one row: each attends to all others only to be masked, so more would cost more than they save."""


def reach(model: "PreTrainedModel", layer: int, window: int) -> int:
    """How many predictions an edit at block `layer` can change, out of `window`: behind the last block, its own."""
    return 1 if _sees_nothing(model, layer) else window


def residual_step(
    model: "PreTrainedModel", hookpoint: HookPoint, delta: Float[Tensor, "*n d_in"]
) -> Float[Tensor, "*n d"]:
    """What adding `delta` at a hook point adds to its block's output; ValueError for a site that enters it otherwise
    than linearly."""
    if hookpoint.site not in LINEAR_SITES:
        raise ValueError(f"{hookpoint} does not enter its block's output linearly; allowed: {', '.join(LINEAR_SITES)}")
    if hookpoint.site != "mlp_hidden":
        return delta
    down = down_projection(model, hookpoint.layer)
    # GPT-2's own linear map takes no strided view.
    flat = delta.reshape(-1, delta.shape[-1]).to(next(down.parameters()).dtype)
    return (down(flat) - down(torch.zeros_like(flat))).view(*delta.shape[:-1], -1)


def packs(
    model: "PreTrainedModel", layer: int, positions: Int[Tensor, " n"], edits: int, window: int
) -> Iterator[tuple[Int[Tensor, " r"], int]]:
    """Which of n texts go into one forward pass of `edited_logits`, and how many of each one's edits at a time. Every
    text comes once; texts edited at like places come together, so that little of the prefix is padding."""
    last, window = _sees_nothing(model, layer), reach(model, layer, window)
    copies = edits if last else max(min(edits, COPIED // window), 1)
    order, at = torch.argsort(positions, stable=True), 0
    while at < len(order):
        # Sorted, so the last text that fits has the longest prefix; a pass takes at least one.
        tokens = (torch.arange(1, len(order) - at + 1)) * (
            (0 if last else positions[order[at:]]) + copies * window
        )  # fmt: skip
        rows = order[at : at + max(int((tokens <= TOKENS).sum()), 1)]
        at += len(rows)
        yield rows, copies


def edited_logits(
    model: "PreTrainedModel",
    layer: int,
    hidden: Float[Tensor, "n t d"],
    positions: Int[Tensor, " n"],
    delta: Float[Tensor, "n e d"],
    window: int,
) -> Float[Tensor, "n e w vocab"]:
    """Logits at the edited position and the w - 1 behind it, w = `reach`, for e edits of each of n texts.

    `hidden` is the output of block `layer`, to which `delta` is added at `positions`. What stands behind the end of a
    text has no meaning. Differentiable in `delta`.
    """
    n, edits, d = delta.shape
    w = reach(model, layer, window)
    at = (positions[:, None] + torch.arange(w)).clamp_max(hidden.shape[1] - 1)
    copies = hidden.gather(1, at[:, :, None].expand(n, w, d))[:, None].expand(n, edits, w, d)
    edited = (copies[:, :, :1] + delta[:, :, None]).to(hidden.dtype)  # an SAE is float32, a model need not be
    copies = torch.cat([edited, copies[:, :, 1:]], dim=2).flatten(1, 2)
    prefix = 0 if _sees_nothing(model, layer) else int(positions.max())
    packed = torch.cat([hidden[:, :prefix], copies], dim=1)
    places = torch.cat([torch.arange(prefix).expand(n, prefix), at.repeat(1, edits)], dim=1)
    with resume(model, layer, packed):
        logits = model(
            torch.zeros_like(places),
            attention_mask=_mask(prefix, positions, edits, w, packed.dtype),
            position_ids=places,
            use_cache=False,
            logits_to_keep=torch.arange(prefix, packed.shape[1]),
        ).logits
    return logits.unflatten(1, (edits, w))


def _sees_nothing(model: "PreTrainedModel", layer: int) -> bool:
    """Behind the last block no position sees another."""
    return layer == len(blocks(model)) - 1


def _mask(
    prefix: int, positions: Int[Tensor, " n"], edits: int, window: int, dtype: torch.dtype
) -> Float[Tensor, "n 1 s s"]:
    """To be added to the attention scores: 0 where a row sees a column."""
    n, size = len(positions), prefix + edits * window
    sees = torch.zeros((n, size, size), dtype=torch.bool)
    sees[:, :prefix, :prefix] = torch.ones((prefix, prefix), dtype=torch.bool).tril()
    sees[:, prefix:, :prefix] = (torch.arange(prefix) < positions[:, None])[:, None]
    own = torch.ones((window, window), dtype=torch.bool).tril()
    sees[:, prefix:, prefix:] = torch.block_diag(*[own] * edits)
    return torch.zeros(sees.shape, dtype=dtype).masked_fill(~sees, torch.finfo(dtype).min)[:, None]
