"""Leakage: nothing to show until SAEs can be trained with a probe's guidance."""

from raysae.falsification.metrics import leakage
from raysae.stages.exhibits.base import Evidence, Exhibit
from raysae.types import Metric

NO_GUIDED_SAE = "There is no guided SAE to compare with the baseline: loss.probe was not trained with."


def _summarise(evidence: Evidence) -> Metric:
    return leakage.summarise([], gates=(), **evidence.bootstrap).model_copy(update={"not_run": NO_GUIDED_SAE})


LEAKAGE = Exhibit(lambda exam: None, _summarise)
