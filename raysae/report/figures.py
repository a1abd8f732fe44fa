"""Figures as inline SVG: altair describes, vl-convert draws without a browser or a network.

A figure is a list of panels of one size, so that the page can lay them side by side on a desk and one above the other
on a phone without scaling any text. Legends are HTML, shared by the panels.
"""

import math
from dataclasses import dataclass
from typing import Any

import altair as alt
from markupsafe import Markup

from raysae.report.svg import BLUE, GREEN, INK, MUTED, NULL, TEAL, WIDTH, block_key, draw, glyph_key, line_key
from raysae.report.words import comparison, finite, number, spaced

SERIES = ("#1f5fa8", "#c2571a", "#0f766e", "#7b4fa3", "#8a6d00", "#5c6672")

NUMBER, LARGE = ",.4~f", "~s"
"""Of axis labels: as many decimals as there are, no exponents; k and M where five digits would not fit."""

_POINTS = 200
"""Points of a training curve that are drawn at most."""


@dataclass(frozen=True)
class Panel:
    """One drawing: `title` and `note` stand above it in HTML, `alt` says in words what it shows."""

    title: str
    note: str
    svg: Markup


@dataclass(frozen=True)
class Figure:
    panels: list[Panel]
    legend: list[tuple[Markup, str]]


def training_curves(histories: dict[tuple[str, str], dict[str, Any]]) -> Figure | None:
    """FVU, L0 and dead latents by step, a line per arm and seed, a colour per arm."""
    colours = _colours([arm for arm, _ in histories])
    panels: list[Panel] = []
    for key, title in (
        ("fvu", "FVU"),
        ("l0", "L0, active latents per token"),
        ("dead_fraction", "Dead latents, share"),
    ):
        rows: list[dict[str, Any]] = []
        for (arm, seed), history in histories.items():
            steps, values = history.get("step") or [], history.get(key) or []
            pairs = [(finite(step), finite(value)) for step, value in zip(steps, values, strict=False)]
            line = [(step, value) for step, value in pairs if step is not None and value is not None]
            stride = max(-(-len(line) // _POINTS), 1)
            kept = line[::stride] + ([line[-1]] if line and (len(line) - 1) % stride else [])
            rows += [{"step": step, "value": value, "arm": arm, "run": f"{arm}/{seed}"} for step, value in kept]
        if not rows:
            continue
        log = key == "fvu" and min(row["value"] for row in rows) > 0
        lowest, highest = min(row["value"] for row in rows), max(row["value"] for row in rows)
        if log:
            low, high = lowest * 0.9, highest * 1.1
            scale = alt.Scale(type="log", domain=[low, high], nice=False)
            ticks = alt.Axis(values=_log_ticks(low, high), format=NUMBER if low > 1e-4 else ".0e")
        else:
            scale, ticks = alt.Scale(zero=True), alt.Axis(tickCount=4, format=LARGE if highest >= 10_000 else NUMBER)
        chart = (
            alt.Chart(alt.Data(values=rows))
            .mark_line(strokeWidth=1.6, opacity=0.85)
            .encode(
                x=alt.X("step:Q", title="step", axis=alt.Axis(grid=False, tickCount=5, format=",d")),
                y=alt.Y("value:Q", title=None, scale=scale, axis=ticks),
                color=alt.Color("arm:N", scale=_scale(colours), legend=None),
                detail="run:N",
            )
        )
        alternative = f"{title} by training step; last values: " + _last_values(rows)
        panels.append(
            Panel(title, "log scale" if log else "", draw(chart, f"training-{key}", alternative, 170, left=46))
        )
    legend = [(line_key(colour), spaced(arm)) for arm, colour in colours.items()]
    return Figure(panels, legend) if panels else None


def sweep_plane(sweep: dict[str, Any], fvu_threshold: float | None, l0_cap: float | None) -> Figure | None:
    """FVU against L0, a colour per expansion factor, in a plain grid a line too; the chosen trial ringed, those of the
    front diamonds, threshold and cap dashed."""
    rows: list[dict[str, Any]] = []
    tried = sorted(sweep.get("trials") or [], key=lambda trial: trial.get("expansion") or 0)
    for trial in tried:
        l0, fvu = finite(trial.get("l0")), finite(trial.get("fvu"))
        if l0 is not None and fvu is not None:
            marks = {name: bool(trial.get(name)) for name in ("chosen", "pareto", "stopped")}
            rows.append({"l0": l0, "fvu": fvu, "expansion": f"{trial.get('expansion')}", **marks})
    if not rows:
        return None
    others = {tuple(trial.get(name) for name in ("architecture", "lr", "decorrelation", "probe")) for trial in tried}
    joined = len(others) == 1 and sweep.get("search", "grid") == "grid"
    colours = _colours([row["expansion"] for row in rows])
    x = alt.X(
        "l0:Q",
        title="L0, active latents per token (FIT)",
        scale=alt.Scale(zero=True, nice=True),
        axis=alt.Axis(tickCount=5, format=NUMBER),
    )
    y = alt.Y(
        "fvu:Q", title="FVU (FIT)", scale=alt.Scale(zero=True, nice=True), axis=alt.Axis(tickCount=5, format=NUMBER)
    )
    colour = alt.Color("expansion:N", scale=_scale(colours), legend=None)
    base = alt.Chart(alt.Data(values=rows))
    chosen = base.transform_filter("datum.chosen").encode(x=x, y=y)
    front, rest = base.transform_filter("datum.pareto"), base.transform_filter("!datum.pareto && !datum.stopped")
    stopped = base.transform_filter("datum.stopped")
    layers: list[alt.Chart] = [
        rest.mark_point(size=48, filled=True, opacity=1).encode(x=x, y=y, color=colour),
        front.mark_point(size=80, filled=True, opacity=1, shape="diamond").encode(x=x, y=y, color=colour),
        stopped.mark_point(size=40, strokeWidth=1.6, opacity=1, shape="cross").encode(x=x, y=y, color=colour),
        chosen.mark_point(size=240, filled=False, strokeWidth=1.8, opacity=1, color=INK),
    ]
    if joined:
        layers.insert(0, base.mark_line(strokeWidth=1.4, opacity=0.7).encode(x=x, y=y, color=colour))
    if fvu_threshold is not None:
        rule = alt.Chart(alt.Data(values=[{"fvu": fvu_threshold}]))
        layers.insert(0, rule.mark_rule(strokeDash=[4, 3], color=INK, opacity=0.7).encode(y=y))
    if l0_cap is not None:
        rule = alt.Chart(alt.Data(values=[{"l0": l0_cap}]))
        layers.insert(0, rule.mark_rule(strokeDash=[1.5, 3], color=INK, opacity=0.8).encode(x=x))
    picked = [row for row in rows if row["chosen"]]
    alternative = f"FVU against L0 on FIT for {len(rows)} trials. " + (
        f"Chosen: L0 {number(picked[0]['l0'])}, FVU {number(picked[0]['fvu'])}." if picked else "None was chosen."
    )
    legend = [(line_key(colour_, dot=True), f"expansion {name}") for name, colour_ in colours.items()]
    legend.append((glyph_key("circle", INK, filled=False), "chosen"))
    if any(row["pareto"] for row in rows):
        legend.append((glyph_key("diamond", INK), "Pareto front"))
    if any(row["stopped"] for row in rows):
        legend.append((glyph_key("cross", INK, filled=False), "stopped early"))
    if fvu_threshold is not None:
        legend.append((line_key(INK, dash="4 3"), f"FVU threshold {fvu_threshold:g}"))
    if l0_cap is not None:
        legend.append((line_key(INK, dash="1.5 3"), f"L0 cap {l0_cap:g}"))
    return Figure([Panel("", "", draw(alt.layer(*layers), "sweep", alternative, 250, left=46, top=28))], legend)


def criterion_intervals(criteria: dict[str, dict[str, Any]]) -> Figure | None:
    """A panel per criterion: the value with its interval and each null's mean and p95, against the threshold."""
    panels: list[Panel] = []
    for name, row in criteria.items():
        value, threshold = finite(row.get("value")), finite(row.get("threshold"))
        if value is None or threshold is None:
            continue
        low, high = (finite(bound) for bound in (row.get("interval") or (None, None)))
        rows = [{"row": "measured", "mean": value, "low": low, "high": high, "kind": "measured"}]
        for null, numbers in (row.get("nulls") or {}).items():
            mean, p95 = finite(numbers.get("mean")), finite(numbers.get("p95"))
            if mean is not None:
                rows.append({"row": spaced(null), "mean": mean, "low": mean, "high": p95, "kind": "null"})
        direction = str(row.get("direction"))
        chart = _dot_and_whisker(rows, threshold, direction)
        goal = f"{comparison(direction, threshold)} {row.get('unit', '')}".strip()
        alternative = (
            f"{spaced(name)}: " + "; ".join(f"{r['row']} {number(r['mean'])}" for r in rows) + f"; GO needs {goal}"
        )
        svg = draw(chart, f"interval-{name}", alternative, 24 * len(rows), left=112, right=56, top=8)
        panels.append(Panel(spaced(name), goal, svg))
    legend = [
        (line_key(BLUE, dot=True), "measured, with interval"),
        (line_key(NULL, dot=True), "null, mean to 95th percentile"),
        (line_key(INK, dash="4 3"), "threshold"),
        (block_key(GREEN), "side of GO"),
    ]
    return Figure(panels, legend) if panels else None


def causal_effect(units: list[dict[str, Any]]) -> Figure | None:
    """A panel per variable, a row per value: J of the latents against the ceiling and every null."""
    kinds = {
        "ceiling": ("ceiling", "stroke", TEAL, False, 0),
        "random_model": ("random model", "triangle-up", "#c2571a", False, -5),
        "random_direction": ("random direction", "cross", "#7b4fa3", True, 5),
        "permuted_labels": ("permuted labels", "square", MUTED, False, 0),
    }
    shown = [key for key in kinds if any(finite(unit.get(key)) is not None for unit in units)]
    by_variable: dict[str, list[dict[str, Any]]] = {}
    for unit in units:
        if finite(unit.get("latents")) is not None:
            by_variable.setdefault(str(unit.get("variable")), []).append(unit)
    panels: list[Panel] = []
    for number_, (variable, rows) in enumerate(by_variable.items()):
        order = [str(row.get("value")) for row in rows]
        y = alt.Y("value:N", sort=order, title=None, axis=alt.Axis(grid=True, labelLimit=64, labelOverlap=False))
        x = alt.X(
            "j:Q",
            title="J, joint success",
            scale=alt.Scale(domain=[-0.04, 1.04]),
            axis=alt.Axis(values=[0, 0.25, 0.5, 0.75, 1], format=NUMBER),
        )
        span = [
            {"value": str(r["value"]), "j": finite(r.get("matched_mean")), "to": finite(r.get("matched_p95"))}
            for r in rows
            if finite(r.get("matched_mean")) is not None and finite(r.get("matched_p95")) is not None
        ]
        layers: list[alt.Chart] = [
            alt.Chart(alt.Data(values=span)).mark_bar(height=7, color=NULL, opacity=0.45).encode(x=x, x2="to:Q", y=y)
        ]
        for key in shown:
            _, shape, colour, filled, offset = kinds[key]
            points = [{"value": str(r["value"]), "j": j} for r in rows if (j := finite(r.get(key))) is not None]
            mark = alt.Chart(alt.Data(values=points)).mark_point(
                shape=shape,
                size=44,
                color=colour,
                fill=colour if filled else None,
                strokeWidth=1.4,
                opacity=1,
                yOffset=offset,
            )
            if shape == "stroke":  # a bar across the row stays visible under a dot at the same place
                mark = alt.Chart(alt.Data(values=points)).mark_tick(thickness=2.4, size=19, color=colour, opacity=1)
            layers.append(mark.encode(x=x, y=y))
        for coherent in (True, False):
            points = [
                {"value": str(r["value"]), "j": finite(r["latents"])}
                for r in rows
                if bool(r.get("coherent")) is coherent
            ]
            mark = alt.Chart(alt.Data(values=points)).mark_circle(
                size=80, color=BLUE, fill=BLUE if coherent else "white", stroke=BLUE, strokeWidth=1.6, opacity=1
            )
            layers.append(mark.encode(x=x, y=y))
        coherent = sum(bool(row.get("coherent")) for row in rows)
        alternative = f"{variable}: " + "; ".join(f"{row['value']} J {number(row['latents'])}" for row in rows)
        svg = draw(alt.layer(*layers), f"causal-{number_}", alternative, 24 * len(rows), left=76, right=14, top=8)
        panels.append(Panel(spaced(variable), f"{coherent} of {len(rows)} coherent", svg))
    legend = [
        (glyph_key("circle", BLUE), "latents, coherent"),
        (glyph_key("circle", BLUE, filled=False), "latents, not coherent"),
        (block_key(NULL, 0.45), "matched latents, mean to 95th percentile"),
    ]
    legend += [(glyph_key(kinds[key][1], kinds[key][2], kinds[key][3]), kinds[key][0]) for key in shown]
    return Figure(panels, legend) if panels else None


def _dot_and_whisker(rows: list[dict[str, Any]], threshold: float, direction: str) -> alt.LayerChart | alt.FacetChart:
    low, high = _domain(rows, threshold)
    for row in rows:
        row["text"] = number(row["mean"])
        row["off"] = -1 if row["mean"] < low else int(row["mean"] > high)
        row["at"] = min(max(row["mean"], low), high)
        for end in ("low", "high"):
            row[end] = row["at"] if row[end] is None else min(max(row[end], low), high)
    y = alt.Y(
        "row:N",
        sort=[row["row"] for row in rows],
        title=None,
        axis=alt.Axis(labelLimit=106, labelOverlap=False, labelColor=INK),
    )
    x_axis = alt.Axis(tickCount=4, grid=True, format=NUMBER)
    x = alt.X("at:Q", title=None, scale=alt.Scale(domain=[low, high], nice=False), axis=x_axis)
    colour = alt.Color("kind:N", scale=alt.Scale(domain=["measured", "null"], range=[BLUE, NULL]), legend=None)
    base = alt.Chart(alt.Data(values=rows)).encode(y=y, color=colour)
    good = {"at": threshold, "to": high} if direction == ">=" else {"at": low, "to": threshold}
    side = alt.Chart(alt.Data(values=[good])).mark_rect(color=GREEN, opacity=0.1).encode(x=x, x2="to:Q")
    line = alt.Chart(alt.Data(values=[good | {"line": threshold}])).mark_rule(
        strokeDash=[4, 3], color=INK, opacity=0.75
    )
    inside = base.transform_filter("datum.off == 0")
    left, right = base.transform_filter("datum.off < 0"), base.transform_filter("datum.off > 0")
    return alt.layer(
        side,
        line.encode(x=alt.X("line:Q", scale=alt.Scale(domain=[low, high], nice=False), axis=x_axis, title=None)),
        inside.mark_rule(strokeWidth=2.4).encode(x=alt.X("low:Q", title=None), x2="high:Q"),
        inside.mark_point(filled=True, size=50, opacity=1).encode(x=x),
        left.mark_point(filled=True, size=50, opacity=1, shape="triangle-left", xOffset=3).encode(x=x),
        right.mark_point(filled=True, size=50, opacity=1, shape="triangle-right", xOffset=-3).encode(x=x),
        base.mark_text(align="left", fontSize=11, dx=8).encode(x=alt.value(WIDTH - 112 - 56), text="text:N"),
    )


def _domain(rows: list[dict[str, Any]], threshold: float) -> tuple[float, float]:
    """Wide enough for the measurement and its threshold; a null far off is clipped to the edge and keeps its number."""
    core = [x for x in (threshold, rows[0]["mean"], rows[0]["low"], rows[0]["high"]) if x is not None]
    every = core + [x for row in rows[1:] for x in (row["mean"], row["high"]) if x is not None]
    reach = max(max(core) - min(core), abs(threshold) * 0.05, 1e-6)
    if min(every) >= 0 and max(every) <= 1 and reach > 0.15:
        return -0.04, 1.04
    low, high = max(min(every), min(core) - 2.5 * reach), min(max(every), max(core) + 2.5 * reach)
    pad = 0.06 * (high - low) or 1e-6
    return low - pad, high + pad


def _colours(names: list[str]) -> dict[str, str]:
    return {name: SERIES[i % len(SERIES)] for i, name in enumerate(dict.fromkeys(names))}


def _scale(colours: dict[str, str]) -> alt.Scale:
    return alt.Scale(domain=list(colours), range=list(colours.values()))


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each decade; decades alone where there are many."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if len(decades) <= 4 else (1,)
    return [tick for decade in decades for step in steps if low <= (tick := step * 10.0**decade) <= high]


def _last_values(rows: list[dict[str, Any]]) -> str:
    return ", ".join(f"{run} {number(value)}" for run, value in {row["run"]: row["value"] for row in rows}.items())
