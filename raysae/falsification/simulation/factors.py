"""Alignment: documents in which factors hold for a while, activations that are sums of their directions, and SAEs that
know the true direction of all but some (SCIENCE 3, stratum O)."""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from raysae.falsification.criterion import ALIGNMENT, SEEDS_FOR_GO
from raysae.falsification.metrics import alignment
from raysae.falsification.metrics.documents import MAIN
from raysae.falsification.simulation.trial import (
    FEWEST_UNITS,
    PLANTED_RATE,
    PLANTED_UNITS,
    POWER_NEEDED,
    Simulation,
    World,
    seed_of,
)
from raysae.types.metric import Metric

PART, PARTS = 4, 5
"""Tokens for which a factor holds, and such parts per document."""
ON = (4, 5, 6, 7, 8)
"""Factors that hold at once, in turn."""
ROUNDS = 60
"""Parts per factor and split: with four tokens each more than the 200 that the audit asks of TEST."""
BIAS = 0.5
"""Of every latent: half of the smallest amplitude of a factor."""
NOISE = 0.01
NULLS = ("random_dictionary", "frozen_decoder", "random_model")


Codes = tuple[Float[Tensor, "n m"], Float[Tensor, "k m"]]


class Labelled(NamedTuple):
    """One split."""

    factors: Bool[np.ndarray, "n F"]
    document: Int[np.ndarray, " n"]
    x: Float[Tensor, "n F"]
    """As many dimensions as factors: one orthogonal direction for each."""


def split(rng: np.random.Generator, count: int, directions: Float[Tensor, "F F"]) -> Labelled:
    """Every factor is on for about the same number of tokens, so none fails the audit by chance; how many are on at
    once varies, or the last would be what the others leave over."""
    order = np.concatenate([rng.permutation(count) for _ in range(ROUNDS)])
    sizes = rng.permutation(np.resize(ON, len(order) // int(np.mean(ON))))
    part = np.zeros((len(sizes), count), dtype=bool)
    part[np.repeat(np.arange(len(sizes)), sizes), order] = True
    factors = part.repeat(PART, axis=0)
    amplitudes = torch.from_numpy(factors * rng.uniform(1, 1.2, factors.shape)).float()
    noise = torch.from_numpy(NOISE * rng.standard_normal(factors.shape)).float()
    return Labelled(factors, np.arange(len(factors)) // (PART * PARTS), amplitudes @ directions + noise)


def oracle(
    rng: np.random.Generator, directions: Float[Tensor, "F F"], known: Bool[np.ndarray, " F"]
) -> Float[Tensor, "F F"]:
    """The true directions in an order of its own; a random one where a factor is not known."""
    rows = directions.clone()
    rows[torch.from_numpy(~known)] = random_rows(rng, int((~known).sum()), len(rows))
    return rows[torch.from_numpy(rng.permutation(len(rows)))]


def orthogonal(rng: np.random.Generator, d: int) -> Float[Tensor, "d d"]:
    return torch.linalg.qr(torch.from_numpy(rng.standard_normal((d, d))).float())[0]


def random_rows(rng: np.random.Generator, count: int, d: int) -> Float[Tensor, "count d"]:
    rows = torch.from_numpy(rng.standard_normal((count, d))).float()
    return rows / rows.norm(dim=1, keepdim=True)


def codes(x: tuple[Tensor, Tensor], rows: Float[Tensor, "m F"]) -> Codes:
    """Latents of FIT and TEST."""
    fit, test = (torch.relu(part @ rows.T - BIAS) for part in x)
    return fit, test


def nothing_learnt(rng: np.random.Generator, x: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], arm: str) -> Codes:
    """Latents that know nothing of the factors: random directions, read by a tied encoder or by the best linear one
    (frozen decoder at its best), or the true directions of another model (`other`)."""
    rows = random_rows(rng, x[0].shape[1], x[0].shape[1])
    if arm == "frozen_decoder":
        rows = torch.linalg.pinv(rows).T
        rows /= rows.norm(dim=1, keepdim=True)
    return codes(other if arm == "random_model" else x, rows)


def share_of_factors(rng: np.random.Generator, count: int, rate: float | None, labels_permuted: bool = False) -> Metric:
    """Five SAEs that know each factor with probability `rate`; with None one of the nulls stands in their place.
    `labels_permuted`: what is called main is the oracle under labels exchanged between documents (N6)."""
    directions, others = (orthogonal(rng, count) for _ in range(2))
    fit, test = split(rng, count, directions), split(rng, count, directions)
    names = alignment.register_factors(fit.factors, len(test.factors), [f"factor={i}" for i in range(count)]).kept
    x, other = (fit.x, test.x), (split(rng, count, others).x, split(rng, count, others).x)
    nulls = {arm: [nothing_learnt(rng, x, other, arm) for _ in range(SEEDS_FOR_GO)] for arm in NULLS}
    if rate is None:
        main = nulls[NULLS[rng.integers(len(NULLS))]]
    else:
        known = rng.random(count) < rate
        main = [codes(x, oracle(rng, directions, known)) for _ in range(SEEDS_FOR_GO)]
    arms = {
        arm: [alignment.align(h_fit, fit.factors, h_test, test.factors) for h_fit, h_test in seeds]
        for arm, seeds in {MAIN: main, **nulls}.items()
    }
    permuted = [
        alignment.align_permuted(
            h_fit, fit.factors, fit.document, h_test, test.factors, test.document, draws=1, seed=seed_of(rng)
        )
        for h_fit, h_test in main
    ]
    if labels_permuted:
        arms[MAIN] = [draws[0] for draws in permuted]
    return alignment.summarise(arms, names=names, drawn={"permuted_labels": permuted})


SIMULATION: Simulation = {
    "labels": World(
        "The SAEs are perfect, the labels are exchanged between documents (N6).",
        partial(share_of_factors, count=FEWEST_UNITS, rate=1.0, labels_permuted=True),
        FEWEST_UNITS,
    ),
    "null": World(
        "One of the voiding nulls, in turn at random, stands in the place of the real SAEs.",
        partial(share_of_factors, count=FEWEST_UNITS, rate=None),
        FEWEST_UNITS,
    ),
    "threshold": World(
        f"A factor has a latent with probability {ALIGNMENT:g}, the threshold itself.",
        partial(share_of_factors, count=FEWEST_UNITS, rate=ALIGNMENT),
        FEWEST_UNITS,
    ),
    "truth": World(
        f"A factor has a latent with probability {PLANTED_RATE:g}, its true direction; there are {PLANTED_UNITS}.",
        partial(share_of_factors, count=PLANTED_UNITS, rate=PLANTED_RATE),
        PLANTED_UNITS,
        claim_holds=True,
        needed=POWER_NEEDED,
    ),
}
