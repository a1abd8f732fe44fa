"""Leakage: what probes say of guided and unguided SAEs, token by token, at accuracies that are known."""

from functools import partial

import numpy as np
from jaxtyping import Float
from scipy import stats

from raysae.falsification.criteria import CRITERIA
from raysae.falsification.criterion import LEAKAGE, MINIMAL_PAIRS, REPLICATES, SEEDS_FOR_GO
from raysae.falsification.metrics import leakage, tallies, tripwires
from raysae.falsification.metrics.tallies import Key, Tally
from raysae.falsification.simulation.trial import Simulation, World, seed_of
from raysae.types.metric import Metric

DOCUMENTS, LENGTH, CLASSES = CRITERIA["leakage"].minimum_n, 4, 3
EVEN = 10.0
"""Documents differ in how well they are read: Beta with this many prior tokens."""
TOGETHER = 0.8
"""Share of the tokens on which two probes of a seed err or not for the same reason."""
BENEFIT = 0.10

HONEST: dict[Key, float] = {
    **{(f"{sae}_control", "SEEN"): 0.70 for sae in ("guided", "baseline")},
    **{(sae, split): 0.80 for sae in ("guided", "baseline") for split in ("SEEN", "UNSEEN")},
    **{(sae, "CUE"): 0.10 for sae in ("guided", "baseline")},
    **{(f"{sae}_random_model", "UNSEEN"): 0.35 for sae in ("guided", "baseline")},
    **{(sae, "PAIR"): 0.60 for sae in ("guided", "baseline")},
    **{("raw_activations", split): 0.90 for split in ("UNSEEN", "PAIR")},
    ("raw_activations_nonlinear", "UNSEEN"): 0.90,
    **{("surface_model", split): 0.45 for split in ("UNSEEN", "PAIR")},
    ("guided_permuted", "UNSEEN"): 1 / CLASSES,
}
"""Accuracies of a run in which guidance changes nothing."""
LEAKS: dict[str, dict[Key, float]] = {
    "memorisation": {("guided_control", "SEEN"): 1.0},
    "template": {("guided", "SEEN"): 0.5, ("guided", "UNSEEN"): -0.5},
    "cue": {("guided", "CUE"): 1.0},
    "model_free": {("guided_random_model", "UNSEEN"): 1.0},
}
"""How a channel's difference is divided over the accuracies it is made of."""


def worst_channel(rng: np.random.Generator, leak: float, benefit: float) -> Metric:
    """Five seeds in which one channel, any of the four, leaks so much and guidance helps so much on minimal pairs."""
    channel = LEAKS[list(LEAKS)[rng.integers(len(LEAKS))]]
    added = {key: leak * part for key, part in channel.items()} | {("guided", "PAIR"): benefit}
    splits = {split: Split(rng, split) for split in ("SEEN", "UNSEEN", "CUE", "PAIR")}
    rates = {key: splits[key[1]].rates(base + added.get(key, 0.0)) for key, base in HONEST.items()}
    seeds: list[dict[Key, Tally]] = [{} for _ in range(SEEDS_FOR_GO)]
    for one in seeds:
        for key, rate in rates.items():
            one |= splits[key[1]].read(rng, key, rate)
    texts = {name: {f"{name} {d}" for d in range(split.documents)} for name, split in splits.items()}
    gates = tripwires.check(seeds, texts=texts, position_share=0.1, bootstrap=REPLICATES, seed=seed_of(rng))
    return leakage.summarise(seeds, gates=gates, bootstrap=REPLICATES, seed=seed_of(rng))


class Split:
    """Labels, and what makes a document and a token hard for every probe that reads them."""

    def __init__(self, rng: np.random.Generator, name: str) -> None:
        self.cue = name == "CUE"
        self.documents, length = (MINIMAL_PAIRS, 2) if name == "PAIR" else (DOCUMENTS, LENGTH)
        self.document = np.repeat(np.arange(self.documents), length)
        self.y = rng.integers(0, CLASSES, len(self.document))
        self.easy, self.hard = rng.random(self.documents), rng.random(len(self.y))

    def rates(self, accuracy: float) -> Float[np.ndarray, " n"]:
        """How often a probe of this accuracy is right on each token's document; in the mean over documents as asked."""
        return stats.beta.ppf(self.easy, accuracy * EVEN, (1 - accuracy) * EVEN)[self.document]

    def read(self, rng: np.random.Generator, key: Key, rate: Float[np.ndarray, " n"]) -> dict[Key, Tally]:
        """What a probe that is right at this rate on each token comes to."""
        drawn = np.where(rng.random(len(self.y)) < TOGETHER, self.hard, rng.random(len(self.y)))
        if self.cue:  # The rate at which the probe says what the cue does.
            return {key: tallies.rate(drawn < rate, self.document, self.documents)}
        wrong = (self.y + rng.integers(1, CLASSES, len(self.y))) % CLASSES
        how = self.y, np.where(drawn < rate, self.y, wrong), self.document, self.documents, CLASSES
        if key[0].endswith(tripwires.PERMUTED):
            return tripwires.exchanged((key[0].removesuffix(tripwires.PERMUTED), key[1]), *how)
        return {key: tallies.accuracy(*how)}


SIMULATION: Simulation = {
    "labels": World(
        "Guidance by labels of other documents (N6): nothing leaks, and nothing is gained on minimal pairs.",
        partial(worst_channel, leak=0.0, benefit=0.0),
        DOCUMENTS,
    ),
    "threshold": World(
        f"One of the four channels, in turn at random, leaks {LEAKAGE:g}, the limit; guidance is of use.",
        partial(worst_channel, leak=LEAKAGE, benefit=BENEFIT),
        DOCUMENTS,
    ),
    "truth": World(
        f"Nothing leaks, and guidance adds {BENEFIT:g} on minimal pairs.",
        partial(worst_channel, leak=0.0, benefit=BENEFIT),
        DOCUMENTS,
        claim_holds=True,
    ),
}
