"""Interchange on a real model: J of every edit on a world's text pairs (SCIENCE 4.3-4.7)."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from raysae.falsification.criterion import CEILING_J, CORRECTED_J
from raysae.falsification.metrics import causal, precision
from raysae.falsification.metrics.matching import permuted_rows
from raysae.models.maps import is_map
from raysae.models.patch import edited_logits, packs, reach, residual_step
from raysae.stages.capture import MAIN
from raysae.stages.court import PERMUTED, Examination
from raysae.stages.exhibits.base import Evidence, Exhibit, Plain
from raysae.stages.exhibits.known_circuit import readable, true_exchange
from raysae.stages.exhibits.pairs import PairTokens, behind, drawn_sets, registered_pairs
from raysae.stages.exhibits.single_latents import single_latents
from raysae.stages.exhibits.state_edits import edited_units
from raysae.stages.exhibits.unedited import Unedited, read_pairs
from raysae.stages.ingest import WORLDS
from raysae.stages.measure import by_variable, encode, places
from raysae.types import HookPoint, Metric

WRONG_SITE = "wrong_site"
INSIDE = (PERMUTED, WRONG_SITE)
"""Nulls that are measured with the real arm's SAE."""
SINGLE = "single_latents"
"""Evidence of the real arm beside its units; none without a model."""
SETS = 32
"""Matched sets whose edits are held in memory at once."""

NO_PROGRAM = "The corpus has no causal program to intervene on, so this criterion cannot be measured here."


def _interchange(exam: Examination) -> Plain | None:
    """Units of every registered variable, and for the real arm those of the nulls that take only its latents or its
    site."""
    if not exam.protocol.causal_units:
        return None
    if is_map(exam.experiment.model):
        return edited_units(exam)
    config, judge = exam.protocol, Interchange(exam)
    registered = by_variable(config.causal_units)
    nulls = [null for null in INSIDE if exam.arm == MAIN and null in exam.experiment.protocol.nulls]
    found: Plain = {"units": [], **{null: [] for null in nulls}}
    for world in (name for name in exam.experiment.corpus.names if name in WORLDS):
        for variable in (variable for variable in registered if variable in WORLDS[world].VARIABLES):
            values = registered[variable]
            pairs = registered_pairs(exam.court, world, variable, tuple(values))
            names = WORLDS[world].VARIABLES[variable]
            how: dict[str, Any] = {"per_value": config.latents_per_value, "draws": config.permutations}
            how["least_f1"] = config.least_f1
            units = judge.units(pairs, names, seed=exam.seed(f"matched_latents/{variable}"), **how)
            found["units"] += [unit._asdict() for unit in units]
            for null in nulls:
                there = behind(pairs) if null == WRONG_SITE else pairs
                how |= {"seed": exam.seed(f"{null}/{variable}"), "permuted": null == PERMUTED}
                found[null] += [unit._asdict() for unit in judge.units(there, names, real=units, **how)]
    if exam.arm == MAIN:
        found[SINGLE] = single_latents(exam)
    return found


def _summarise(evidence: Evidence) -> Metric:
    if not evidence.protocol.causal_units:
        nothing: list[list[causal.Unit]] = [[] for _ in range(evidence.seeds)]
        return causal.summarise({MAIN: nothing}, pairs=evidence.protocol.pairs).model_copy(
            update={"not_run": NO_PROGRAM}
        )
    metric = causal.summarise(revive_units(evidence), pairs=evidence.protocol.pairs)
    alone = [seed[SINGLE] for seed in evidence.of("causal_interchange")[MAIN] if SINGLE in seed]
    if not alone:
        return metric
    found = [precision.Selected(np.array(one["significant"], bool), np.array(one["share"])) for one in alone]
    return metric.model_copy(update={"also": metric.also | precision.summarise(found)})


def revive_units(evidence: Evidence) -> dict[str, list[list[causal.Unit]]]:
    """Units by arm and seed; those of other latents or of another site are arms of their own."""
    shown = evidence.of("causal_interchange")
    found = {arm: [_revive(seed["units"]) for seed in seeds] for arm, seeds in shown.items()}
    for null in INSIDE:
        if all(null in seed for seed in shown[MAIN]):
            found[null] = [_revive(seed[null]) for seed in shown[MAIN]]
    return found


def _revive(plain: list[Plain]) -> list[causal.Unit]:
    return [causal.Unit(**{**unit, "matched": tuple(unit["matched"])}) for unit in plain]


class Interchange:
    """One model, one SAE, one hook point: measures the units of every variable."""

    def __init__(self, exam: Examination) -> None:
        self.exam = exam
        self.model, self.hookpoint, self.sae = exam.model, exam.hookpoint, exam.sae
        self.fit, self.fit_latents, self.alive = exam.fit, exam.fit_latents, exam.alive

    def units(
        self,
        pairs: PairTokens,
        names: tuple[str, ...],
        *,
        per_value: int,
        least_f1: float,
        draws: int,
        seed: int,
        real: Sequence[causal.Unit] | None = None,
        permuted: bool = False,
    ) -> list[causal.Unit]:
        """A Unit for each value among `pairs.values`, in the order of `names`, the variable's values.

        `permuted`: the latents are chosen on labels exchanged between documents (N6). With `real`, the units of the
        same pairs, ceiling and matched sets are theirs.
        """
        codes = places(self.fit.labels[pairs.variable], names)
        sites = np.flatnonzero(codes >= 0)
        chosen_on = codes[permuted_rows(self.fit.document.numpy(), seed, codes >= 0)] if permuted else codes
        at = np.flatnonzero(chosen_on >= 0)
        chosen = causal.select_latents(self.fit_latents[at], chosen_on[at], names, per_value, self.alive, least_f1)
        latents = sorted({latent for taken in chosen.values() for latent in taken})
        unedited = read_pairs(self.model, str(self.hookpoint), pairs)
        h_base, h_source = encode(self.sae, unedited.base), encode(self.sae, unedited.source)
        W_dec = self.sae.W_dec.detach()
        exchanged = partial(causal.interchange, h_base, h_source, W_dec)
        measure = JointSuccess(self.model, self.hookpoint, pairs, pairs.present(names))
        if real is None:
            means = causal.class_means(self.fit.x[sites], torch.from_numpy(codes[sites]), len(names))
            best = supervised(pairs, names, unedited, means)
            true = true_exchange(self.exam, pairs, names, unedited.source - unedited.base)
            best += [] if true is None else [true]
            ceilings = measure(torch.stack(best, dim=1)).success.max(axis=1)
        else:
            ceilings = np.array([unit.ceiling for unit in real])
        edit = exchanged(torch.tensor(latents, dtype=torch.int64))
        edits = [edit, causal.random_direction(edit, seed)]
        edits += [] if (read := readable(self.exam, edit)) is None else [read]
        found = measure(torch.stack(edits, dim=1))
        j, direction = found.success[:, 0], found.success[:, 1]
        if real is None:
            able = (ceilings >= CEILING_J) & ((j >= CORRECTED_J * ceilings) | (self.exam.arm == MAIN))
            rates = (self.fit_latents[sites] > 0).double().mean(dim=0).numpy()
            sizes = causal.step_sizes(h_base, h_source, W_dec)
            sets = drawn_sets(rates, latents, draws, seed, self.alive.numpy(), sizes, bool(able.any()))
            parts = [
                measure(torch.stack([exchanged(torch.from_numpy(taken)) for taken in some], dim=1))
                for some in np.split(sets.distinct, range(SETS, len(sets.distinct), SETS))
            ]
            matched, moved = (
                np.concatenate([getattr(part, field) for part in parts], axis=1)[:, sets.place]
                for field in Effect._fields
            )
            different = sets.different
        else:
            different = real[0].sets
            matched = np.array([unit.matched for unit in real])
            moved = np.array([[unit.matched_changed] for unit in real])
        return [
            causal.Unit(
                variable=pairs.variable,
                value=value,
                pairs=pairs.values.count(value),
                latents=float(j[u]),
                ceiling=float(ceilings[u]),
                matched=tuple(matched[u].tolist()),
                random_direction=float(direction[u]),
                changed=float(found.changed[u, 0]),
                matched_changed=float(moved[u].mean()),
                readable=None if read is None else float(found.success[u, 2]),
                sets=different,
            )
            for u, value in enumerate(pairs.present(names))
        ]


class Effect(NamedTuple):
    """What edits do, mean over each value's pairs."""

    success: np.ndarray
    """float64 [v, e]: joint success"""
    changed: np.ndarray
    """float64 [v, e]: whether any prediction that is read or lies between is another"""


class JointSuccess:
    """J of edits of the same pairs, all edits of a pair from one prefix."""

    def __init__(self, model: Any, hookpoint: HookPoint, pairs: PairTokens, values: list[str]) -> None:
        self.model, self.hookpoint, self.pairs = model, hookpoint, pairs
        self.of_value = np.stack([np.array(pairs.values) == value for value in values]).astype(float)
        self.of_value /= self.of_value.sum(axis=1, keepdims=True)
        unedited = read_pairs(model, str(hookpoint), pairs)
        self.hidden = unedited.hidden
        ahead = pairs.readouts - pairs.positions[:, None]
        self.window = reach(model, hookpoint.layer, int(ahead.max()) + 1)
        # What an edit cannot reach is as it was, and stands behind the predictions that it can.
        self.inside = torch.arange(self.window) <= ahead.max(dim=1).values[:, None]
        at = (pairs.positions[:, None] + torch.arange(self.window)).clamp_max(unedited.predicted.shape[1] - 1)
        self.unchanged = unedited.predicted.gather(1, at)
        self.beyond = unedited.predicted.gather(1, pairs.readouts.clamp_min(0))
        behind = self.window + torch.arange(ahead.shape[1])
        self.index = torch.where(pairs.readouts < 0, -1, torch.where(ahead < self.window, ahead, behind))

    @torch.no_grad()
    def __call__(self, delta: torch.Tensor) -> Effect:
        """Of `delta` [n, e, d_in], added at each pair's site."""
        layer, positions = self.hookpoint.layer, self.pairs.positions
        success, changed = np.empty(delta.shape[:2]), np.empty(delta.shape[:2])
        for rows, copies in packs(self.model, layer, positions, delta.shape[1], self.window):
            found = [
                edited_logits(
                    self.model, layer, self.hidden[rows], positions[rows],
                    residual_step(self.model, self.hookpoint, some), self.window,
                ).argmax(dim=-1)
                for some in delta[rows].split(copies, dim=1)
            ]  # fmt: skip
            predicted = torch.cat(found, dim=1)
            success[rows.numpy()] = self._read(rows, predicted)
            other = (predicted != self.unchanged[rows, None]) & self.inside[rows, None]
            changed[rows.numpy()] = other.any(dim=2).numpy()
        return Effect(self.of_value @ success, self.of_value @ changed)

    def _read(self, rows: torch.Tensor, found: torch.Tensor) -> np.ndarray:
        """bool [r, e] from the predictions [r, e, w] from the edited token on."""
        edits = found.shape[1]
        everything = torch.cat([found, self.beyond[rows, None].expand(-1, edits, -1)], dim=2)
        index, expected = (part[rows, None].expand(-1, edits, -1) for part in (self.index, self.pairs.expected))
        flat = causal.read_out(everything.flatten(0, 1), index.flatten(0, 1), expected.flatten(0, 1))
        return flat.unflatten(0, (len(rows), edits)).numpy()


def supervised(pairs: PairTokens, names: Sequence[str], unedited: Unedited, means: torch.Tensor) -> list[torch.Tensor]:
    """[n, d_in] each: the difference of the class means [v, d_in], and the exchange of their span."""
    base, source = pairs.codes(names)
    return [means[source] - means[base], causal.class_subspace(unedited.base, unedited.source, means)]


INTERCHANGE = Exhibit(_interchange, _summarise)
