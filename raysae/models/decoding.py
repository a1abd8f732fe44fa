"""Greedy continuation of many texts at once, with whatever is spliced into the model in the meantime."""

from collections.abc import Callable, Sequence
from inspect import signature
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.no_grad()
def continue_greedily(
    model: "PreTrainedModel", prompts: Sequence[Sequence[int]], count: int, ends: Callable[[list[int]], bool]
) -> list[list[int]]:
    """At most `count` tokens behind each prompt; a text is done when `ends` says so of what was added to it.

    Prompts of unequal length are padded on the left and counted from their own first token, so that a text continues
    as it does alone. No sampling, no penalty: the argmax of the logits.
    """
    from transformers import DynamicCache

    width = max(map(len, prompts))
    ids = torch.zeros((len(prompts), width), dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    ids, mask = ids.to(model.device), mask.to(model.device)
    positions = (mask.cumsum(dim=1) - 1).clamp_min(0)
    added: list[list[int]] = [[] for _ in prompts]
    going = set(range(len(prompts)))
    # Filled in place; transformers renamed the argument in the course of its fifth version.
    named = "cache" if "cache" in signature(type(model).forward).parameters else "past_key_values"
    cache = {named: DynamicCache(config=model.config)}
    for _ in range(count):
        found = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
            **cache,
        )
        ids = found.logits[:, -1].argmax(dim=-1, keepdim=True)
        chosen = ids[:, 0].tolist()
        for row in list(going):
            added[row].append(chosen[row])
            if ends(added[row]):
                going.remove(row)
        if not going:
            break
        mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
        positions = positions[:, -1:] + 1
    return added
