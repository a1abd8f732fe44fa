"""Top activating contexts as HTML: one span per token, its background as strong as the activation."""

from typing import Any

from markupsafe import Markup, escape

from raysae.report.words import finite, number, plain

LATENTS = 12
CONTEXTS = 5
BEFORE, AFTER = 28, 12
"""Tokens kept on each side of the strongest one: enough to see why it fired, few enough to compare."""


def cards(latents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For the page: number, label, F1, the activation scale, the contexts as HTML and how many were left out."""
    made: list[dict[str, Any]] = []
    for latent in latents[:LATENTS]:
        contexts = latent.get("contexts") or []
        peak = max((a for c in contexts for a in map(finite, c.get("activations") or []) if a is not None), default=0.0)
        made.append(
            {
                "latent": plain(latent.get("latent")),
                "label": plain(latent.get("label")),
                "f1": number(latent.get("f1")),
                "peak": number(peak),
                "contexts": [
                    {"html": context_html(c, peak), "record": plain(c.get("record_id"))} for c in contexts[:CONTEXTS]
                ],
                "left_out": max(len(contexts) - CONTEXTS, 0),
            }
        )
    return made


def context_html(context: dict[str, Any], peak: float) -> Markup:
    """A window around the strongest token; words of a word-level tokenizer get the spaces their text had."""
    raw = [str(token) for token in context.get("tokens") or []]
    levels = [finite(a) or 0.0 for a in context.get("activations") or []]
    levels += [0.0] * (len(raw) - len(levels))
    strongest = max(range(len(raw)), key=lambda i: levels[i], default=0)
    start, stop = max(strongest - BEFORE, 0), min(strongest + AFTER + 1, len(raw))
    joiner = "" if any(token[:1].isspace() or token[:1] in "ĠĊ▁" for token in raw if token) else " "
    spans = [_span(raw[i], levels[i], peak) for i in range(start, stop)]
    gap = Markup('<span class="cut">…</span>')
    body = Markup(joiner).join(spans)
    return (gap + joiner if start else Markup("")) + body + (Markup(joiner) + gap if stop < len(raw) else Markup(""))


def _span(token: str, level: float, peak: float) -> Markup:
    text = _visible(token)
    if level <= 0 or peak <= 0:
        return Markup("<span>{}</span>").format(text)
    strength = f"{0.08 + 0.52 * min(level / peak, 1):.2f}"
    return Markup('<span class="on" style="--a:{}" title="activation {}">{}</span>').format(
        strength, number(level), text
    )


def _visible(token: str) -> Markup:
    """Byte-level and sentencepiece markers become the characters they stand for; a newline is shown and taken."""
    if token == "":
        return Markup('<span class="cut">∅</span>')
    if token[0] in "Ġ▁":
        token = " " + token[1:]
    token = token.replace("Ċ", "\n")
    return Markup("\n").join(escape(part) for part in token.replace("\r", "").replace("\n", "↵\n").split("\n"))
