"""The words of the house: frozen pydantic models and nothing heavier."""

from raysae.types.experiment import Experiment
from raysae.types.hookpoint import SITES, HookPoint
from raysae.types.metric import CriterionVerdict, Gate, Metric, NullValue, Outcome, Reason, Verdict
from raysae.types.record import CorpusRecord, LabelSpan, LedgerEvent, PhaseLink, RunRecord, Split

__all__ = [
    "SITES",
    "CorpusRecord",
    "CriterionVerdict",
    "Experiment",
    "Gate",
    "HookPoint",
    "LabelSpan",
    "LedgerEvent",
    "Metric",
    "NullValue",
    "Outcome",
    "PhaseLink",
    "Reason",
    "RunRecord",
    "Split",
    "Verdict",
]
