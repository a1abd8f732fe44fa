"""Attempts to refute the latents that stand for OPERATE and VERIFY, the two types that minimal pairs tell apart
(SCIENCE 5.7): cues injected into stories, cues removed, other wordings, and the pairs themselves."""

import numpy as np
import torch

from raysae.falsification.metrics import candidates
from raysae.falsification.metrics.candidates import Candidates
from raysae.stages.court import Examination
from raysae.stages.dictionaries import UNGUIDED
from raysae.stages.exhibits.base import Evidence, Exhibit, Plain
from raysae.stages.exhibits.designated import designated
from raysae.stages.exhibits.judged import Judged, aligned, judged, sets_of
from raysae.stages.exhibits.labels import nothing
from raysae.stages.measure import encode
from raysae.types import Metric

STORIES = "INJECTION"
"""Nothing in them is a step."""
NEEDED = ("ORIGINAL", "CUE_FREE", "PARAPHRASE", "PAIR")
NO_SETS = "The text has no stories with cues, no renderings of one trace or no minimal pairs."


def _examine(exam: Examination) -> Plain | None:
    text = judged(exam.court, exam.source)
    if text is None or any(name not in text.test for name in NEEDED) or STORIES not in sets_of(exam.court, exam.test):
        return None
    pairs = text.test["PAIR"]
    types = np.unique(pairs.y)
    chosen = designated(exam, text)
    own = np.repeat(types, chosen.latents.shape[1])
    latents, thresholds = chosen.latents[types].ravel(), chosen.thresholds[types].ravel()
    there = latents >= 0
    look = _Columns(exam, latents[there], thresholds[there], own[there])
    positive, negative = look.pairs(pairs)
    found = candidates.examine(
        look.injected(),
        *look.both(text.test["ORIGINAL"], text.test["CUE_FREE"]),
        *look.both(text.test["ORIGINAL"], text.test["PARAPHRASE"]),
        positive,
        negative,
    )
    return {name: values.tolist() for name, values in found._asdict().items()}


class _Columns:
    """The candidates of one SAE, a column each: where they fire, and how strongly."""

    def __init__(self, exam: Examination, latents: np.ndarray, thresholds: np.ndarray, own: np.ndarray) -> None:
        self.exam, self.latents, self.thresholds, self.own = exam, latents, thresholds, own

    def values(self, x: torch.Tensor) -> np.ndarray:
        return encode(self.exam.sae, x)[:, torch.from_numpy(self.latents)].numpy()

    def injected(self) -> np.ndarray:
        """bool [texts, c]: does it fire anywhere in a story?"""
        test = self.exam.test
        of = np.array([name == STORIES for name in sets_of(self.exam.court, test)])
        document = test.document.numpy()
        rows = np.flatnonzero(of[document])
        fires = self.values(test.x[rows]) > self.thresholds
        stories, at = np.unique(document[rows], return_inverse=True)
        found = np.zeros((len(stories), fires.shape[1]), bool)
        np.logical_or.at(found, at, fires)
        return found

    def both(self, one: Judged, other: Judged) -> tuple[np.ndarray, np.ndarray]:
        """bool [steps, c] twice: does it fire on a step of its own type, in the one rendering and in the other?"""
        rows = aligned(one, other)
        mine = one.y[rows[0], None] == self.own
        fires = [self.values(part.x[at]) > self.thresholds for part, at in zip((one, other), rows, strict=True)]
        return fires[0] & mine, fires[1] & mine

    def pairs(self, pairs: Judged) -> tuple[np.ndarray, np.ndarray]:
        """Activation [pairs, c] on the member of its own type, and on the other."""
        values = self.values(pairs.x)
        order = np.lexsort((pairs.y, pairs.unit))
        order = order[np.bincount(pairs.unit)[pairs.unit[order]] == 2]
        low, high = order[::2], order[1::2]
        upper = pairs.y[high[0]] == self.own if len(high) else np.zeros(len(self.own), bool)
        return np.where(upper, values[high], values[low]), np.where(upper, values[low], values[high])


def _summarise(evidence: Evidence) -> Metric:
    shown = evidence.of("candidates")
    if "main" not in shown:
        return nothing(evidence, "candidates", "share of candidate latents", NO_SETS)
    arms = {
        arm: [Candidates(**{name: np.asarray(values) for name, values in seed.items()}) for seed in seeds]
        for arm, seeds in shown.items()
    }
    return candidates.summarise(arms)


CANDIDATES = Exhibit(_examine, _summarise, nulls=(UNGUIDED, "random_dictionary", "random_model"))
