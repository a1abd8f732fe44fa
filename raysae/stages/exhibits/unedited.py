"""What a model makes of text pairs as they are, before anything is exchanged."""

from functools import lru_cache
from typing import Any, NamedTuple

import torch

from raysae.models.capture import capture, resume
from raysae.stages.exhibits.pairs import PairTokens
from raysae.types import HookPoint

BATCH = 256
"""Pairs per forward pass."""


class Unedited(NamedTuple):
    """What a model makes of some pairs as they are; no SAE has a part in it."""

    base: torch.Tensor
    """float32 [n, d_in], the activation at each pair's site"""
    source: torch.Tensor
    """float32 [n, d_in]"""
    hidden: torch.Tensor
    """[n, t, d], what the hook point's block makes of the base"""
    predicted: torch.Tensor
    """int64 [n, t]"""


@lru_cache(maxsize=24)  # all variables of six machines, so that the next SAE finds them
@torch.no_grad()
def read_pairs(model: Any, at: str, pairs: PairTokens) -> Unedited:
    """At the hook point called `at`, once for all SAEs and nulls that read the same model."""
    hookpoint = HookPoint.parse(at)
    block = HookPoint(layer=hookpoint.layer, site="resid_post")
    base, source, hidden, predicted = [], [], [], []
    for rows in torch.arange(len(pairs.tokens)).split(BATCH):
        here, ids = torch.arange(len(rows)), pairs.tokens[rows]
        mask = torch.ones_like(ids)
        found = capture(model, ids, mask, (hookpoint, block))
        base.append(found[hookpoint][here, pairs.positions[rows]].float())
        hidden.append(found[block])
        with resume(model, block.layer, found[block]):
            predicted.append(model(ids, attention_mask=mask, use_cache=False).logits.argmax(dim=-1))
        ids = pairs.source_tokens[rows]
        found = capture(model, ids, torch.ones_like(ids), (hookpoint,))
        source.append(found[hookpoint][here, pairs.source_positions[rows]].float())
    return Unedited(torch.cat(base), torch.cat(source), torch.cat(hidden), torch.cat(predicted))
