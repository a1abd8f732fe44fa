"""Causal feature coherence: joint success per variable value, corrected for its null and its ceiling (SCIENCE 4.6)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from raysae.falsification.criterion import CEILING_J, CORRECTED_J, SEED_SHARE
from raysae.falsification.intervals import benjamini_hochberg, clopper_pearson, permutation_p
from raysae.falsification.metrics.documents import MAIN
from raysae.types.metric import Gate, Metric, NullValue


class Unit(NamedTuple):
    """One value of one variable in one seed: mean joint success J under each edit, over the same pairs."""

    variable: str
    value: str
    pairs: int
    latents: float
    """J of the selected latents."""
    ceiling: float
    """J of the best supervised edit."""
    matched: tuple[float, ...]
    """J of each matched set (N9)."""
    random_direction: float
    """J of the norm-matched direction (N10)."""
    changed: float | None = None
    """Share of pairs in which any prediction changed."""
    matched_changed: float | None = None
    readable: float | None = None
    """J of the part of the edit that what comes behind can read; null where that is not known."""
    sets: int | None = None
    """How many of the matched sets are different ones; null: all."""

    @property
    def name(self) -> str:
        return f"{self.variable}={self.value}"

    @property
    def illusion(self) -> bool:
        """Whether more than half of the effect needs what nothing reads (SCIENCE 4.8)."""
        return self.readable is not None and self.readable < self.latents / 2

    def instead(self, j: float) -> "Unit":
        """As if this were the J of the selected latents."""
        return self._replace(latents=j, readable=None)


class Judged(NamedTuple):
    """Per unit: J between its null and its ceiling, and whether that makes it coherent in this seed."""

    corrected: Float[np.ndarray, " u"]
    """NaN where the unit cannot be tested."""
    coherent: Bool[np.ndarray, " u"]


def judge(
    j: Float[np.ndarray, " u"],
    matched: Float[np.ndarray, "u k"],
    ceiling: Float[np.ndarray, " u"],
    sets: Int[np.ndarray, " u"] | None = None,
) -> Judged:
    """Coherent iff (J - p95 of matched) / (ceiling - p95 of matched) >= 0.8 and significant against the matched sets at
    false discovery rate 0.05; of the matched ones, `sets` are different. Without the floor on the ceiling one lucky
    pair on a broken model would be 0.01 / 0.01 = 1. NaN: a set that was not drawn, since nothing could make the unit
    coherent; nor is it, but to the others' false discovery rate it counts as the set would that lets them most easily
    through: cutting draws lowers no null."""
    null = np.nanquantile(matched, 0.95, axis=1, method="higher")
    testable = (ceiling >= CEILING_J) & (ceiling > null)
    corrected = np.full(len(j), np.nan)
    corrected[testable] = (j - null)[testable] / (ceiling - null)[testable]
    p = np.where(testable, permutation_p(j, np.nan_to_num(matched, nan=-np.inf), sets), 1.0)
    drawn = ~np.isnan(matched).any(axis=1)
    with np.errstate(invalid="ignore"):
        return Judged(corrected, (corrected >= CORRECTED_J - 1e-9) & benjamini_hochberg(p) & drawn)


def summarise(arms: Mapping[str, Sequence[Sequence[Unit]]], *, pairs: int) -> Metric:
    """CFC: share of registered units coherent in most seeds, exact interval.

    `arms` maps `main`, `random_model`, `permuted_labels` to the units of each seed, in the same order.
    `permuted_labels` has the latents that were chosen on permuted labels. The two nulls inside a unit, matched sets and
    a random direction, count where they reach 0.8 of the ceiling with nothing taken off: what is measured against its
    own like never stands out.
    """
    main = arms[MAIN]
    names = _same_units(arms)
    n = len(names)
    if n == 0:
        return _metric(main, None, None, pairs, {}, "No variable admits informative pairs in this text.")
    coherent = _coherent(main)
    count = int(coherent.sum())
    nulls = {
        arm: _null([int(_coherent(seeds).sum())], n, _arm_note(seeds)) for arm, seeds in arms.items() if arm != MAIN
    }
    arrays = [_arrays(seed) for seed in main]
    draws = min(matched.shape[1] for _, matched, _ in arrays)
    nulls["matched_latents"] = _null(
        [_reaching([(matched[:, k], ceiling) for _, matched, ceiling in arrays]) for k in range(draws)],
        n,
        f"mean J {_mean_matched(main):.3f}",
    )
    direction = [np.array([unit.random_direction for unit in seed]) for seed in main]
    nulls["random_direction"] = _null(
        [_reaching([(j, ceiling) for j, (_, _, ceiling) in zip(direction, arrays, strict=True)])],
        n,
        f"mean J {_mean(main, 'random_direction'):.3f}",
    )
    return _metric(main, count / n, clopper_pearson(count, n), pairs, nulls, None)


def table(arms: Mapping[str, Sequence[Sequence[Unit]]]) -> list[dict[str, Any]]:
    """One row per unit, J averaged over seeds: the rows of `metrics/causal.json`."""
    main, names = arms[MAIN], _same_units(arms)
    if not names:
        return []
    coherent, judged = _coherent(main), [_judge(seed) for seed in main]
    rows = []
    for u, unit in enumerate(main[0]):
        seeds = [seed[u] for seed in main]
        corrected = float(np.mean([one.corrected[u] for one in judged]))
        others = {
            arm: float(np.mean([seed[u].latents for seed in arms[arm]])) if arms.get(arm) else None
            for arm in ("random_model", "permuted_labels")
        }
        rows.append(
            {
                "variable": unit.variable,
                "value": unit.value,
                "pairs": unit.pairs,
                "latents": float(np.mean([one.latents for one in seeds])),
                "ceiling": float(np.mean([one.ceiling for one in seeds])),
                "matched_mean": float(np.mean([np.mean(one.matched) for one in seeds])),
                "matched_p95": float(np.mean([np.quantile(one.matched, 0.95, method="higher") for one in seeds])),
                "random_direction": float(np.mean([one.random_direction for one in seeds])),
                **others,
                "corrected": None if np.isnan(corrected) else corrected,
                "coherent": bool(coherent[u]),
            }
        )
    return rows


def _arrays(seed: Sequence[Unit]) -> tuple[Float[np.ndarray, " u"], Float[np.ndarray, "u k"], Float[np.ndarray, " u"]]:
    if not all(unit.matched for unit in seed):
        raise ValueError("a unit has no matched sets; allowed: at least one")
    draws = max(len(unit.matched) for unit in seed)
    return (
        np.array([unit.latents for unit in seed], dtype=np.float64),
        np.array([(*unit.matched, *[np.nan] * (draws - len(unit.matched))) for unit in seed], dtype=np.float64),
        np.array([unit.ceiling for unit in seed], dtype=np.float64),
    )


def _judge(seed: Sequence[Unit]) -> Judged:
    j, matched, ceiling = _arrays(seed)
    sets = np.array([matched.shape[1] if unit.sets is None else unit.sets for unit in seed])
    found = judge(j, matched, ceiling, sets)
    return found._replace(coherent=found.coherent & ~np.array([unit.illusion for unit in seed]))


def _coherent(seeds: Sequence[Sequence[Unit]]) -> Bool[np.ndarray, " u"]:
    return _in_most_seeds([_judge(seed).coherent for seed in seeds])


def _in_most_seeds(flags: Sequence[Bool[np.ndarray, " u"]]) -> Bool[np.ndarray, " u"]:
    return np.mean(flags, axis=0) >= SEED_SHARE - 1e-9


def _reaching(seeds: Sequence[tuple[Float[np.ndarray, " u"], Float[np.ndarray, " u"]]]) -> int:
    """Units in which J comes to 0.8 of the ceiling in most seeds, of (J, ceiling) of each seed."""
    return int(
        _in_most_seeds([(ceiling >= CEILING_J) & (j >= CORRECTED_J * ceiling - 1e-9) for j, ceiling in seeds]).sum()
    )


def _null(counts: Sequence[int], n: int, note: str) -> NullValue:
    """The interval is that of the draw at the 95th percentile, as in alignment."""
    p95 = int(np.quantile(counts, 0.95, method="higher"))
    return NullValue(mean=float(np.mean(counts)) / n, p95=p95 / n, interval=clopper_pearson(p95, n), n=n, note=note)


def _arm_note(seeds: Sequence[Sequence[Unit]]) -> str:
    ceiling = _mean(seeds, "ceiling")
    note = f"mean J {_mean(seeds, 'latents'):.3f}, mean ceiling {ceiling:.3f}"
    return note + (
        ": no edit of this model does the task, so no unit of it can be coherent" if ceiling < CEILING_J / 2 else ""
    )


def _mean(seeds: Sequence[Sequence[Unit]], field: str) -> float:
    return float(np.mean([getattr(unit, field) for seed in seeds for unit in seed]))


def _mean_matched(seeds: Sequence[Sequence[Unit]]) -> float:
    return float(np.mean([np.mean(unit.matched) for seed in seeds for unit in seed]))


def _same_units(arms: Mapping[str, Sequence[Sequence[Unit]]]) -> list[str]:
    lists = [[unit.name for unit in seed] for seeds in arms.values() for seed in seeds]
    if any(names != lists[0] for names in lists):
        raise ValueError("arms or seeds were measured on different units; allowed: the registered ones, in one order")
    if lists and len(set(lists[0])) != len(lists[0]):
        raise ValueError("a unit is measured twice; allowed: each variable value once")
    return lists[0] if lists else []


def _metric(
    main: Sequence[Sequence[Unit]],
    value: float | None,
    interval: tuple[float, float] | None,
    pairs: int,
    nulls: dict[str, NullValue],
    not_run: str | None,
) -> Metric:
    also: dict[str, float | None] = {}
    n = len(main[0]) if main else 0
    gates: tuple[Gate, ...] = ()
    if n:
        fewest = min((unit for seed in main for unit in seed), key=lambda unit: unit.pairs)
        detail = f"{fewest.name} has {fewest.pairs} informative pairs, registered are {pairs}"
        gates = (Gate(name="pairs", passed=fewest.pairs >= pairs, detail=detail),)
        units = [unit for seed in main for unit in seed]
        known = [unit.illusion for unit in units if unit.readable is not None]
        illusions = float(sum(known)) / len(main) if known else None
        corrected = np.stack([_judge(seed).corrected for seed in main])
        also = {
            "mean_j": _mean(main, "latents"),
            "mean_ceiling_j": _mean(main, "ceiling"),
            "mean_matched_j": _mean_matched(main),
            "untestable_units": float(np.isnan(corrected).any(axis=0).sum()),
            **{
                key: _mean_of_known(units, field)
                for key, field in (("any_change", "changed"), ("any_change_matched", "matched_changed"))
            },
            **({"illusions": illusions} if illusions is not None else {}),
        }
    return Metric(
        name="causal_interchange",
        unit="share of variable values",
        direction=">=",
        value=value,
        interval=interval,
        n=n,
        unit_of_sampling="variable value",
        seeds=len(main),
        per_seed=tuple(float(_judge(seed).coherent.mean()) for seed in main) if n else (),
        nulls=nulls,
        ceiling=_ceiling(main) if n else None,
        gates=gates,
        also=also,
        not_run=not_run,
    )


def _ceiling(main: Sequence[Sequence[Unit]]) -> float:
    """CFC of the best supervised edit, judged by the rule the latents are."""
    return float(_coherent([[unit.instead(unit.ceiling) for unit in seed] for seed in main]).mean())


def _mean_of_known(units: Sequence[Unit], field: str) -> float | None:
    known = [value for unit in units if (value := getattr(unit, field)) is not None]
    return float(np.mean(known)) if known else None
