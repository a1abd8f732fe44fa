"""The latents that stand for each class of the guided label: those that detect it best on FIT (SCIENCE 5.4, 5.7)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from raysae.falsification.metrics.matching import best_f1
from raysae.stages.court import Examination
from raysae.stages.exhibits.judged import Text
from raysae.stages.measure import encode

PER_CLASS = 3


class Designated(NamedTuple):
    """`PER_CLASS` latents for each class, best first."""

    latents: Int[np.ndarray, "classes each"]
    """-1 where fewer fire on the class at all."""
    thresholds: Float[np.ndarray, "classes each"]
    """Of the largest F1 on FIT."""


def designated(exam: Examination, text: Text) -> Designated:
    """By F1 on the judged tokens of FIT; a latent may stand for two classes."""
    fit, classes = text.fit, len(text.classes)
    f1, thresholds = best_f1(encode(exam.sae, fit.x), fit.y[:, None] == np.arange(classes), exam.alive)
    best = np.argsort(-f1, axis=0, kind="stable")[:PER_CLASS].T
    at = best, np.arange(classes)[:, None]
    return Designated(np.where(f1[at] > 0, best, -1), thresholds[at])


def others(exam: Examination, chosen: Int[np.ndarray, " c"]) -> Int[np.ndarray, " c"]:
    """As many other alive latents, at random."""
    left = np.setdiff1d(np.flatnonzero(exam.alive.numpy()), chosen)
    rng = np.random.default_rng(exam.seed("designated"))
    return rng.choice(left, min(len(chosen), len(left)), replace=False)
