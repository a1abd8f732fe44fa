"""The text a run was made from: figures per corpus with their limits, and samples with their steps in colour."""

from typing import Any

from markupsafe import Markup

from raysae.report import words
from raysae.report.data import Plain

COLOURS = 5
"""Backgrounds that take turns over the steps of a sample."""


def section(quality: Plain | None) -> Plain | None:
    """Rows, facts and samples for the page; None for a run without `quality/quality.json`."""
    if quality is None:
        return None
    corpora, limits = quality.get("corpora") or {}, quality.get("limits") or {}
    return {
        "rows": [_row(name, figures) for name, figures in corpora.items()],
        "limits": [f"{words.spaced(key)} {words.plain(value)}" for key, value in limits.items() if key[:4] in _SIDES],
        "breaches": quality.get("breaches") or [],
        "details": [_details(name, figures) for name, figures in corpora.items()],
        "samples": [
            {
                "record": words.plain(sample.get("record")),
                "closed": not (corpora.get(sample.get("corpus")) or {}).get("redistribute", True),
                "html": sample_html(sample.get("pieces") or []),
            }
            for sample in quality.get("samples") or []
        ],
    }


_SIDES = ("min_", "max_")


def _row(name: str, figures: Plain) -> Plain:
    agreement, invariance = figures.get("agreement") or {}, figures.get("invariance") or {}
    alpha, interval = words.measured(agreement.get("alpha"), agreement.get("interval"))
    return {
        "name": name,
        "documents": words.count(figures.get("documents")),
        "tokens": words.count(figures.get("tokens")),
        "with_cot": words.number(figures.get("with_cot")),
        "quarantined": words.count((figures.get("quarantined") or {}).get("rows")),
        "steps": words.count(figures.get("steps")),
        "coverage": words.number(figures.get("coverage")),
        "abstention": words.number(figures.get("abstention")),
        "alpha": alpha,
        "interval": interval,
        "void": bool(agreement.get("void")),
        "null": words.number(agreement.get("null_p95")),
        "changed": words.number(invariance.get("changed")),
        "known": [
            (words.spaced(key).replace("f1", "F1"), words.number(value.get("value")), words.number(value.get("low")))
            for key, value in (figures.get("known_spans") or {}).items()
            if isinstance(value, dict)
        ],
    }


def _details(name: str, figures: Plain) -> Plain:
    lengths = figures.get("lengths") or {}
    histogram = lengths.get("histogram") or []
    most = max((count for *_, count in histogram), default=0)
    kinds = (figures.get("invariance") or {}).get("kinds") or {}
    reasons = (figures.get("quarantined") or {}).get("reasons") or {}
    return {
        "name": name,
        "bins": [
            (f"{words.count(low)} to {words.count(high)}", words.count(count), f"{100 * count / most:.1f}")
            for low, high, count in histogram
        ],
        "facts": [
            ("longest document", f"{words.count(lengths.get('longest'))} tokens"),
            *((f"steps: {kind}", words.count(count)) for kind, count in (figures.get("types") or {}).items()),
            *((f"ids changed elsewhere: {kind}", words.number(share)) for kind, share in kinds.items()),
            *((f"quarantined: {reason}", words.count(count)) for reason, count in reasons.items()),
        ],
    }


def sample_html(pieces: list[dict[str, Any]]) -> Markup:
    """Steps on coloured ground with number and type in front; text without a majority is struck under in red."""
    made: list[Markup] = []
    for piece in pieces:
        if "left_out" in piece:
            made.append(Markup('<span class="cut"> … {} characters more</span>').format(words.count(piece["left_out"])))
        elif piece.get("step") is None:
            made.append(Markup("<span>{}</span>").format(piece.get("text", "")))
        elif not piece.get("confidence"):
            made.append(Markup('<span class="tie" title="no majority">{}</span>').format(piece["text"]))
        elif piece["step"] < 0:
            made.append(Markup('<span class="odd" title="one vote for a step">{}</span>').format(piece["text"]))
        else:
            made.append(
                Markup(
                    '<span class="kind">{} {}</span><span class="step s{}{}" title="confidence {}">{}</span>'
                ).format(
                    piece["step"] + 1,
                    words.plain(piece.get("type")),
                    piece["step"] % COLOURS,
                    "" if piece["confidence"] == 1 else " odd",
                    words.number(piece["confidence"], 2),
                    piece["text"],
                )
            )
    return Markup("").join(made)
