"""Brittleness: the matched latents on the same documents in other words, with more cues, without any, further along.

A perturbation that the text or its tokenizer does not allow is not shown, and named by the metric as not measured.
"""

import numpy as np

from raysae.falsification.metrics import alignment, brittleness
from raysae.falsification.metrics.matching import fires_above, permuted_rows
from raysae.falsification.metrics.tallies import Tally, f1
from raysae.stages.capture import MAIN
from raysae.stages.court import PERMUTED, Examination
from raysae.stages.exhibits.base import Evidence, Exhibit, Plain
from raysae.stages.exhibits.labels import NO_LABELS, plain_tally, revive_tally
from raysae.stages.exhibits.perturbations import perturbed
from raysae.stages.measure import encode
from raysae.types import Metric


def _examine(exam: Examination) -> Plain | None:
    if not exam.protocol.factors:
        return None
    _, factors = exam.factors
    judged = {"matched": (exam.matched, factors)}
    if exam.arm == MAIN and PERMUTED in exam.experiment.protocol.nulls:
        documents, seed = exam.test.document.numpy(), exam.seed(PERMUTED)
        (drawn,) = alignment.align_permuted(
            exam.fit_latents, exam.factors[0], exam.fit.document.numpy(), exam.test_latents, factors, documents,
            draws=1, seed=seed, alive=exam.alive,
        )  # fmt: skip
        judged[PERMUTED] = (drawn, factors[permuted_rows(documents, seed + 1)])
    return {name: _tallies(exam, matched, truth) for name, (matched, truth) in judged.items()}


def _tallies(exam: Examination, matched: alignment.Alignment, factors: np.ndarray) -> Plain:
    """F1 on clean text and under every perturbation there is."""
    document, documents = exam.test.document.numpy(), exam.test.documents
    clean = fires_above(exam.test_latents, matched.latents, matched.thresholds)
    found = {brittleness.CLEAN: f1(clean, factors, document, documents)}
    for kind in brittleness.PERTURBATIONS:
        text = perturbed(exam.court, exam.source, kind)
        if text is not None:
            fires = clean.copy()
            fires[text.rows] = fires_above(encode(exam.sae, text.x), matched.latents, matched.thresholds)
            # A hit at a cue goes with the cue, else a latent that knows only the cue would lose nothing. A false alarm
            # there stays, else its going would make up for other losses.
            gone = factors & text.removed[:, None]
            found[kind] = f1(fires & ~gone, factors & ~gone, document, documents)
    return {kind: plain_tally(tally) for kind, tally in found.items()}


def _summarise(evidence: Evidence) -> Metric:
    shown = evidence.of("brittleness")
    arms = {arm: [_revive(seed["matched"]) for seed in seeds] for arm, seeds in shown.items()}
    if PERMUTED in shown.get(MAIN, [{}])[0]:
        arms[PERMUTED] = [_revive(seed[PERMUTED]) for seed in shown[MAIN]]
    arms.setdefault(MAIN, [])
    metric = brittleness.summarise(arms, **evidence.bootstrap)
    return metric if arms[MAIN] else metric.model_copy(update={"not_run": NO_LABELS, "gates": ()})


def _revive(shown: Plain) -> dict[str, Tally]:
    return {kind: revive_tally(tally) for kind, tally in shown.items()}


BRITTLENESS = Exhibit(_examine, _summarise)
