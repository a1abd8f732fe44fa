"""Metrics, nulls, intervals, protocol, verdict: arrays and callables in, numbers out. It knows no language model."""

from raysae.falsification.criteria import CRITERIA, choose_criteria, judges_capture
from raysae.falsification.criterion import Criterion, l0_cap
from raysae.falsification.nulls import NULLS, Null, choose_nulls
from raysae.falsification.power import PowerRow, power, power_before, refuse_underpowered
from raysae.falsification.protocol import Protocol, draft, read, seal, source_sha256
from raysae.falsification.verdict import decide

__all__ = [
    "CRITERIA",
    "NULLS",
    "Criterion",
    "Null",
    "PowerRow",
    "Protocol",
    "choose_criteria",
    "choose_nulls",
    "decide",
    "draft",
    "judges_capture",
    "l0_cap",
    "power",
    "power_before",
    "read",
    "refuse_underpowered",
    "seal",
    "source_sha256",
]
