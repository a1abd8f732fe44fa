"""Whether a latent that does something does one thing: the secondary precision of an interchange (SCIENCE 4.6).

A latent alone takes the source's activation in many pairs of texts. Its effect is how far the next-word distributions
at the readouts move, in total variation; the readouts that follow from a variable, by the program, are that variable's.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from raysae.falsification.criterion import SELECTIVE_SHARE
from raysae.falsification.intervals import benjamini_hochberg, permutation_p, share_over_seeds

FLIPS = 1999
"""Draws of the sign test: enough for three discoveries among 256 latents."""


class Effects(NamedTuple):
    """Single-latent exchanges: a row for each pair of texts and each latent that differs between the two."""

    latent: Int[np.ndarray, " r"]
    """Place among the latents examined."""
    base: Int[np.ndarray, " r"]
    """The base text, counted from 0: rows of one text are not independent."""
    mass: Float[np.ndarray, "r V"]
    """Total variation at the readouts that follow from each variable; one that follows from two counts for both."""
    total: Float[np.ndarray, " r"]
    """At all readouts, each counted once."""
    null: Float[np.ndarray, " r"]
    """The same for a random direction of the same norm (N10)."""


class Selected(NamedTuple):
    """Per latent examined."""

    significant: Bool[np.ndarray, " a"]
    """Moves the readouts more than random directions do."""
    share: Float[np.ndarray, " a"]
    """Largest share of the effect that falls on one variable's readouts; 0 where there is no effect."""

    @property
    def selective(self) -> Bool[np.ndarray, " a"]:
        return self.significant & (self.share >= SELECTIVE_SHARE)


def select(effects: Effects, latents: int, seed: int) -> Selected:
    """Of `latents` latents, those with an effect and how much of it belongs to one variable.

    Significance: what a latent moves beyond a random direction, summed over the rows of each base text, against sign
    flips of whole texts; Benjamini-Hochberg over all latents examined, those that never differ among them.
    """
    bases = int(effects.base.max()) + 1 if len(effects.base) else 0
    excess = np.zeros((bases, latents))
    np.add.at(excess, (effects.base, effects.latent), effects.total - effects.null)
    flips = np.random.default_rng(seed).choice([-1.0, 1.0], size=(FLIPS, bases))
    significant = benjamini_hochberg(permutation_p(excess.sum(axis=0), (flips @ excess).T))
    mass = np.zeros((latents, effects.mass.shape[1]))
    np.add.at(mass, effects.latent, effects.mass)
    total = np.bincount(effects.latent, weights=effects.total, minlength=latents)
    share = np.divide(mass.max(axis=1, initial=0.0), total, out=np.zeros(latents), where=total > 0)
    return Selected(significant & (total > 0), share)


def summarise(seeds: Sequence[Selected]) -> dict[str, float | None]:
    """Readings beside causal_interchange: the share of latents with an effect that are selective, mean over the seeds
    that have such latents."""
    counts = [(int(seed.selective.sum()), int(seed.significant.sum())) for seed in seeds]
    some = [(hits, of) for hits, of in counts if of]
    found = share_over_seeds(some) if some else None
    low, high = found.interval if found and found.interval else (None, None)
    return {
        "precision": found.value if found else None,
        "precision_low": low,
        "precision_high": high,
        "examined_latents": float(np.mean([len(seed.share) for seed in seeds])),
        "effective_latents": float(np.mean([of for _, of in counts])),
    }
