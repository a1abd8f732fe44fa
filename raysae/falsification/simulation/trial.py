"""One simulated court case: a made world, the metric's own functions, a confirmatory protocol, `decide` (SCIENCE 9)."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Literal, NamedTuple

import numpy as np

from raysae.falsification.criteria import CRITERIA
from raysae.falsification.criterion import PAIRS_PER_VALUE, REPLICATES
from raysae.falsification.nulls import NULLS
from raysae.falsification.protocol import Protocol, draft
from raysae.falsification.verdict import decide
from raysae.types.experiment import Experiment
from raysae.types.metric import Metric, Outcome, Reason

FEWEST_DOCUMENTS = 59
"""The fewest with which a criterion over documents can be GO: there the intervals are hardest to get right."""
FEWEST_UNITS = 60
"""For a proportion of at least 0.95 the fewest, rounded: then only 60 of 60 is GO, so a true 0.95 passes in 4.6 %."""
PLANTED_UNITS, PLANTED_RATE, POWER_NEEDED = 200, 0.995, 0.95
"""So many units of so high a true rate must be found in so many runs (SCIENCE 9)."""
DIFFICULTY = 0.5
"""Documents differ: standard deviation of the logarithm of how hard each is."""
L0_CAP = 6.4


class World(NamedTuple):
    """What is true in a simulation, and how the metric is measured in it."""

    truth: str
    """A sentence."""
    measure: Callable[[np.random.Generator], Metric]
    """Everything random comes from the generator."""
    units: int
    """Registered factors, circuit variables or documents."""
    claim_holds: bool = False
    """Whether GO is the right answer."""
    needed: float | None = None
    """Least rate of GO where the claim holds; null: the rate is reported only."""


class Trial(NamedTuple):
    """What the court said."""

    outcome: Outcome
    reason: Reason | None
    value: float | None
    interval: tuple[float, float] | None


Kind = Literal["threshold", "null", "labels", "truth"]
"""The true value at the threshold; a voiding null in the place of the real SAE; labels permuted (N6); planted truth."""

Simulation = Mapping[Kind, World]
"""The worlds of one criterion."""


def try_world(criterion: str, world: World, seed: int) -> Trial:
    """Measure and judge once."""
    metric = world.measure(np.random.default_rng(seed))
    protocol, sha256 = registered(criterion, world.units)
    verdict = decide(
        protocol, {criterion: metric}, sealed_sha256=sha256, source_sha256=protocol.source_sha256
    ).criteria[criterion]
    return Trial(verdict.outcome, verdict.reason_code, verdict.value, verdict.interval)


@cache
def registered(criterion: str, units: int) -> tuple[Protocol, str]:
    """A confirmatory protocol that could end in GO, and its hash."""
    experiment = Experiment.model_validate(
        {
            "name": "calibration",
            "train": {"seeds": max(CRITERIA[criterion].min_seeds, 1)},
            "protocol": {
                "mode": "confirmatory",
                "criteria": [criterion],
                "nulls": list(NULLS),
                "bootstrap": REPLICATES,
                "pairs": PAIRS_PER_VALUE,
                "attributed_latents": units,
            },
        }
    )
    names = tuple(f"unit={i}" for i in range(units))
    protocol = draft(
        experiment,
        l0_cap=L0_CAP,
        splits={},
        test_documents=units,
        activation_documents=units,
        factors=names,
        dropped_factors={},
        causal_units=names,
        model_sha256="",
        tokenizer_sha256="",
        commit=None,
    )
    return protocol, protocol.sha256


def seed_of(rng: np.random.Generator) -> int:
    """For the functions that take a number."""
    return int(rng.integers(2**31))
