"""Before any SAE: whether a model that was trained on text alone does what supervised exchanges ask of it (SCIENCE 4.1,
T3). A circuit that class means cannot move is no ground on which to judge latents."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from raysae.falsification.metrics import causal
from raysae.models.capture import capture
from raysae.stages.exhibits.interchange import JointSuccess, supervised
from raysae.stages.exhibits.pairs import locate, tokenize_pairs
from raysae.stages.exhibits.unedited import read_pairs
from raysae.types import CorpusRecord, HookPoint
from raysae.types.experiment import stream_seed

LEAST_ACCURACY, LEAST_CEILING = 0.99, 0.9
FIT_RECORDS, HELD_OUT_RECORDS, PAIRS = 600, 600, 30
"""Texts that give the class means; texts that answers are counted on and pairs are drawn from; pairs per value."""
BATCH = 250


@dataclass(frozen=True)
class Ceiling:
    """What is asked of a trained model: answers to a world's questions, and exchanges at a site."""

    world: Any
    """A module of `worlds/`, or what offers the same; its labels stand on the token where they are exchanged, the last
    one before the answer."""
    hookpoint: HookPoint

    def measure(self, model: Any, tokenizer: Any, seed: int) -> dict[str, Any]:
        """On texts from `seed`: the share of texts whose whole answer is predicted, and for each variable the share of
        informative pairs in which the better of two supervised edits, difference of class means and exchange of their
        span, has joint success."""
        fit, held_out = (
            list(self.world.generate(count, stream_seed(seed, part)))
            for part, count in (("fit", FIT_RECORDS), ("held_out", HELD_OUT_RECORDS))
        )
        x, _ = self._at_question(model, tokenizer, fit)
        _, right = self._at_question(model, tokenizer, held_out)
        interchange = {
            variable: self._ceiling(model, tokenizer, variable, fit, x, held_out, seed)
            for variable in self.world.VARIABLES
        }
        return {
            "accuracy": round(float(right.mean()), 4),
            "interchange_ceiling": interchange,
            "site": str(self.hookpoint),
        }

    def _at_question(
        self, model: Any, tokenizer: Any, records: Sequence[CorpusRecord]
    ) -> tuple[torch.Tensor, np.ndarray]:
        """Activations on the token before the answer [n, d], and whether the answer is predicted [n]."""
        states, right = [], []
        for start in range(0, len(records), BATCH):
            some = records[start : start + BATCH]
            rows = [locate(tokenizer, record.text, (len(record.text) - len(record.answer),)) for record in some]
            ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row, _ in rows], batch_first=True)
            answer = torch.tensor([place for _, (place,) in rows])
            here = torch.arange(len(some))
            states.append(
                capture(model, ids, torch.ones_like(ids), (self.hookpoint,))[self.hookpoint][here, answer - 1]
            )
            with torch.no_grad():
                found = model(ids, attention_mask=torch.ones_like(ids)).logits.argmax(dim=-1)
            for row, (tokens, (place,)) in enumerate(rows):
                right.append(found[row, place - 1 : len(tokens) - 1].tolist() == tokens[place:])
        return torch.cat(states).float(), np.array(right)

    def _ceiling(
        self,
        model: Any,
        tokenizer: Any,
        variable: str,
        fit: Sequence[CorpusRecord],
        x: torch.Tensor,
        held_out: Sequence[CorpusRecord],
        seed: int,
    ) -> float:
        names = list(self.world.VARIABLES[variable])
        drawn = [
            pair
            for value in names
            for pair in self.world.interchange_pairs(held_out, variable, value, PAIRS, stream_seed(seed, "pairs"))
        ]
        pairs = tokenize_pairs(tokenizer, drawn, {record.record_id: record for record in held_out})
        codes = [names.index(label.value) for record in fit for label in record.labels if label.variable == variable]
        means = causal.class_means(x, torch.tensor(codes), len(names))
        edits = supervised(pairs, names, read_pairs(model, str(self.hookpoint), pairs), means)
        found = JointSuccess(model, self.hookpoint, pairs, pairs.present(names))(torch.stack(edits, dim=1)).success
        return round(float(found.max(axis=1).mean()), 4)


def missed(found: dict[str, Any]) -> list[str]:
    """In words, where a measured model falls short."""
    said = [] if found["accuracy"] >= LEAST_ACCURACY else [
        f"accuracy {found['accuracy']:.3f}, asked: {LEAST_ACCURACY} or more"
    ]  # fmt: skip
    return said + [
        f"supervised exchange of {variable} {rate:.3f}, asked: {LEAST_CEILING} or more"
        for variable, rate in found["interchange_ceiling"].items()
        if rate < LEAST_CEILING
    ]


def told(found: dict[str, Any]) -> list[str]:
    """What was measured and whether it suffices, for a person."""
    rates = ", ".join(f"{variable} {rate:.3f}" for variable, rate in found["interchange_ceiling"].items())
    short = [f"the check is missed: {line}" for line in missed(found)]
    line = f"accuracy {found['accuracy']:.3f}; supervised exchange at {found['site']}: {rates}"
    return [line, *(short or ["the check is passed"])]
