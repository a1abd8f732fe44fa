"""Leakage: nothing to show until a run trains a guided SAE beside the same one without guidance."""

from raysae.falsification.metrics import leakage
from raysae.stages.exhibits.base import Evidence, Exhibit
from raysae.types import Metric

NO_GUIDED_SAE = "There is no guided SAE beside its unguided twin: no run trains the two side by side yet."


def _summarise(evidence: Evidence) -> Metric:
    return leakage.summarise([], gates=(), **evidence.bootstrap).model_copy(update={"not_run": NO_GUIDED_SAE})


LEAKAGE = Exhibit(lambda exam: None, _summarise)
