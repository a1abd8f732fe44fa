"""Interchange on a real model: J of every edit on a world's text pairs (SCIENCE 4.3-4.7)."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch

from raysae.falsification.criterion import CEILING_J
from raysae.falsification.metrics import causal
from raysae.falsification.metrics.matching import permuted_rows
from raysae.models.capture import capture, resume, splice
from raysae.stages.capture import MAIN
from raysae.stages.court import Examination
from raysae.stages.exhibits.base import Evidence, Exhibit, Plain
from raysae.stages.exhibits.pairs import PairTokens, tokenize_pairs
from raysae.stages.ingest import WORLDS
from raysae.stages.measure import encode
from raysae.stages.seal import pair_seed
from raysae.types import Metric

BATCH = 256
"""Pairs per forward pass."""

UNTESTABLE_DRAWS = 2
"""Matched sets where no edit of the model does the task: no unit can be coherent, whatever its null."""


PERMUTED = "permuted_labels"
NO_PROGRAM = "The corpus has no causal program to intervene on, so this criterion cannot be measured here."


def _interchange(exam: Examination) -> Plain | None:
    """Units of every registered variable, and for the real arm those of latents chosen on permuted labels."""
    if not exam.protocol.causal_units:
        return None
    records, config = exam.court.records, exam.protocol
    by_id = {record.record_id: record for record in records}
    judge = Interchange(exam)
    registered: dict[str, list[str]] = {}
    for variable, _, value in (unit.partition("=") for unit in config.causal_units):
        registered.setdefault(variable, []).append(value)
    permuted = exam.arm == MAIN and PERMUTED in exam.experiment.protocol.nulls
    found: Plain = {"units": [], **({PERMUTED: []} if permuted else {})}
    for world in (WORLDS[name] for name in exam.experiment.corpus.names if name in WORLDS):
        for variable, values in registered.items():
            seed = pair_seed(exam.experiment)
            drawn = [world.interchange_pairs(records, variable, value, config.pairs, seed) for value in values]
            pairs = tokenize_pairs(exam.court.tokenizer, [pair for some in drawn for pair in some], by_id)
            names = world.VARIABLES[variable]
            how: dict[str, Any] = {"per_value": config.latents_per_value, "draws": config.permutations}
            units = judge.units(pairs, names, seed=exam.seed(f"matched_latents/{variable}"), **how)
            found["units"] += [unit._asdict() for unit in units]
            if permuted:
                null = judge.units(pairs, names, seed=exam.seed(f"{PERMUTED}/{variable}"), real=units, **how)
                found[PERMUTED] += [unit._asdict() for unit in null]
    return found


def _summarise(evidence: Evidence) -> Metric:
    if not evidence.protocol.causal_units:
        nothing: list[list[causal.Unit]] = [[] for _ in range(evidence.seeds)]
        return causal.summarise({MAIN: nothing}, pairs=evidence.protocol.pairs).model_copy(
            update={"not_run": NO_PROGRAM}
        )
    return causal.summarise(revive_units(evidence), pairs=evidence.protocol.pairs)


def revive_units(evidence: Evidence) -> dict[str, list[list[causal.Unit]]]:
    """Units by arm and seed; those of latents chosen on permuted labels are an arm of their own."""
    shown = evidence.of("causal_interchange")
    found = {arm: [_revive(seed["units"]) for seed in seeds] for arm, seeds in shown.items()}
    if all(PERMUTED in seed for seed in shown[MAIN]):
        found[PERMUTED] = [_revive(seed[PERMUTED]) for seed in shown[MAIN]]
    return found


def _revive(plain: list[Plain]) -> list[causal.Unit]:
    return [causal.Unit(**{**unit, "matched": tuple(unit["matched"])}) for unit in plain]


class Interchange:
    """One model, one SAE, one hook point: measures the units of every variable."""

    def __init__(self, exam: Examination) -> None:
        self.model, self.hookpoint, self.sae = exam.model, exam.hookpoint, exam.sae
        self.fit, self.fit_latents, self.alive = exam.fit, exam.fit_latents, exam.alive
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


INTERCHANGE = Exhibit(_interchange, _summarise)
