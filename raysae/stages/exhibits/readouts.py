"""The task score of causal attribution: log-probability of what the text goes on to say, by groups of words.

Where the corpus is a world, a group is a variable, and its score the log-probability that the word at hand is one with
the variable's value: `7b` counts for the total with every `7_`, for the book with every `_b`, so one word tells an
effect on the one from an effect on the other. Words that carry no variable are a group that is never a target. On any
other text the target is the next tokens; the control is a foreign token at each place, one that stands elsewhere in the
sample, taken relative to all tokens but the next one, so that it does not move merely because the next one did.
"""

from typing import Any

import numpy as np
import torch

from raysae.stages.ingest import WORLDS
from raysae.stages.measure import Sample
from raysae.types import Experiment

LEAST = 1e-30


class Readouts:
    """Which groups there are, and their scores from logits."""

    def __init__(self, experiment: Experiment, tokenizer: Any) -> None:
        worlds = [WORLDS[name] for name in experiment.corpus.names if name in WORLDS]
        self.variables: tuple[str, ...] = ()
        self.classes = torch.empty((0, 0))
        """float32 [V, C], one column per value of a variable: the tokens that carry it."""
        self.columns = torch.empty((0, 0), dtype=torch.int64)
        """int64 [V, T]: the column a token belongs to, by variable, -1 where it carries none."""
        if len(worlds) == len(experiment.corpus.names) == 1:
            self._read(worlds[0], tokenizer)

    def _read(self, world: Any, tokenizer: Any) -> None:
        words = [world.carried(word) for word in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))]
        self.variables = tuple(world.VARIABLES)
        values = [(name, value) for name in self.variables for value in world.VARIABLES[name]]
        self.columns = torch.tensor(
            [[values.index((v, word[v])) if v in word else -1 for v in self.variables] for word in words]
        )
        self.classes = torch.zeros((len(words), len(values)))
        for token, columns in enumerate(self.columns.tolist()):
            for column in columns:
                if column >= 0:
                    self.classes[token, column] = 1.0

    @property
    def groups(self) -> tuple[str, ...]:
        return (*self.variables, "other words") if self.variables else ("next tokens", "foreign tokens")

    @property
    def targets(self) -> int:
        """How many of `groups`, from the first, may be a target."""
        return len(self.groups) - 1

    def readable(self, sample: Sample, window: int) -> np.ndarray:
        """bool [n]: whether one of the next `window` tokens of the document can be a target."""
        tokens = sample.token_id.astype(np.int64)
        target = np.ones(len(tokens), dtype=bool)
        if self.variables:
            target = np.asarray(self.columns[torch.from_numpy(tokens)].ge(0).any(dim=1))
        document, found = sample.document.numpy(), np.zeros(len(tokens), dtype=bool)
        for ahead in range(1, window + 1):
            found[:-ahead] |= target[ahead:] & (document[ahead:] == document[:-ahead])
        return found

    def score(self, logits: torch.Tensor, following: torch.Tensor, foreign: torch.Tensor) -> torch.Tensor:
        """float32 [n, e, g]: mean over the words of each group; 0 for a group that does not occur.

        `logits` [n, e, w, V]; `following` and `foreign` [n, w]: the tokens that come next, -1 behind the end, and the
        foreign ones.
        """
        real = following >= 0
        if not self.variables:
            return self._next_and_foreign(logits, following, foreign, real)
        log_p = torch.log_softmax(logits, dim=-1)
        by_value = (log_p.exp() @ self.classes.to(logits)).clamp_min(LEAST).log()
        columns = self.columns[following.clamp_min(0)].masked_fill(~real[:, :, None], -1)
        values = [_pick(by_value, columns[:, :, v]) for v in range(len(self.variables))]
        rest = following.masked_fill((columns >= 0).any(dim=2), -1)
        masks = [*(columns[:, :, v] >= 0 for v in range(len(self.variables))), rest >= 0]
        values.append(_pick(log_p, rest))
        return torch.stack([_mean(value, mask) for value, mask in zip(values, masks, strict=True)], dim=-1)

    def _next_and_foreign(
        self, logits: torch.Tensor, following: torch.Tensor, foreign: torch.Tensor, real: torch.Tensor
    ) -> torch.Tensor:
        ahead = following.clamp_min(0)[:, None, :, None].expand(*logits.shape[:3], 1)
        others = logits.scatter(-1, ahead, -torch.inf).logsumexp(dim=-1)
        said = _pick(logits, following)
        target = said - torch.logaddexp(said, others)
        control = _pick(logits, foreign) - others
        return torch.stack([_mean(target, real), _mean(control, real & (foreign != following))], dim=-1)


def _pick(values: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
    """[n, e, w]: the column of each place; any for -1."""
    return values.gather(-1, column.clamp_min(0)[:, None, :, None].expand(*values.shape[:3], 1)).squeeze(-1)


def _mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    counted = mask[:, None, :]
    return values.where(counted, 0.0).sum(dim=2) / counted.sum(dim=2).clamp_min(1)
