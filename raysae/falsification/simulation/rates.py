"""From trials to rates: how often the court said GO, how sure that is, and whether it is within bounds (SCIENCE 9)."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from scipy import stats

from raysae.falsification.criteria import CRITERIA
from raysae.falsification.intervals import clopper_pearson
from raysae.falsification.simulation.trial import Kind, Trial, World
from raysae.types.metric import Outcome

FALSE_GO = 0.05
"""Most of the false claims that may be called GO, in the long run."""
DRAWN = 60
"""Intervals per world that are kept for the figure."""


def allowed(simulations: int) -> int:
    """Most false GO among so many simulations that a court with a rate of 0.05 exceeds in at most one of 20
    calibrations: 27 of 400."""
    return int(stats.binom.ppf(1 - FALSE_GO, simulations, FALSE_GO))


def rates(world: World, trials: Sequence[Trial]) -> dict[str, Any]:
    """What is reported of one world, as plain values."""
    n, go = len(trials), sum(trial.outcome is Outcome.GO for trial in trials)
    asked = math.ceil(world.needed * n - 1e-9) if world.needed is not None else 0
    within = go >= asked if world.claim_holds else go <= allowed(n)
    said = Counter(f"{t.outcome} ({t.reason})" if t.reason else str(t.outcome) for t in trials)
    return {
        "truth": world.truth,
        "claim_holds": world.claim_holds,
        "units": world.units,
        "simulations": n,
        "go": go,
        "rate": go / n,
        "interval": list(clopper_pearson(go, n, 0.025)),
        "at_most": None if world.claim_holds else allowed(n),
        "at_least": asked if world.claim_holds and world.needed is not None else None,
        "within": within,
        "said": dict(sorted(said.items())),
        "drawn": _drawn(trials),
    }


def by_criterion(name: str, worlds: dict[Kind, dict[str, Any]]) -> dict[str, Any]:
    """The worst rate of false GO, and the power."""
    row = CRITERIA[name]
    false = [world["rate"] for world in worlds.values() if not world["claim_holds"]]
    return {
        "threshold": row.threshold,
        "direction": row.direction,
        "unit": row.unit,
        "reads_labels": row.reads_labels,
        "false_go_rate": max(false),
        "power": next(world["rate"] for world in worlds.values() if world["claim_holds"]),
        "within": all(world["within"] for world in worlds.values()),
        "worlds": worlds,
    }


def _drawn(trials: Sequence[Trial]) -> list[list[float | str]]:
    """[value, lower, upper, outcome] of simulations evenly spaced in the order of their values."""
    known = sorted(
        (trial.value, *trial.interval, str(trial.outcome))
        for trial in trials
        if trial.value is not None and trial.interval is not None
    )
    count = min(DRAWN, len(known))
    return [list(known[i * len(known) // count]) for i in range(count)]
