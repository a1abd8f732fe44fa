"""Where the best latents fire: their strongest TEST contexts, for a person to read."""

from typing import Any

import numpy as np
import torch

from raysae.stages.measure import Sample

LATENTS = 8
CONTEXTS = 5
BEFORE, AFTER = 14, 8
"""Tokens shown around the peak."""


def top_contexts(
    test: Sample,
    latents: torch.Tensor,
    alive: torch.Tensor,
    aligned: dict[str, Any] | None,
    names: tuple[str, ...],
    tokenizer: Any,
) -> list[dict[str, Any]]:
    """The latents of the best matched factors (without labels: the strongest), each in several documents."""
    shown = []
    for latent, label, f1 in _best(latents, alive, aligned, names):
        values = latents[:, latent]
        contexts, seen = [], set()
        for row in values.argsort(descending=True).tolist():
            document = int(test.document[row])
            if values[row] <= 0 or len(contexts) == CONTEXTS:
                break
            if document in seen:
                continue
            seen.add(document)
            contexts.append(_context(test, values, row, document, tokenizer))
        shown.append({"latent": latent, "label": label, "f1": f1, "contexts": contexts})
    return shown


def _best(
    latents: torch.Tensor, alive: torch.Tensor, aligned: dict[str, Any] | None, names: tuple[str, ...]
) -> list[tuple[int, str, float | None]]:
    if aligned and names:
        f1 = np.asarray(aligned["test_f1"])
        return [
            (int(aligned["latents"][i]), names[i], float(f1[i]))
            for i in np.argsort(-f1)[:LATENTS]
            if aligned["latents"][i] >= 0
        ]
    peak = latents.max(dim=0).values * alive
    return [(int(i), "strongest activation", None) for i in peak.topk(min(LATENTS, int(alive.sum()))).indices]


def _context(test: Sample, values: torch.Tensor, row: int, document: int, tokenizer: Any) -> dict[str, Any]:
    rows = (test.document == document).nonzero()[:, 0]
    first, last = max(int(rows[0]), row - BEFORE), min(int(rows[-1]), row + AFTER)
    tokens = [tokenizer.decode([int(token)]) for token in test.token_id[first : last + 1]]
    return {
        "tokens": tokens,
        "activations": [round(float(value), 4) for value in values[first : last + 1]],
        "record_id": test.records[document],
    }
