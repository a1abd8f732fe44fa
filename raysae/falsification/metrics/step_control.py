"""Step-level control: the latents of one step type are silenced or doubled in that step only, and the rest of the text
says what comes of it.

Three outcomes, each a sum per document over what it counts: the log-probability of the true answer; how many further
steps the model would take, its chance of going on at the end of each step; and error detection, the log-odds of the
right word against the written one where a writer's slip made it wrong. Beside each effect stand that of other latents
firing as often in those steps (N9) and that of random directions of the same norm at the same tokens (N10).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from raysae.falsification.intervals import benjamini_hochberg, permutation_p
from raysae.falsification.metrics.causal import different, matched_sets, step_sizes
from raysae.falsification.metrics.matching import best_f1
from raysae.falsification.resampling import ratio_over_documents
from raysae.types.metric import Metric, NullValue

UNIT = "nats of the answer lost, mean over step types"
OUTCOMES = ("answer", "steps", "detection")
UNITS = {"answer": "nats", "steps": "steps", "detection": "nats"}
EDITS = {"ablate": -1.0, "amplify": 1.0}
"""What is added of the latents' own part of the reconstruction."""
NULLS = ("matched_latents", "random_direction")
SET = 4
"""Latents of a step type, at most."""
OTHERS = 32
"""Single latents silenced in each step type to see what any latent does there."""

Sums = dict[str, Float[np.ndarray, " documents"]]
"""Outcome -> sum per document."""
Read = Callable[[Float[Tensor, "n d"]], Sums]
"""What is added at each token of the sample -> what the model then makes of the texts."""


class Control(NamedTuple):
    """What one SAE showed."""

    latents: dict[str, list[int]]
    """Step type -> its latents."""
    clean: Sums
    effects: dict[str, dict[str, Sums]]
    """Step type -> edit -> change."""
    nulls: dict[str, dict[str, dict[str, dict[str, list[float]]]]]
    """Step type -> edit -> null -> outcome -> change over all documents, by draw."""
    single: dict[str, dict[int, dict[str, float]]]
    """Step type -> latent -> outcome -> change over all documents, the latent silenced alone."""
    others: dict[str, list[dict[str, float]]]
    """Step type -> the same of other latents that fire there."""
    sets: dict[str, int]
    """Step type -> how many of its matched sets are different ones."""


def choose(
    latents: Float[Tensor, "n m"], inside_of: Mapping[str, Bool[np.ndarray, " n"]], alive: Bool[Tensor, " m"]
) -> dict[str, list[int]]:
    """On FIT: for each step type the alive latents that detect it best (F1), each given to one type alone."""
    f1, _ = best_f1(latents, np.stack(list(inside_of.values()), axis=1), alive)
    own = f1.argmax(axis=1)
    found = {}
    for place, name in enumerate(inside_of):
        mine = np.flatnonzero((own == place) & (f1[:, place] > 0))
        found[name] = mine[np.argsort(-f1[mine, place], kind="stable")][:SET].tolist()
    return found


@torch.no_grad()
def measure(
    read: Read,
    latents: Float[Tensor, "n m"],
    W_dec: Float[Tensor, "m d"],
    inside_of: Mapping[str, Bool[np.ndarray, " n"]],
    chosen: Mapping[str, Sequence[int]],
    alive: Bool[np.ndarray, " m"],
    draws: int,
    seed: int,
) -> Control:
    """Every edit of the latents of every type that has some, on TEST. `inside_of` says which tokens are in which
    step type."""
    clean = read(torch.zeros(len(latents), W_dec.shape[1]))

    def change(delta: Tensor) -> Sums:
        edited = read(delta)
        return {name: edited[name] - clean[name] for name in OUTCOMES}

    def totals(delta: Tensor) -> dict[str, float]:
        return {name: float(column.sum()) for name, column in change(delta).items()}

    found = Control({name: list(some) for name, some in chosen.items() if some}, clean, {}, {}, {}, {}, {})
    columns = sorted({latent for some in found.latents.values() for latent in some})
    for place, (name, some) in enumerate(found.latents.items()):
        inside = torch.from_numpy(inside_of[name])

        def part(numbers: Sequence[int] | Int[np.ndarray, " c"], inside: Tensor = inside) -> Tensor:
            """What latents add to the reconstruction, in the step alone."""
            which = torch.as_tensor(numbers)
            return (latents[:, which] @ W_dec[which]) * inside[:, None]

        rates = (latents[inside] > 0).double().mean(dim=0).numpy()
        at = latents[inside]
        sizes = step_sizes(torch.zeros_like(at), at, W_dec)
        sets, of_draw = different(matched_sets(rates, some, draws, seed + place, alive, sizes))
        found.sets[name] = len(sets)
        own = part(some)
        unit = torch.from_numpy(np.random.default_rng([seed, place]).standard_normal((draws, W_dec.shape[1])))
        unit = (unit / unit.norm(dim=1, keepdim=True)).to(W_dec)
        found.effects[name], found.nulls[name] = {}, {}
        for edit, sign in EDITS.items():
            found.effects[name][edit] = change(sign * own)
            tried = [totals(sign * part(other)) for other in sets]
            drawn = {
                "matched_latents": [tried[i] for i in of_draw],
                "random_direction": [totals(own.norm(dim=1, keepdim=True) * direction) for direction in unit],
            }
            found.nulls[name][edit] = {
                null: {outcome: [one[outcome] for one in some_drawn] for outcome in OUTCOMES}
                for null, some_drawn in drawn.items()
            }
        found.single[name] = {latent: totals(-part([latent])) for latent in columns}
        free = np.flatnonzero(alive & (rates > 0) & ~np.isin(np.arange(len(rates)), columns))
        others = np.random.default_rng([seed, place, 1]).permutation(free)[:OTHERS].tolist()
        found.others[name] = [totals(-part([latent])) for latent in others]
    return found


def types(seeds: Sequence[Control]) -> list[str]:
    """Step types that have latents of their own in every seed."""
    return [name for name in seeds[0].latents if all(name in one.latents for one in seeds)]


def nothing(seeds: int, why: str) -> Metric:
    """Where it cannot be measured."""
    return Metric(
        name="step_control", unit=UNIT, direction=">=", value=None, interval=None, n=0, unit_of_sampling="document",
        seeds=seeds, not_run=why,
    )  # fmt: skip


def summarise(seeds: Sequence[Control], counts: Sums, *, bootstrap: int, seed: int) -> Metric:
    """Nats of the answer that are lost when the latents of a step type are silenced in it, a mean over step types;
    `counts` is what each outcome counts by document."""
    names = types(seeds)
    lost = np.stack([-np.mean([one.effects[name]["ablate"]["answer"] for name in names], axis=0) for one in seeds])
    texts = np.broadcast_to(counts["answer"], lost.shape)
    estimate = ratio_over_documents(lost, texts, bootstrap=bootstrap, seed=seed)
    total = counts["answer"].sum()
    drawn = {
        null: -np.concatenate(
            [np.mean([one.nulls[name]["ablate"][null]["answer"] for name in names], axis=0) for one in seeds]
        )
        / total
        for null in NULLS
    }
    found = rows(seeds, counts, bootstrap=bootstrap, seed=seed)
    return Metric(
        name="step_control",
        unit=UNIT,
        direction=">=",
        value=estimate.value,
        interval=estimate.interval,
        n=lost.shape[1],
        unit_of_sampling="document",
        seeds=len(seeds),
        per_seed=estimate.per_seed,
        nulls={
            null: NullValue(mean=float(values.mean()), p95=float(np.quantile(values, 0.95)), n=len(values))
            for null, values in drawn.items()
        },
        also={
            "cells_that_stand_out": float(sum(row["stands_out"] for row in found)),
            "cells": float(len(found)),
            **{f"clean_{outcome}": _level(seeds, counts, outcome) for outcome in OUTCOMES},
        },
    )


def rows(seeds: Sequence[Control], counts: Sums, *, bootstrap: int, seed: int) -> list[dict[str, Any]]:
    """A row per step type, edit and outcome: its effect with an interval over documents and seeds, and its nulls. What
    no edit moves, an outcome that stands before the step, has no row.

    It stands out where the interval leaves 0 out and neither null reaches the effect more often than Benjamini-Hochberg
    over all rows allows; draws are those of single seeds, which spread more than their mean does.
    """
    found: list[dict[str, Any]] = []
    for name in types(seeds):
        for edit in EDITS:
            for outcome in OUTCOMES:
                change = np.stack([one.effects[name][edit][outcome] for one in seeds])
                weight = np.broadcast_to(counts[outcome], change.shape)
                drawn_of = {
                    null: np.concatenate([one.nulls[name][edit][null][outcome] for one in seeds]) for null in NULLS
                }
                if not weight.sum() or not (change.any() or any(drawn.any() for drawn in drawn_of.values())):
                    continue
                estimate = ratio_over_documents(change, weight, bootstrap=bootstrap, seed=seed)
                row: dict[str, Any] = {"step": name, "edit": edit, "outcome": outcome, "unit": UNITS[outcome]}
                row |= {"effect": estimate.value, "interval": estimate.interval}
                for null in NULLS:
                    drawn = drawn_of[null] / counts[outcome].sum()
                    row |= {f"{null}_mean": float(drawn.mean()), f"{null}_p95": float(np.quantile(np.abs(drawn), 0.95))}
                    draws = sum(one.sets[name] for one in seeds) if null == NULLS[0] else len(drawn)
                    p = permutation_p(np.abs([estimate.value]), np.abs(drawn)[None], np.array([draws]))
                    row[f"p_{null}"] = float(p[0])
                found.append(row)
    passed = [benjamini_hochberg(np.array([row[f"p_{null}"] for row in found])) for null in NULLS] if found else []
    for place, row in enumerate(found):
        interval = row["interval"]
        away = interval is not None and not interval[0] <= 0 <= interval[1]
        row["stands_out"] = bool(away and all(flags[place] for flags in passed))
    return found


def matrix(one: Control, counts: Sums) -> list[dict[str, Any]]:
    """A cell per step type, latent and outcome of one SAE: the latent silenced in that step alone, and the 95th
    percentile of what other latents that fire there do."""
    owner = {latent: name for name, some in one.latents.items() for latent in some}
    cells: list[dict[str, Any]] = []
    for name, effects in one.single.items():
        for outcome in OUTCOMES:
            if not (total := counts[outcome].sum()):
                continue
            others = np.abs([other[outcome] for other in one.others[name]]) / total
            band = float(np.quantile(others, 0.95)) if len(others) else None
            cells += [
                {
                    "step": name,
                    "latent": latent,
                    "of": owner[latent],
                    "outcome": outcome,
                    "effect": effect[outcome] / total,
                    "band": band,
                }
                for latent, effect in effects.items()
            ]
    return cells


def _level(seeds: Sequence[Control], counts: Sums, outcome: str) -> float | None:
    total = counts[outcome].sum()
    return float(seeds[0].clean[outcome].sum() / total) if total else None
