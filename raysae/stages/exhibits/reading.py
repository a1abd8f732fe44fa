"""What a model makes of some places of texts that no block holds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from raysae.models.capture import capture
from raysae.stages.forward import token_batches
from raysae.types import HookPoint
from raysae.types.experiment import CaptureConfig


def read_places(
    model: Any, hookpoint: HookPoint, how: CaptureConfig, texts: Sequence[np.ndarray], places: Sequence[np.ndarray]
) -> torch.Tensor:
    """float32 [n, d_in], the activations at the places of each text in turn, rounded as those on disk."""
    dtype, found = getattr(torch, how.dtype), dict[int, torch.Tensor]()
    for batch in token_batches([len(text) for text in texts], how.batch_tokens):
        ids = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(texts[i]) for i in batch], batch_first=True)
        mask = torch.arange(ids.shape[1]) < torch.tensor([[len(texts[i])] for i in batch])
        seen = capture(model, ids, mask.long(), (hookpoint,))[hookpoint]
        found |= {i: row[places[i]].to(dtype).float() for i, row in zip(batch, seen, strict=True)}
    return torch.cat([found[i] for i in range(len(texts))])
