"""Alignment: factors matched to latents on FIT, measured on TEST, and the same with labels that belong elsewhere."""

from typing import Any

import numpy as np

from raysae.falsification.metrics import alignment
from raysae.stages.capture import MAIN
from raysae.stages.court import Examination
from raysae.stages.exhibits.base import Evidence, Exhibit, Plain
from raysae.types import Metric

LABEL_NULLS = {"permuted_labels": False, "circular_shift": True}
"""Null -> whether labels are turned within their document instead of exchanged between documents."""
DRAWS = 20
"""Draws of each, at most: a draw costs a matching."""


def _alignment(exam: Examination) -> Plain | None:
    if not exam.protocol.factors:
        return None
    fit, test = exam.fit, exam.test
    fit_factors, test_factors = exam.factors
    found: Plain = {"matched": plain(exam.matched)}
    for null in (null for null in LABEL_NULLS if exam.arm == MAIN and null in exam.experiment.protocol.nulls):
        draws = alignment.align_permuted(
            exam.fit_latents, fit_factors, fit.document.numpy(), exam.test_latents, test_factors, test.document.numpy(),
            draws=min(DRAWS, exam.protocol.permutations), seed=exam.seed(null), alive=exam.alive,
            shift=LABEL_NULLS[null],
        )  # fmt: skip
        found[null] = [plain(draw) for draw in draws]
    return found


def _summarise(evidence: Evidence) -> Metric:
    shown = evidence.of("alignment")
    arms = {arm: [revive(seed["matched"]) for seed in seeds] for arm, seeds in shown.items()}
    drawn = {
        null: [[revive(draw) for draw in seed[null]] for seed in shown[MAIN]]
        for null in LABEL_NULLS
        if MAIN in shown and null in shown[MAIN][0]
    }
    arms.setdefault(MAIN, [revive(NOTHING)] * evidence.seeds)
    return alignment.summarise(arms, names=evidence.protocol.factors, drawn=drawn)


NOTHING: dict[str, list[float]] = {name: [] for name in alignment.Alignment._fields}
"""An alignment over no factor."""


def plain(found: alignment.Alignment) -> dict[str, list[float]]:
    """What the evidence holds of an alignment."""
    return {name: np.asarray(values).tolist() for name, values in found._asdict().items()}


def revive(shown: dict[str, Any]) -> alignment.Alignment:
    """The inverse of `plain`."""
    return alignment.Alignment(**{name: np.asarray(values) for name, values in shown.items()})


ALIGNMENT = Exhibit(_alignment, _summarise)
