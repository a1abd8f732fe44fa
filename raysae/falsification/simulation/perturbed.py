"""Brittleness: latents that detect factors, and detect fewer of them once the text has changed."""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from raysae.falsification.criterion import BRITTLENESS, REPLICATES, SEEDS_FOR_GO
from raysae.falsification.metrics import alignment, brittleness, tallies
from raysae.falsification.metrics.brittleness import CLEAN, PERTURBATIONS, Perturbed
from raysae.falsification.metrics.documents import MAIN
from raysae.falsification.metrics.matching import fires_above, permuted_rows
from raysae.falsification.simulation.trial import FEWEST_DOCUMENTS, Simulation, World, seed_of
from raysae.types.metric import Metric

FACTORS, LATENTS, LENGTH = 6, 10, 20
RATE = 0.1
"""Share of tokens on which a factor holds."""
HIT, FALSE_ALARM = 0.97, 0.003
"""How often a latent fires where its factor holds, and elsewhere, on clean text."""
EVEN = 20.0
"""Documents differ in how much is detected: Beta with this many prior tokens."""
NULLS = ("random_dictionary", "random_model")


class Text(NamedTuple):
    factors: Bool[np.ndarray, "n F"]
    document: Int[np.ndarray, " n"]


def hit_after(loss: float) -> float:
    """Share of hits at which F1 is lower by `loss`, everything else as on clean text."""
    others = FALSE_ALARM * (1 - RATE) + RATE
    f1 = (1 - loss) * 2 * HIT * RATE / (HIT * RATE + others)
    return f1 * others / (RATE * (2 - f1))


def text(rng: np.random.Generator) -> Text:
    document = np.repeat(np.arange(FEWEST_DOCUMENTS), LENGTH)
    return Text(rng.random((len(document), FACTORS)) < RATE, document)


def latents(rng: np.random.Generator, read: Text, hit: float) -> Float[Tensor, "n m"]:
    """One latent per factor, and some that fire anywhere."""
    share = rng.beta(hit * EVEN, (1 - hit) * EVEN, FEWEST_DOCUMENTS)[read.document, None]
    drawn = rng.random(read.factors.shape)
    fires = np.where(read.factors, drawn < share, drawn < FALSE_ALARM)
    return torch.from_numpy(np.concatenate([fires, idle(rng, len(fires), LATENTS - FACTORS)], axis=1)).float()


def idle(rng: np.random.Generator, tokens: int, count: int) -> Bool[np.ndarray, "tokens count"]:
    return rng.random((tokens, count)) < RATE


def loss(rng: np.random.Generator, worst: float | None, labels_permuted: bool = False) -> Metric:
    """Five SAEs that lose this share of their F1 under one perturbation and none under the others; with None a null
    stands in their place. `labels_permuted`: they lose nothing and are held to labels of other documents (N6)."""
    fit, test = text(rng), text(rng)
    hits = {kind: HIT for kind in (CLEAN, *PERTURBATIONS)}
    hits[PERTURBATIONS[rng.integers(len(PERTURBATIONS))]] = hit_after(worst or 0.0)

    def detected(arm: str) -> Perturbed:
        def encode(read: Text, hit: float) -> Tensor:
            if arm in NULLS:
                return torch.from_numpy(idle(rng, len(read.document), LATENTS)).float()
            return latents(rng, read, hit)

        asked = (fit, test)
        if arm == "permuted_labels":
            asked = tuple(
                Text(part.factors[permuted_rows(part.document, seed_of(rng))], part.document) for part in asked
            )
        found = alignment.align(encode(fit, HIT), asked[0].factors, encode(test, HIT), asked[1].factors)
        return {
            kind: tallies.f1(
                fires_above(encode(test, hit), found.latents, found.thresholds),
                asked[1].factors,
                test.document,
                FEWEST_DOCUMENTS,
            )
            for kind, hit in hits.items()
        }

    arms = {arm: [detected(arm) for _ in range(SEEDS_FOR_GO)] for arm in (MAIN, "permuted_labels", *NULLS)}
    if labels_permuted:
        arms[MAIN] = arms["permuted_labels"]
    elif worst is None:
        arms[MAIN] = arms[NULLS[rng.integers(len(NULLS))]]
    return brittleness.summarise(arms, bootstrap=REPLICATES, seed=seed_of(rng))


SIMULATION: Simulation = {
    "labels": World(
        "The SAEs lose nothing, the labels are exchanged between documents (N6).",
        partial(loss, worst=0.0, labels_permuted=True),
        FEWEST_DOCUMENTS,
    ),
    "null": World(
        "A random dictionary or the SAE of a random model, in turn at random, stands in the place of the real.",
        partial(loss, worst=None),
        FEWEST_DOCUMENTS,
    ),
    "threshold": World(
        f"Under one perturbation F1 falls by {BRITTLENESS:g} of itself, the limit, under the others not at all.",
        partial(loss, worst=BRITTLENESS),
        FEWEST_DOCUMENTS,
    ),
    "truth": World(
        "Under one perturbation F1 falls by 0.05 of itself, under the others not at all.",
        partial(loss, worst=0.05),
        FEWEST_DOCUMENTS,
        claim_holds=True,
    ),
}
