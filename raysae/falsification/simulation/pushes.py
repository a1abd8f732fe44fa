"""Causal attribution: toy readers that depend on a latent where it is on, in FIT alone or in TEST as well."""

from functools import partial

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn.functional import logsigmoid

from raysae.falsification.criteria import CRITERIA
from raysae.falsification.criterion import ATTRIBUTION, SEEDS_FOR_GO
from raysae.falsification.intervals import draws_needed
from raysae.falsification.metrics import attributed, attribution
from raysae.falsification.metrics.attribution import KEPT, LATENTS, Attribution, Probe, Scores
from raysae.falsification.metrics.documents import MAIN
from raysae.falsification.metrics.null_directions import NULLS, null_draws
from raysae.falsification.simulation.factors import random_rows
from raysae.falsification.simulation.trial import (
    PLANTED_RATE,
    PLANTED_UNITS,
    POWER_NEEDED,
    Simulation,
    World,
    seed_of,
)
from raysae.types.metric import Metric

D, GROUPS, SITES = 24, 4, 5
"""Of the activation, of what a model says (the last group is a control), and per latent and split."""
FEWEST_LATENTS = CRITERIA["causal_attribution"].minimum_n
INERT = 20
"""Alive latents beside those that are to be the first on FIT."""
STEP = 0.5
"""Standard deviation of every latent."""


def readers(rng: np.random.Generator, rows: Tensor, read: Bool[np.ndarray, " m"]) -> Probe:
    """Sites of every latent: where it is `read`, the score of its target depends on its direction, else on others."""
    owner = np.repeat(np.arange(len(rows)), SITES)
    weights = 0.05 * torch.from_numpy(rng.standard_normal((len(owner), GROUPS, D))).float()
    elsewhere = random_rows(rng, len(owner), D)
    own = torch.where(torch.from_numpy(read[owner])[:, None], rows[owner], elsewhere)
    weights[torch.arange(len(owner)), torch.from_numpy(owner) % (GROUPS - 1)] += 3 * own
    bias = torch.from_numpy(rng.standard_normal((len(owner), GROUPS))).float()

    def score(sites: Tensor, delta: Tensor) -> Scores:
        value = logsigmoid(bias[sites][:, None] + torch.einsum("ned,ngd->neg", delta, weights[sites]))
        return Scores(value, value.argmax(dim=-1, keepdim=True))

    return Probe(score, owner, torch.from_numpy(1 + rng.random(len(owner))).float())


def pushed(
    rng: np.random.Generator, first: int, holds: Bool[np.ndarray, " first"], read_on_fit: bool = True
) -> Attribution:
    """One SAE. Its first `first` latents promise an effect on FIT; those that hold have it on TEST."""
    m = first + INERT
    rows = random_rows(rng, m, D)
    on_fit, on_test = np.zeros(m, dtype=bool), np.zeros(m, dtype=bool)
    on_fit[:first], on_test[:first] = read_on_fit, holds
    fit, test = readers(rng, rows, on_fit), readers(rng, rows, on_test)
    everyone, rates = np.ones(m, dtype=bool), np.full(m, 0.02)
    n = m * SITES
    found = attribution.measure(
        fit,
        test,
        rows,
        null_draws(rows, rates, everyone, np.arange(m), seed_of(rng)),
        torch.full((m,), STEP),
        {name: torch.full((n,), value) for name, value in (("zero", 0.0), ("mean", 0.02), ("resample", 1.0))},
        None,
        GROUPS - 1,
        {
            "matched_latents": 1 + KEPT,
            "random_direction": 1 + max(draws_needed(m, first // 2), 99),
            "shuffled_decoder": m - 1,
        },
    )
    return Attribution(
        latent=np.arange(m),
        rate=rates,
        variance=np.ones(m),
        sites=np.full(m, SITES),
        off_support=np.zeros(m, dtype=np.int64),
        **found,
    )


def share_that_holds(rng: np.random.Generator, first: int, rate: float | None) -> Metric:
    """Five SAEs whose promises hold with probability `rate`, the same features in each; with None one of the nulls
    stands in their place: an untrained model, or its directions in the place of every latent's."""
    holds = rng.random(first) < (1.0 if rate is None else rate)
    main = [pushed(rng, first, holds) for _ in range(SEEDS_FOR_GO)]
    untrained = [pushed(rng, first, np.zeros(first, dtype=bool), read_on_fit=False) for _ in range(SEEDS_FOR_GO)]
    if rate is None:
        arm = CRITERIA["causal_attribution"].voiding_nulls[rng.integers(3)]
        main = untrained if arm not in NULLS else [
            found._replace(directions={**found.directions, LATENTS: found.directions[arm]}) for found in main
        ]  # fmt: skip
    return attributed.summarise({MAIN: main, "random_model": untrained}, latents=first, seed=seed_of(rng))


SIMULATION: Simulation = {
    "null": World(
        "An untrained model, random directions or a shuffled decoder, in turn at random, take the place of the real.",
        partial(share_that_holds, first=FEWEST_LATENTS, rate=None),
        FEWEST_LATENTS,
    ),
    "threshold": World(
        f"What a latent promises on FIT holds on TEST with probability {ATTRIBUTION:g}, the threshold, in every seed.",
        partial(share_that_holds, first=FEWEST_LATENTS, rate=ATTRIBUTION),
        FEWEST_LATENTS,
    ),
    "truth": World(
        f"What a latent promises on FIT holds on TEST with probability {PLANTED_RATE:g}; {PLANTED_UNITS} are judged.",
        partial(share_that_holds, first=PLANTED_UNITS, rate=PLANTED_RATE),
        PLANTED_UNITS,
        claim_holds=True,
        needed=POWER_NEEDED,
    ),
}
