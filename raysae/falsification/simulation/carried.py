"""Transfer: scores on the documents of B of what was fitted on A, of what was fitted on B, and of what needs no fit."""

from functools import partial

import numpy as np
from jaxtyping import Float

from raysae.falsification.criterion import REPLICATES, SEEDS_FOR_GO, TRANSFER
from raysae.falsification.metrics import transfer
from raysae.falsification.metrics.documents import MAIN
from raysae.falsification.metrics.transfer import FLOORS, Transfer
from raysae.falsification.simulation.trial import DIFFICULTY, FEWEST_DOCUMENTS, Simulation, World, seed_of
from raysae.types.metric import Metric

FLOOR, EFFECT = 0.4, 0.3
"""Score of the best null, and by how much the SAE fitted on B exceeds it."""
SPREAD = 0.05
"""Standard deviation of a score between documents, beside how much there is to gain on each."""
SEED_SPREAD = 0.02


def carried(rng: np.random.Generator, share: float | None) -> Metric:
    """Of the effect the SAE fitted on A has `share`; with None both are dictionaries that learnt nothing."""
    to_gain = EFFECT * rng.lognormal(-(DIFFICULTY**2) / 2, DIFFICULTY, FEWEST_DOCUMENTS)
    hard = SPREAD * rng.standard_normal(FEWEST_DOCUMENTS)

    def scores(effect: float) -> Float[np.ndarray, "s d"]:
        of_seed = 1 + SEED_SPREAD * rng.standard_normal((SEEDS_FOR_GO, 1))
        own = SPREAD * rng.standard_normal((SEEDS_FOR_GO, FEWEST_DOCUMENTS))
        return FLOOR * of_seed + effect * of_seed * to_gain + hard + own

    within, across = (scores(0.0 if share is None else effect) for effect in (1.0, share or 0.0))
    floors = {name: scores(0.0) - (0.05 if name != FLOORS[0] else 0.0) for name in FLOORS}
    return transfer.summarise({MAIN: Transfer(across, within, floors)}, bootstrap=REPLICATES, seed=seed_of(rng))


SIMULATION: Simulation = {
    "threshold": World(
        f"What was fitted on A has {TRANSFER:g} of the effect, the threshold itself.",
        partial(carried, share=TRANSFER),
        FEWEST_DOCUMENTS,
    ),
    "null": World(
        "Both dictionaries learnt nothing; their raw ratio is 1.", partial(carried, share=None), FEWEST_DOCUMENTS
    ),
    "truth": World(
        "What was fitted on A has 0.9 of the effect.", partial(carried, share=0.9), FEWEST_DOCUMENTS, claim_holds=True
    ),
}
