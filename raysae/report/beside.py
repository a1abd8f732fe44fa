"""What stands beside a run's own number: other recipes for the same dictionary, and other runs with their verdicts."""

from typing import Any

import numpy as np

from raysae.report import words
from raysae.report.data import Plain, ReportData


def recipes(run: ReportData) -> list[list[str]]:
    """Recipe, in what it differs, share of factors recovered, FVU and L0 at the end; that of the run itself first."""
    rivals: Plain = run.experiment.get("rivals") or {}
    metric: Plain = run.metrics.get("alignment") or {}
    if not rivals:
        return []
    also = metric.get("also") or {}
    rows = [["main", "the recipe of this run", words.number(metric.get("value")), *_ends(run, "main")]]
    for name, keys in rivals.items():
        rows.append([name, _differs(keys), words.number(also.get(f"rival {name}")), *_ends(run, name)])
    return rows


def runs(run: ReportData) -> list[Plain]:
    """A row per criterion of every run beside this one."""
    found: list[Plain] = []
    for folder, (keys, verdict) in run.beside.items():
        criteria: Plain = (verdict or {}).get("criteria") or {"": {}}
        for name, row in criteria.items():
            value, interval = words.measured(row.get("value"), row.get("interval"))
            found.append(
                {
                    "folder": folder,
                    "differs": _differs(keys),
                    "criterion": words.spaced(name) if name else "not decided yet",
                    "outcome": row.get("outcome", ""),
                    "code": row.get("reason_code") or "",
                    "value": value,
                    "interval": interval,
                    "threshold": words.comparison(row.get("direction"), row.get("threshold")) if name else "",
                    "n": words.count(row.get("n")),
                }
            )
    return found


def _differs(keys: Any, where: str = "") -> str:
    """`model.name=superposed, sae.k=8`; what is not given is not named."""
    parts = []
    for key, value in keys.items():
        name = f"{where}.{key}" if where else key
        if isinstance(value, dict):
            parts.append(_differs(value, name))
        elif value is not None:
            parts.append(f"{name}={words.plain(value)}")
    return ", ".join(parts)


def _ends(run: ReportData, arm: str) -> list[str]:
    """Mean over seeds of the last point of the training curves."""
    curves = [history for (of, _), history in run.histories.items() if of == arm]
    ends = [[curve[name][-1] for curve in curves if curve.get(name)] for name in ("fvu", "l0")]
    return [words.number(float(np.mean(values))) if values else words.DASH for values in ends]
