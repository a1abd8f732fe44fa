"""The table of a sweep: what was tried, and what came of it."""

from raysae.report import words
from raysae.report.data import Plain

_AXES = {
    "architecture": "Architecture",
    "expansion": "Expansion",
    "k": "k",
    "l1": "L1 weight",
    "l0_weight": "L0 weight",
    "decorrelation": "Decorrelation",
    "probe": "Probe weight",
    "lr": "Rate",
}
_ALWAYS = ("expansion", "k")
_MEASURED = {
    "l0": "L0",
    "fvu": "FVU",
    "zero_fraction": "Zero fraction",
    "r_geo": "R_geo",
    "f1": "F1 on FIT",
    "margin": "Margin",
}


def table(sweep: Plain) -> Plain:
    """Columns and rows: of the axes those that were varied, of what was measured what there is."""
    trials = sweep.get("trials") or []
    axes = [key for key in _AXES if key in _ALWAYS or len({str(trial.get(key)) for trial in trials}) > 1]
    measured = [key for key in _MEASURED if any(words.finite(trial.get(key)) is not None for trial in trials)]
    return {
        "columns": [*(_AXES[key] for key in axes), *(_MEASURED[key] for key in measured)],
        "rows": [
            {
                "cells": [_setting(trial.get(key)) for key in axes]
                + [words.number(trial.get(key)) for key in measured],
                "chosen": bool(trial.get("chosen")),
                "remark": ", ".join(
                    said
                    for said in (
                        "chosen" if trial.get("chosen") else "",
                        "front" if trial.get("pareto") else "",
                        f"stopped at {words.count(trial.get('steps'))}" if trial.get("stopped") else "",
                    )
                    if said
                ),
            }
            for trial in trials
        ],
    }


def _setting(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else words.plain(value)
