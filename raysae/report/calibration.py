"""A figure per criterion of what `raysae calibrate` found: the intervals of simulated cases beside the threshold."""

import textwrap
from typing import Any

import altair as alt
from markupsafe import escape

from raysae.report.figures import NUMBER
from raysae.report.svg import GREEN, INK, MUTED, WIDTH, draw
from raysae.report.words import comparison, spaced

RED = "#b3261e"
COLOURS = {"GO": GREEN, "NO_GO": RED, "INCONCLUSIVE": "#858d98"}
TITLES = {
    "threshold": "True value at the threshold",
    "null": "A null in the SAE's place",
    "labels": "Labels permuted",
    "truth": "Planted truth",
}
_LINES, _LINE, _PLOT, _GAP = 3, 15, 230, 24


def figure(name: str, row: dict[str, Any]) -> str:
    """A standalone SVG: a panel per world, two beside each other. Each horizontal line is one simulated case."""
    worlds = list(row["worlds"].items())
    goal = f"{comparison(row['direction'], row['threshold'])} {row['unit']}"
    panel_height = 24 + _LINES * _LINE + _PLOT + 26 + _GAP
    width, height = 2 * WIDTH + _GAP, 64 + panel_height * -(-len(worlds) // 2)
    parts = [
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(0, 20, f"{spaced(name)}: GO needs {goal}", 16, INK, bold=True),
        _text(0, 42, "A line is the interval of one simulated case: ", 12, MUTED)
        + "".join(
            f'<rect x="{x}" y="36" width="18" height="3" fill="{COLOURS[outcome]}"/>'
            + _text(x + 24, 42, outcome, 12, MUTED)
            for outcome, x in (("GO", 262), ("INCONCLUSIVE", 326), ("NO_GO", 462))
        ),
    ]
    for i, (kind, world) in enumerate(worlds):
        x, y = (i % 2) * (WIDTH + _GAP), 64 + (i // 2) * panel_height
        parts.append(_text(x, y + 14, f"{TITLES[kind]}: {said(world)}", 13, INK, bold=True))
        lines = textwrap.wrap(world["truth"], 58)[:_LINES]
        parts += [_text(x, y + 30 + _LINE * n, line, 12, MUTED) for n, line in enumerate(lines)]
        drawn = draw(
            _intervals(world["drawn"], row["threshold"], row["direction"]), f"{name}-{kind}", said(world), _PLOT, left=8
        )
        parts.append(str(drawn).replace("<svg", f'<svg x="{x}" y="{y + 24 + _LINES * _LINE}"', 1))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(spaced(name))}" width="{width}" '
        f'height="{height}" viewBox="0 0 {width} {height}" font-family="Helvetica, Arial, sans-serif">'
        + "".join(parts)
        + "</svg>\n"
    )


def said(world: dict[str, Any]) -> str:
    """`GO in 19 of 400, at most 27`."""
    text = f"GO in {world['go']} of {world['simulations']}"
    if world["at_most"] is not None:
        return f"{text}, at most {world['at_most']}"
    return f"{text}, at least {world['at_least']}" if world["at_least"] is not None else text


def _intervals(drawn: list[list[Any]], threshold: float, direction: str) -> alt.LayerChart | alt.FacetChart:
    rows = [
        {"rank": rank, "value": value, "low": low, "high": high, "outcome": outcome}
        for rank, (value, low, high, outcome) in enumerate(drawn)
    ]
    ends = [end for row in rows for end in (row["low"], row["high"])] + [threshold]
    pad = 0.05 * (max(ends) - min(ends)) or 0.05
    low, high = min(ends) - pad, max(ends) + pad
    x = alt.X("low:Q", title=None, scale=alt.Scale(domain=[low, high], nice=False), axis=alt.Axis(format=NUMBER))
    y = alt.Y("rank:Q", axis=None, scale=alt.Scale(domain=[-1, len(rows)], nice=False))
    colour = alt.Color("outcome:N", scale=alt.Scale(domain=list(COLOURS), range=list(COLOURS.values())), legend=None)
    good = {"low": threshold, "high": high} if direction == ">=" else {"low": low, "high": threshold}
    lines = alt.Chart(alt.Data(values=rows))
    return alt.layer(
        alt.Chart(alt.Data(values=[good])).mark_rect(color=GREEN, opacity=0.1).encode(x=x, x2="high:Q"),
        alt.Chart(alt.Data(values=[{"low": threshold}])).mark_rule(strokeDash=[4, 3], color=INK).encode(x=x),
        lines.mark_rule(strokeWidth=1.4).encode(x=x, x2="high:Q", y=y, color=colour),
        lines.mark_point(filled=True, size=12, opacity=1).encode(x=alt.X("value:Q", title=None), y=y, color=colour),
    )


def _text(x: float, y: float, text: str, size: int, colour: str, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="{colour}"{weight}>{escape(text)}</text>'
