"""Interchange on a real model: the world's text pairs as tokens, and J of every edit (SCIENCE 4.3-4.7)."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from raysae.falsification.criterion import CEILING_J
from raysae.falsification.metrics import causal
from raysae.falsification.metrics.matching import permuted_rows
from raysae.models.capture import capture, resume, splice
from raysae.saes import SparseAutoencoder
from raysae.stages.measure import Sample, encode
from raysae.types import CorpusRecord, HookPoint

BATCH = 256
"""Pairs per forward pass."""

UNTESTABLE_DRAWS = 2
"""Matched sets where no edit of the model does the task: no unit can be coherent, whatever its null."""


@dataclass(frozen=True)
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


def tokenize_pairs(tokenizer: Any, pairs: Sequence[Any], records: dict[str, CorpusRecord]) -> PairTokens:
    """The world speaks in characters; the tokenizer's offsets say which tokens they are."""
    variable = pairs[0].variable
    texts = [_locate(tokenizer, pair.text, (pair.char, *pair.readouts)) for pair in pairs]
    sources = [_locate(tokenizer, pair.source_text, (pair.source_char,)) for pair in pairs]
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
        source_tokens=_pad([ids[: at[0] + 1] for ids, at in sources]),
        source_positions=torch.tensor([at[0] for _, at in sources]),
        readouts=readouts,
        expected=expected,
    )


def _locate(tokenizer: Any, text: str, chars: tuple[int, ...]) -> tuple[list[int], list[int]]:
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


class Interchange:
    """One model, one SAE, one hook point: measures the units of every variable."""

    def __init__(
        self,
        model: Any,
        hookpoint: HookPoint,
        sae: SparseAutoencoder,
        fit: Sample,
        fit_latents: torch.Tensor,
        alive: torch.Tensor,
    ) -> None:
        self.model, self.hookpoint, self.sae = model, hookpoint, sae
        self.fit, self.fit_latents, self.alive = fit, fit_latents, alive
        self._cached: tuple[PairTokens | None, torch.Tensor] = (None, torch.empty(0))

    def units(
        self,
        pairs: PairTokens,
        names: tuple[str, ...],
        *,
        per_value: int,
        draws: int,
        seed: int,
        real: Sequence[causal.Unit] | None = None,
    ) -> list[causal.Unit]:
        """A Unit for each value among `pairs.values`, in the order of `names`, the variable's values.

        With `real`, the units of the same pairs, the latents are chosen on labels exchanged between documents (N6);
        ceiling and matched sets are those of `real`, since neither depends on which latents were chosen.
        """
        codes = self._codes(pairs.variable, names)
        sites = np.flatnonzero(codes >= 0)
        chosen_on = codes if real is None else codes[permuted_rows(self.fit.document.numpy(), seed)]
        at = np.flatnonzero(chosen_on >= 0)
        chosen = causal.select_latents(self.fit_latents[at], chosen_on[at], names, per_value, self.alive)
        latents = sorted({latent for taken in chosen.values() for latent in taken})
        x_base = self._read(pairs.tokens, pairs.positions)
        x_source = self._read(pairs.source_tokens, pairs.source_positions)
        h_base, h_source = encode(self.sae, x_base), encode(self.sae, x_source)
        W_dec = self.sae.W_dec.detach()
        edit = causal.interchange(h_base, h_source, W_dec, torch.tensor(latents, dtype=torch.int64))
        if real is None:
            means = causal.class_means(self.fit.x[sites], torch.from_numpy(codes[sites]), len(names))
            base, source = (torch.tensor([names.index(v) for v in side]) for side in (pairs.base_values, pairs.values))
            ceilings = np.maximum(
                self._j(pairs, names, means[source] - means[base]),
                self._j(pairs, names, causal.class_subspace(x_base, x_source, means)),
            )
            rates = (self.fit_latents[sites] > 0).double().mean(dim=0).numpy()
            draws = draws if ceilings.max() >= CEILING_J else UNTESTABLE_DRAWS
            sets = causal.matched_sets(rates, latents, draws, seed, self.alive.numpy())
            null = [
                self._j(pairs, names, causal.interchange(h_base, h_source, W_dec, torch.from_numpy(taken)))
                for taken in sets
            ]
            matched = np.stack(null, axis=1)
        else:
            ceilings = np.array([unit.ceiling for unit in real])
            matched = np.array([unit.matched for unit in real])
        j = self._j(pairs, names, edit)
        direction = self._j(pairs, names, causal.random_direction(edit, seed))
        return [
            causal.Unit(
                variable=pairs.variable,
                value=value,
                pairs=pairs.values.count(value),
                latents=float(j[u]),
                ceiling=float(ceilings[u]),
                matched=tuple(matched[u].tolist()),
                random_direction=float(direction[u]),
            )
            for u, value in enumerate(_present(pairs, names))
        ]

    def _codes(self, variable: str, names: tuple[str, ...]) -> np.ndarray:
        """int64 [n]: index into `names` at the sites of the variable, -1 elsewhere."""
        index = {value: i for i, value in enumerate(names)}
        return np.array([index.get(value, -1) for value in self.fit.labels[variable]])

    @torch.no_grad()
    def _read(self, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """float32 [n, d_in], the activation at each pair's site."""
        parts = []
        for rows in torch.arange(len(tokens)).split(BATCH):
            ids = tokens[rows]
            found = capture(self.model, ids, torch.ones_like(ids), (self.hookpoint,))[self.hookpoint]
            parts.append(found[torch.arange(len(rows)), positions[rows]].float())
        return torch.cat(parts)

    def _j(self, pairs: PairTokens, names: tuple[str, ...], delta: torch.Tensor) -> np.ndarray:
        """Mean joint success per value: one forward pass serves the pairs of all values."""
        parts = [
            causal.read_out(self._predict(pairs, rows, delta[rows]), pairs.readouts[rows], pairs.expected[rows])
            for rows in torch.arange(len(pairs.tokens)).split(BATCH)
        ]
        found, values = torch.cat(parts).numpy(), np.array(pairs.values)
        return np.array([found[values == value].mean() for value in _present(pairs, names)])

    @torch.no_grad()
    def _predict(self, pairs: PairTokens, rows: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        """int64 [b, t]: the next token after each position, with `delta` added at each pair's site."""
        tokens, positions = pairs.tokens[rows], pairs.positions[rows]

        def edited(hidden: torch.Tensor) -> torch.Tensor:
            hidden = hidden.clone()
            hidden[torch.arange(len(rows)), positions] += delta.to(hidden)
            return hidden

        with ExitStack() as stack:
            if self.hookpoint.site == "resid_post":
                stack.enter_context(resume(self.model, self.hookpoint.layer, edited(self._prefix(pairs)[rows])))
            else:
                stack.enter_context(splice(self.model, self.hookpoint, edited))
            return self.model(tokens, attention_mask=torch.ones_like(tokens), use_cache=False).logits.argmax(dim=-1)

    def _prefix(self, pairs: PairTokens) -> torch.Tensor:
        """What stands at the hook point without an edit, computed once for all edits of the same pairs."""
        if self._cached[0] is not pairs:
            parts = [
                capture(self.model, ids, torch.ones_like(ids), (self.hookpoint,))[self.hookpoint]
                for ids in pairs.tokens.split(BATCH)
            ]
            self._cached = (pairs, torch.cat(parts))
        return self._cached[1]


def _present(pairs: PairTokens, names: tuple[str, ...]) -> list[str]:
    """The values that have pairs, in the order of the variable."""
    have = set(pairs.values)
    return [value for value in names if value in have]
