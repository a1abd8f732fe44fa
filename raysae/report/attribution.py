"""Causal attribution on the page: dose-response curves, the hook sweep as a map, and the judged latents as a table."""

from typing import Any

import altair as alt

from raysae.report import words
from raysae.report.data import Plain
from raysae.report.figures import LARGE, NUMBER, Figure, Panel
from raysae.report.svg import BLUE, INK, MUTED, NULL, TEAL, block_key, draw, glyph_key, line_key

PANELS = 6
"""Latents whose curves are drawn: the first ranks of the first seed."""

_KINDS = {"random_direction": "#c2571a", "shuffled_decoder": "#7b4fa3", "matched_latents": NULL}


def dose_response(attribution: Plain) -> Figure | None:
    """A panel per latent: change of its target's score by dose, for the latent and for one direction of each null; bars
    hold the middle 90 % of every direction drawn of the nulls."""
    doses, groups = attribution.get("doses") or [], attribution.get("groups") or []
    latents = [row for row in attribution.get("latents") or [] if row.get("seed") == 0][:PANELS]
    panels = [_panel(row, doses, groups) for row in latents if doses]
    legend = [
        (line_key(BLUE, dot=True), "the latent"),
        *((line_key(colour), f"{words.spaced(name)}, one of them") for name, colour in _KINDS.items()),
        (block_key(NULL, 0.35), "nulls at one standard deviation, middle 90 %"),
    ]
    return Figure(panels, legend) if panels else None


def _panel(row: Plain, doses: list[float], groups: list[str]) -> Panel:
    lines = [{"dose": dose, "change": change, "kind": "latent"} for dose, change in _points(doses, row["curve"])]
    for name, curve in (row.get("null_curves") or {}).items():
        lines += [{"dose": dose, "change": change, "kind": name} for dose, change in _points(doses, curve)]
    effects = sorted(
        x
        for values in (row.get("null_effects") or {}).values()
        for value in values
        if (x := words.finite(value)) is not None
    )
    bars: list[dict[str, float]] = []
    if effects:
        low, high = effects[len(effects) // 20], effects[-1 - len(effects) // 20]
        bars = [{"dose": 1.0, "low": low, "high": high}, {"dose": -1.0, "low": -high, "high": -low}]
    # The latent is drawn last, on top.
    colours = {**{name: colour for name, colour in reversed(_KINDS.items())}, "latent": BLUE}
    x = alt.X(
        "dose:Q",
        title="dose, standard deviations",
        scale=alt.Scale(domain=[-2.1, 2.1], nice=False),
        axis=alt.Axis(values=[-2, -1, 0, 1, 2], format=NUMBER),
    )
    largest = max((abs(line["change"]) for line in lines), default=0.0)
    y = alt.Y("change:Q", title=None, axis=alt.Axis(tickCount=4, format=LARGE if largest >= 10_000 else NUMBER))
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    base = alt.Chart(alt.Data(values=lines)).encode(x=x, y=y, color=alt.Color("kind:N", scale=scale, legend=None))
    layers: list[alt.Chart] = [
        alt.Chart(alt.Data(values=[{"change": 0}])).mark_rule(color=MUTED, opacity=0.6).encode(y=y),
        alt.Chart(alt.Data(values=bars))
        .mark_bar(width=9, color=NULL, opacity=0.35)
        .encode(x=x, y=alt.Y("low:Q", title=None), y2="high:Q"),
        base.transform_filter("datum.kind != 'latent'").mark_line(strokeWidth=1.3, opacity=0.8),
        base.transform_filter("datum.kind == 'latent'").mark_line(strokeWidth=2),
        base.transform_filter("datum.kind == 'latent'").mark_point(filled=True, size=34, opacity=1),
    ]
    name = f"latent {row.get('latent')}"
    effect = words.number(row.get("effect"))
    verdict = "passes" if row.get("passes") else "fails: " + ", ".join(_failures(row))
    alternative = (
        f"{name}, rank {row.get('rank')}: {effect} nats per standard deviation on {_group(row, groups)}; {verdict}"
    )
    svg = draw(alt.layer(*layers), f"dose-{row.get('rank')}", alternative, 150, left=52)
    return Panel(name, f"{_group(row, groups)}; {verdict}", svg)


def hook_map(rows: list[Plain]) -> Figure | None:
    """Layers by sites, coloured by the TEST statistic; the cell that was chosen on FIT is framed."""
    cells: list[dict[str, Any]] = []
    for row in rows:
        _, layer, site = str(row.get("hookpoint")).split(".")
        statistic, band = words.finite(row.get("statistic")), words.finite(row.get("band"))
        if statistic is not None and band is not None:
            place = {"layer": int(layer), "site": words.spaced(site)}
            shown = {"statistic": statistic, "text": words.number(statistic, 1), "above": statistic > band}
            cells.append({**place, **shown, "chosen": bool(row.get("chosen"))})
    if not cells:
        return None
    layers = sorted({cell["layer"] for cell in cells}, reverse=True)
    x = alt.X("site:N", title=None, axis=alt.Axis(orient="top", labelAngle=0, labelOverlap=False))
    y = alt.Y("layer:O", title=None, sort=layers, axis=alt.Axis(labelOverlap=False, labelExpr="'layer ' + datum.label"))
    most = max(max(abs(cell["statistic"]) for cell in cells), 1e-9)
    base = alt.Chart(alt.Data(values=cells)).encode(x=x, y=y)
    colour = alt.Color(
        "statistic:Q",
        scale=alt.Scale(domain=[-most, 0, most], range=["#d8a37c", "#ffffff", "#7fb0e0"], interpolate="rgb"),
        legend=None,
    )
    drawn = alt.layer(
        base.mark_rect(stroke="#ffffff", strokeWidth=2).encode(color=colour),
        base.mark_text(fontSize=12, color=INK).encode(text="text:N"),
        base.transform_filter("datum.above").mark_point(
            shape="triangle-up", size=44, yOffset=-13, color=TEAL, filled=True, opacity=1
        ),
        base.transform_filter("datum.chosen").mark_rect(filled=False, stroke=INK, strokeWidth=2),
    )
    chosen = next((cell for cell in cells if cell["chosen"]), None)
    band = words.number(rows[0].get("band"))
    alternative = (
        f"Effect above random directions over its standard error at {len(cells)} hook points, band {band}. "
        + (f"Chosen on FIT: layer {chosen['layer']} {chosen['site']}, {chosen['text']}." if chosen else "")
    )
    legend = [
        (glyph_key("square", INK, filled=False), "chosen on FIT"),
        (glyph_key("triangle-up", TEAL), f"above the band of the sweep, {band}"),
    ]
    svg = draw(drawn, "hook-sweep", alternative, 44 * len(layers), left=58, top=34)
    return Figure([Panel("", "", svg)], legend)


def table(attribution: Plain) -> list[Plain]:
    """One row per seed and rank."""
    groups = attribution.get("groups") or []
    numbers = ("fit_slope", "slope", "effect", "r2", "symmetry", "specificity", "zero", "mean", "resample", "predicted")
    return [
        {name: words.number(row.get(name)) for name in numbers}
        | {
            name: words.number(row.get(name), 3)
            for name in ("p_random_direction", "p_shuffled_decoder", "p_matched_latents")
        }
        | {name: words.count(row.get(name)) for name in ("latent", "rank", "sites")}
        | {"seed": words.plain(row.get("seed")), "target": _group(row, groups)}
        | {"verdict": "passes" if row.get("passes") else ", ".join(_failures(row))}
        for row in attribution.get("latents") or []
    ]


def _points(doses: list[float], curve: list[Any]) -> list[tuple[float, float]]:
    """With the origin, where nothing is added and nothing changes."""
    found = [
        (dose, change) for dose, value in zip(doses, curve, strict=True) if (change := words.finite(value)) is not None
    ]
    return sorted([*found, (0.0, 0.0)])


def _group(row: Plain, groups: list[str]) -> str:
    target = row.get("target")
    return words.spaced(groups[target]) if isinstance(target, int) and 0 <= target < len(groups) else words.DASH


def _failures(row: Plain) -> list[str]:
    said = {
        "supports": "not positive",
        "significant": "not beyond random directions",
        "stands_out": "not beyond other rows",
        "linear": "not linear",
        "specific": "not specific",
    }
    return [text for flag, text in said.items() if not row.get(flag)]
