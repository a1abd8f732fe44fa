"""The reference half of the page: what was registered, read, spent and used, as tables and facts."""

from typing import Any

from raysae.report import words
from raysae.report.data import Plain, ReportData

_TABLES = ("criteria", "nulls", "chain", "minimum_detectable", "factors", "dropped_factors", "causal_units", "versions")
"""Parts of the protocol with a place of their own; everything else is printed as a fact, so nothing is hidden."""


def protocol(registered: Plain, power: list[Plain]) -> Plain | None:
    """Criteria, power, nulls, units and facts of the sealed protocol; None where there is none."""
    if not registered:
        return None
    facts: list[tuple[str, str]] = []
    for key, value in registered.items():
        if key in _TABLES:
            continue
        if isinstance(value, dict):
            facts += [(f"{words.spaced(key)}: {inner}", words.plain(item)) for inner, item in value.items()]
        else:
            facts.append((words.spaced(key), "none" if value == [] else words.plain(value)))
    dropped = registered.get("dropped_factors") or {}
    return {
        "criteria": [_criterion(row) for row in registered.get("criteria") or []],
        "power": [_power(row) for row in power],
        "nulls": registered.get("nulls") or [],
        "facts": facts,
        "units": [
            (
                f"factors, the denominator of alignment ({len(registered.get('factors') or [])})",
                words.plain(registered.get("factors") or []),
            ),
            (
                f"variable values, the denominator of causal interchange ({len(registered.get('causal_units') or [])})",
                words.plain(registered.get("causal_units") or []),
            ),
            *((f"left out: {name}", words.plain(reason)) for name, reason in dropped.items()),
        ],
    }


def _criterion(row: Plain) -> Plain:
    return {
        "name": words.spaced(row.get("name")),
        "metric": words.plain(row.get("metric")),
        "gates": row.get("gates") or [],
        "line": words.comparison(row.get("direction"), row.get("threshold")),
        "unit": row.get("unit", ""),
        "needs": f"{words.count(row.get('minimum_n'))} {row.get('unit_of_sampling', 'unit')}s",
        "seeds": words.plural(row["min_seeds"], "seed") if row.get("min_seeds") else "",
        "voiding": _names(row.get("voiding_nulls")),
        "informational": _names(row.get("informational_nulls")),
    }


def _power(row: Plain) -> Plain:
    return {
        "criterion": words.spaced(row.get("criterion")),
        "n": f"{words.count(row.get('planned_n'))} {row.get('unit_of_sampling', 'unit')}s",
        "seeds": words.plural(row["seeds"], "seed") if row.get("seeds") else "",
        "mde": words.number(row.get("mde")),
        "reachable": bool(row.get("reachable")),
        "obstacles": row.get("obstacles") or [],
    }


def _names(names: Any) -> str:
    return ", ".join(map(words.spaced, names or [])) or "none"


def corpus(corpus: Plain | None) -> Plain | None:
    if corpus is None:
        return None
    records = corpus.get("records")
    splits = records if isinstance(records, dict) else {}
    tokens = corpus.get("tokens")
    by_split = tokens if isinstance(tokens, dict) else {}
    known = {"records", "tokens", "quarantined", "quarantined_by_corpus", "reasons", "quarantine_files"}
    of_quarantine = [
        (name, words.listed(corpus[key]))
        for key, name in (("reasons", "reasons of quarantine"), ("quarantine_files", "quarantine files"))
        if corpus.get(key)
    ]
    return {
        "splits": [
            (split, words.count(n), words.count(by_split.get(split)) if by_split else None)
            for split, n in splits.items()
        ],
        "facts": [
            *([("records", words.count(records))] if not splits and records is not None else []),
            *([("tokens", words.count(tokens))] if not by_split and tokens is not None else []),
            ("quarantined rows", words.count(corpus.get("quarantined"))),
            *of_quarantine,
            *((words.spaced(key), words.listed(value)) for key, value in corpus.items() if key not in known),
        ],
    }


def provenance(run: ReportData) -> Plain:
    record = run.record or {}
    return {
        "facts": [
            (
                "commit",
                words.plain(record.get("commit"))
                if record.get("commit")
                else f"{words.DASH} (not run from a checkout)",
            ),
            ("fingerprint of the experiment", words.plain(record.get("fingerprint"))),
            ("protocol", str(run.verdict.get("protocol_sha256", words.DASH))),
            ("started", words.moment(record.get("started_at"))),
            ("arms trained", ", ".join(map(words.spaced, run.arms)) or words.DASH),
            (
                "versions",
                ", ".join(f"{name} {version}" for name, version in (record.get("versions") or {}).items())
                or words.DASH,
            ),
        ],
        "seeds": [(name, str(seed)) for name, seed in (record.get("seeds") or {}).items()],
        "notes": record.get("notes") or [],
        "config": _flat(run.experiment),
    }


def _flat(tree: Plain, prefix: str = "") -> list[tuple[str, str]]:
    """Dotted keys, as they are typed on the command line."""
    found: list[tuple[str, str]] = []
    for key, value in tree.items():
        if isinstance(value, dict):
            found += _flat(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", words.plain(value)))
    return found
