"""The model as the callable that causal attribution asks for: fixed sites of a split, and what is added there."""

from functools import lru_cache

import numpy as np
import torch

from raysae.falsification.metrics.attribution import Scores
from raysae.models.capture import capture
from raysae.models.patch import edited_logits, packs, reach, residual_step
from raysae.stages.court import Court
from raysae.stages.exhibits.readouts import Readouts
from raysae.stages.forward import token_batches
from raysae.stages.measure import Sample
from raysae.types import HookPoint, Split


class Pushed:
    """The model read at fixed sites of one split, given what is added there."""

    def __init__(
        self, court: Court, source: str, split: Split, rows: np.ndarray, readouts: Readouts, hookpoint: HookPoint
    ) -> None:
        self.model, self.hookpoint, self.readouts = court.model(source), hookpoint, readouts
        sample = court.sample(source, split)
        self.hidden = block_output(court, source, split, hookpoint.layer)
        window = reach(self.model, self.hookpoint.layer, court.protocol.attribution_window)
        document = sample.document.numpy()
        starts = np.searchsorted(document, np.arange(sample.documents))
        ends = np.append(starts[1:], len(document))
        self.window, self.starts = window, torch.from_numpy(starts[document[rows]])
        self.positions = torch.from_numpy(rows) - self.starts
        ahead = rows[:, None] + np.arange(1, window + 1)
        inside = ahead < ends[document[rows]][:, None]
        tokens = sample.token_id.astype(np.int64)
        self.following = torch.from_numpy(np.where(inside, tokens[np.minimum(ahead, len(tokens) - 1)], -1))
        drawn = np.random.default_rng(court.seed("foreign tokens")).integers(0, len(tokens), ahead.shape)
        self.foreign = torch.from_numpy(tokens[drawn])

    def __call__(self, sites: torch.Tensor, delta: torch.Tensor) -> Scores:
        if not len(sites):  # none of a range of latents is on anywhere in the split
            top = torch.zeros((0, delta.shape[1], self.window), dtype=torch.int64)
            return Scores(delta[..., :1].expand(-1, -1, len(self.readouts.groups)), top)
        values, tops, order = [], [], []
        for rows, copies in packs(
            self.model, self.hookpoint.layer, self.positions[sites], delta.shape[1], self.window
        ):  # fmt: skip
            found = [self._score(sites[rows], some) for some in delta[rows].split(copies, dim=1)]
            values.append(torch.cat([value for value, _ in found], dim=1))
            tops.append(torch.cat([top for _, top in found], dim=1))
            order.append(rows)
        back = torch.argsort(torch.cat(order))
        return Scores(torch.cat(values)[back], torch.cat(tops)[back])

    def _score(self, rows: torch.Tensor, delta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        positions = self.positions[rows]
        span = torch.arange(int(positions.max()) + self.window)
        at = (self.starts[rows, None] + span).clamp_max(len(self.hidden) - 1)
        step = residual_step(self.model, self.hookpoint, delta)
        logits = edited_logits(self.model, self.hookpoint.layer, self.hidden[at], positions, step, self.window).float()
        return self.readouts.score(logits, self.following[rows], self.foreign[rows]), logits.detach().argmax(dim=-1)


@lru_cache(maxsize=4)
def block_output(court: Court, source: str, split: Split, layer: int) -> torch.Tensor:
    """[n, d] in the model's own numbers: the output of a block at every token of the sample, not rounded as on disk."""
    sample: Sample = court.sample(source, split)
    point = HookPoint(layer=layer, site="resid_post")
    lengths = np.bincount(sample.document.numpy())
    starts = np.concatenate([[0], np.cumsum(lengths)])
    tokens = torch.from_numpy(sample.token_id.astype(np.int64))
    out: torch.Tensor | None = None
    for batch in token_batches(lengths.tolist(), court.experiment.capture.batch_tokens):
        ids = torch.nn.utils.rnn.pad_sequence([tokens[starts[i] : starts[i + 1]] for i in batch], batch_first=True)
        mask = (torch.arange(ids.shape[1]) < torch.from_numpy(lengths[batch])[:, None]).long()
        found = capture(court.model(source), ids, mask, (point,))[point]
        out = torch.empty((len(tokens), found.shape[-1]), dtype=found.dtype) if out is None else out
        for row, i in enumerate(batch):
            out[starts[i] : starts[i + 1]] = found[row, : lengths[i]]
    assert out is not None
    return out
