"""A world's text pairs as tokens: what is edited, where, and what must then be predicted (SCIENCE 4.4)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch

from raysae.falsification.metrics import causal
from raysae.stages.court import Court
from raysae.stages.ingest import WORLDS
from raysae.stages.seal import pair_seed
from raysae.types import CorpusRecord
from raysae.worlds.interchange import Said

HOPELESS_DRAWS = 2
"""Matched sets where no unit can be coherent, whatever its null: not even the supervised edit does the task, or that of
a null's latents is too far from it."""


class DrawnSets(NamedTuple):
    """Matched sets of the latents of one variable, each to be tried once."""

    distinct: np.ndarray
    """int64 [s, c]"""
    place: np.ndarray
    """int64 [draws], that of each draw among them"""
    different: int | None
    """`Unit.sets`: null where so few were drawn that their number says nothing."""


def drawn_sets(
    rates: np.ndarray, chosen: Sequence[int], draws: int, seed: int, alive: np.ndarray, sizes: np.ndarray, able: bool
) -> DrawnSets:
    """`causal.matched_sets`, or a few of them where no unit is `able` to be coherent."""
    sets = causal.matched_sets(rates, chosen, draws if able else HOPELESS_DRAWS, seed, alive, sizes)
    distinct, place = causal.different(sets)
    return DrawnSets(distinct, place, len(distinct) if able else None)


@dataclass(frozen=True, eq=False)
class PairTokens:
    """All pairs of one variable, tokenized; tensors are int64, rows are pairs."""

    variable: str
    values: list[str]
    """[n] the source's value, which the edit brings in"""
    base_values: list[str]
    """[n]"""
    tokens: torch.Tensor
    """[n, t] the base up to the site, then the counterfactual continuation; padded with 0"""
    positions: torch.Tensor
    """[n] the token to edit"""
    source_tokens: torch.Tensor
    source_positions: torch.Tensor
    readouts: torch.Tensor
    """[n, R] position before each word that must be predicted, -1 pads"""
    expected: torch.Tensor
    """[n, R]"""
    about: list[tuple[tuple[Said, ...], ...]]
    """[n] what each readout says"""
    bases: list[str]
    """[n] the base's record"""

    def codes(self, names: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """int64 [n] twice: the value of the base and of the source, by its place in `names`."""
        base, source = (
            torch.tensor([names.index(value) for value in side]) for side in (self.base_values, self.values)
        )
        return base, source

    def present(self, names: Sequence[str]) -> list[str]:
        """The values that have pairs, in the order of `names`."""
        have = set(self.values)
        return [value for value in names if value in have]


@lru_cache(maxsize=64)
def registered_pairs(court: Court, world: str, variable: str, values: tuple[str, ...]) -> PairTokens:
    """The pairs of one variable of a world, the same for every SAE of a run."""
    seed, records = pair_seed(court.experiment), court.records
    draw, count = WORLDS[world].interchange_pairs, court.protocol.pairs
    drawn = [pair for value in values for pair in draw(records, variable, value, count, seed)]
    return tokenize_pairs(court.tokenizer, drawn, {record.record_id: record for record in records})


def tokenize_pairs(tokenizer: Any, pairs: Sequence[Any], records: dict[str, CorpusRecord]) -> PairTokens:
    """The world speaks in characters; the tokenizer's offsets say which tokens they are."""
    variable = pairs[0].variable
    texts = [locate(tokenizer, pair.text, (pair.char, *pair.readouts)) for pair in pairs]
    sources = [locate(tokenizer, pair.source_text, (pair.source_char,)) for pair in pairs]
    last = [max(at[1:]) for _, at in texts]
    most = max(len(at) for _, at in texts) - 1
    readouts = torch.full((len(pairs), most), -1)
    expected = torch.full((len(pairs), most), -1)
    for row, (ids, at) in enumerate(texts):
        for column, place in enumerate(at[1:]):
            readouts[row, column], expected[row, column] = place - 1, ids[place]
    return PairTokens(
        variable=variable,
        values=[pair.value for pair in pairs],
        base_values=[_value_at(records[pair.base_record_id], variable, pair.char) for pair in pairs],
        # What follows the last readout changes nothing before it.
        tokens=_pad([ids[: end + 1] for (ids, _), end in zip(texts, last, strict=True)]),
        positions=torch.tensor([at[0] for _, at in texts]),
        source_tokens=_pad([ids[: at[0] + 2] for ids, at in sources]),
        source_positions=torch.tensor([at[0] for _, at in sources]),
        readouts=readouts,
        expected=expected,
        about=[pair.about for pair in pairs],
        bases=[pair.base_record_id for pair in pairs],
    )


def behind(pairs: PairTokens) -> PairTokens:
    """The same pairs, to be edited one token later; a source without one is read where it ends."""
    ends = pairs.source_tokens.shape[1] - 1
    positions = pairs.positions + 1
    return replace(
        pairs,
        positions=positions,
        source_positions=(pairs.source_positions + 1).clamp_max(ends),
        # What is predicted before the edit is no readout of it.
        readouts=torch.where(pairs.readouts < positions[:, None], -1, pairs.readouts),
    )


def locate(tokenizer: Any, text: str, chars: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """Ids of a text, and the token that begins at each of `chars`."""
    encoded = tokenizer(text, return_offsets_mapping=True)
    at = {start: i for i, (start, end) in enumerate(encoded["offset_mapping"]) if end > start}
    return encoded["input_ids"], [at[char] for char in chars]


def _value_at(record: CorpusRecord, variable: str, char: int) -> str:
    return next(
        label.value for label in record.labels if label.variable == variable and label.start <= char < label.end
    )


def _pad(rows: list[list[int]]) -> torch.Tensor:
    out = torch.zeros((len(rows), max(map(len, rows))), dtype=torch.int64)
    for i, row in enumerate(rows):
        out[i, : len(row)] = torch.tensor(row)
    return out
