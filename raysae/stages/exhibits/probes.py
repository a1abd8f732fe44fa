"""Probing on labelled text: the kind of step, read from latents, from raw activations and from the text alone."""

from collections.abc import Callable

import numpy as np

from raysae.falsification.metrics import probing, surface
from raysae.falsification.metrics.matching import permuted_rows
from raysae.falsification.metrics.probing import RAW, Features, Probed
from raysae.stages.capture import MAIN
from raysae.stages.court import PERMUTED, Examination
from raysae.stages.exhibits.base import Evidence, Exhibit, Plain
from raysae.stages.exhibits.labels import NULLS, nothing, plain_tally, revive_tally, sparse
from raysae.stages.measure import Sample, places
from raysae.types import Metric

LABEL = "step_type"
SURFACE = "surface_model"

Labels = Callable[[Sample], np.ndarray]
"""int64 [n], -1 without a label."""


def _probing(exam: Examination) -> Plain | None:
    """Latents of every arm; what does not depend on the SAE beside the first of the real ones."""
    fit, test = exam.fit, exam.test
    values = sorted({value for part in (fit, test) for value in part.labels.get(LABEL, ()) if value is not None})
    if len(values) < 2:
        return None
    vocabulary = int(max(fit.token_id.max(), test.token_id.max())) + 1
    seed = exam.court.seed(LABEL)

    def truth(part: Sample) -> np.ndarray:
        return places(part.labels[LABEL], values)

    table = probing.control_labels(fit.token_id, truth(fit), vocabulary, seed)

    def control(part: Sample) -> np.ndarray:
        return np.where(truth(part) >= 0, table[part.token_id], -1)

    def permuted(part: Sample) -> np.ndarray:
        return truth(part)[permuted_rows(part.document.numpy(), seed)]

    def read(x: tuple[Features, Features], **labels: Labels) -> Plain:
        return {
            name: plain_tally(
                probing.probe(
                    x[0],
                    of(fit),
                    fit.document.numpy(),
                    x[1],
                    of(test),
                    test.document.numpy(),
                    documents=test.documents,
                    classes=len(values),
                    seed=seed,
                )  # fmt: skip
            )
            for name, of in labels.items()
        }

    latents = sparse(exam.fit_latents), sparse(exam.test_latents)
    found: Plain = {"latents": read(latents, truth=truth, control=control)}
    if exam.arm == MAIN and exam.number == exam.experiment.train.seed_numbers[0]:
        bags = (
            surface.features(fit.token_id, fit.document.numpy(), vocabulary),
            surface.features(test.token_id, test.document.numpy(), vocabulary),
        )
        found[RAW] = read((fit.x.numpy(), test.x.numpy()), truth=truth, control=control)
        found[SURFACE] = read(bags, truth=truth, control=control)
        found[PERMUTED] = {**read(latents, truth=permuted), "control": found["latents"]["control"]}
    return found


def _summarise(evidence: Evidence) -> Metric:
    shown = evidence.of("probing")
    if MAIN not in shown:
        said = f"The text has no {LABEL} labels of two kinds."
        return nothing(evidence, "probing", "balanced accuracy above control labels", said)
    arms = {arm: [_revive(seed["latents"]) for seed in seeds] for arm, seeds in shown.items()}
    first = shown[MAIN][0]
    arms |= {name: [_revive(first[name])] for name in (RAW, SURFACE, PERMUTED)}
    return probing.summarise(arms, **evidence.bootstrap)


def _revive(shown: Plain) -> Probed:
    return Probed(revive_tally(shown["truth"]), revive_tally(shown["control"]))


PROBING = Exhibit(_probing, _summarise, nulls=NULLS)
