"""Redundancy and stability: dictionaries with copies, with and without a term that parts them; trainings that agree."""

from functools import partial

import numpy as np
from jaxtyping import Float, Int

from raysae.falsification.criterion import REDUNDANCY, REPLICATES, SEEDS_FOR_GO, SEEDS_FOR_STABILITY, STABILITY
from raysae.falsification.metrics import primitives, redundancy, stability
from raysae.falsification.metrics.codes import Code
from raysae.falsification.metrics.dictionaries import Dictionary, Origin, random_rows, unit
from raysae.falsification.metrics.documents import MAIN
from raysae.falsification.metrics.redundancy import Pair, Redundancy
from raysae.falsification.metrics.screening import Screen
from raysae.falsification.simulation.trial import Simulation, World, seed_of
from raysae.types.metric import Metric

D, TOKENS, FIRINGS = 32, 500, 40
COPIED, SINGLE = 16, 16
"""Latents that have a copy, and others."""
LATENTS = 2 * COPIED + SINGLE
TURNED = 0.2
"""By how much a copy points elsewhere."""
PARTED_AT_THRESHOLD, PARTED = 0.509, 0.85
"""Share of the copies that the term parts where half of the redundancy goes, and where most does."""

PRIMITIVES = 40
FOUND = 0.05
"""By how much the same latent points elsewhere in another training."""
FIRING_NOISE_AT_THRESHOLD, FIRING_NOISE = 0.1128, 0.08
"""How much its activation differs there (relative), where r is 0.85 in the mean, and where it is higher."""
UNEVEN = 0.25
"""Primitives, and trainings, differ in it by this standard deviation of its logarithm."""


def firing(rng: np.random.Generator, latents: int) -> Float[np.ndarray, "TOKENS latents"]:
    """Every latent fires on the same number of tokens."""
    on = rng.random((TOKENS, latents)).argsort(axis=0) < FIRINGS
    return on * rng.uniform(0.5, 1.5, on.shape)


def turned(rng: np.random.Generator, rows: Float[np.ndarray, "m d"], by: float) -> Float[np.ndarray, "m d"]:
    return unit(rows + by / np.sqrt(D) * rng.standard_normal(rows.shape)).astype(np.float32)


def decorrelation(rng: np.random.Generator, parted: float | None) -> Metric:
    """Five seeds without and with the term, which parts each copy with probability `parted`; None: what is called
    decorrelated is a random dictionary."""
    pairs, nulls = [], []
    for seed in range(SEEDS_FOR_GO):
        originals, singles, fresh = (random_rows(n, D, rng) for n in (COPIED, SINGLE, COPIED))
        shared, own, other = firing(rng, COPIED), firing(rng, SINGLE), firing(rng, COPIED)
        alike = shared * rng.lognormal(0, 0.1, shared.shape)
        copies = turned(rng, originals, TURNED * np.sqrt(D))
        x = shared @ originals + alike @ copies + own @ singles + other @ fresh
        x += 0.05 * rng.standard_normal(x.shape)

        def measured(rows: np.ndarray, code: np.ndarray, start: str, x: np.ndarray = x) -> Redundancy:
            return Redundancy(
                geometric=redundancy.geometric(rows, seed_of(rng)),
                functional=redundancy.functional(Code(code)),
                alive=len(rows),
                l0=float((code != 0).sum(axis=1).mean()),
                fvu=float(np.square(x - code @ rows).sum() / np.square(x - x.mean(axis=0)).sum()),
                start=start,
            )

        rows, code = np.concatenate([originals, copies, singles]), np.concatenate([shared, alike, own], axis=1)
        plain = measured(rows, code, f"{seed}")
        away = rng.random(COPIED) < (parted or 0)
        # A parted copy takes up what the plain SAE had no latent for; its original then does the work of both.
        rows = np.concatenate([originals, np.where(away[:, None], fresh, copies), singles])
        code = np.concatenate([np.where(away, shared + alike, shared), np.where(away, other, alike), own], axis=1)
        random = measured(random_rows(LATENTS, D, rng), firing(rng, LATENTS), f"{seed}")
        nulls.append(Pair(plain, random))
        pairs.append(Pair(plain, random if parted is None else measured(rows, code, f"{seed}")))
    return redundancy.summarise({MAIN: pairs, "random_dictionary": nulls})


def trainings(rng: np.random.Generator, noise: float | None) -> list[Dictionary]:
    """Ten independent trainings on the same activations that find the same latents up to noise; None: nothing alike."""
    rows, code = random_rows(PRIMITIVES, D, rng), firing(rng, PRIMITIVES)
    uneven = rng.lognormal(-(UNEVEN**2) / 2, UNEVEN, PRIMITIVES)
    found = []
    for seed in range(SEEDS_FOR_STABILITY):
        mine, fires = random_rows(PRIMITIVES, D, rng), firing(rng, PRIMITIVES)
        if noise is not None:
            size = noise * uneven * rng.lognormal(-(UNEVEN**2) / 2, UNEVEN)
            mine, fires = turned(rng, rows, FOUND * np.sqrt(D)), code * np.exp(size * rng.standard_normal(code.shape))
        order = rng.permutation(PRIMITIVES)
        origin = Origin(f"init{seed}", f"order{seed}", f"shard{seed}")
        start = random_rows(PRIMITIVES, D, rng)
        found.append(Dictionary(mine[order], np.arange(PRIMITIVES), Code(fires[:, order]), origin, start))
    return found


def recurrence(rng: np.random.Generator, noise: float | None) -> Metric:
    """Primitives selected in five trainings and confirmed in five; the nulls find nothing twice."""
    seeds, null = trainings(rng, noise), primitives.find(trainings(rng, None))
    arms = {MAIN: primitives.find(seeds, passing), "random_model": null, "frozen_decoder": null}
    whole = stability.compare_all(seeds)
    return primitives.summarise(
        arms,
        seeds=len(seeds),
        gates=stability.independent(seeds, whole),
        whole=stability.summarise({MAIN: whole}).value,
        bootstrap=REPLICATES,
        seed=seed_of(rng),
    )


REDUNDANCY_SIMULATION: Simulation = {
    "threshold": World(
        f"The term removes {REDUNDANCY:g} of the redundancy, the threshold itself.",
        partial(decorrelation, parted=PARTED_AT_THRESHOLD),
        SEEDS_FOR_GO,
    ),
    "null": World(
        "A random dictionary is called decorrelated: it repeats nothing, and it says nothing of the activations.",
        partial(decorrelation, parted=None),
        SEEDS_FOR_GO,
    ),
    "truth": World(
        f"The term parts a copy with probability {PARTED:g}.",
        partial(decorrelation, parted=PARTED),
        SEEDS_FOR_GO,
        claim_holds=True,
    ),
}

STABILITY_SIMULATION: Simulation = {
    "threshold": World(
        f"Latents come back with a mean r of {STABILITY:g}, the threshold itself.",
        partial(recurrence, noise=FIRING_NOISE_AT_THRESHOLD),
        SEEDS_FOR_STABILITY,
    ),
    "null": World(
        "Trainings of a null stand in the place of the real ones: no latent comes back.",
        partial(recurrence, noise=None),
        SEEDS_FOR_STABILITY,
    ),
    "truth": World(
        "Latents come back with a mean r of about 0.9.",
        partial(recurrence, noise=FIRING_NOISE),
        SEEDS_FOR_STABILITY,
        claim_holds=True,
    ),
}


def passing(members: Int[np.ndarray, "p s"]) -> tuple[Screen, ...]:
    """Directions have no text to fire on and no model to push: every candidate passes the tests before stability."""
    counts = [int((column >= 0).sum()) for column in members.T]
    return tuple(Screen(np.zeros(n), np.ones(n, dtype=bool), np.full(n, 1e-4)) for n in counts)
