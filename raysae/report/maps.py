"""The transfer map on the page: which place's latents are found again where, a panel per model they come from."""

from typing import Any

import altair as alt

from raysae.report import words
from raysae.report.data import Plain
from raysae.report.figures import Figure, Panel
from raysae.report.svg import INK, MUTED, block_key, draw


def transfer_map(rows: list[Plain]) -> Figure | None:
    """Rows are where latents come from, columns where they are looked for; an undefined cell is grey with a dash."""
    if not rows:
        return None
    columns = list(dict.fromkeys(row["b"] for row in rows))
    by_model: dict[str, list[Plain]] = {}
    for row in rows:
        by_model.setdefault(row["a"].rpartition(" ")[0], []).append(row)
    panels = [_panel(model, mine, columns) for model, mine in by_model.items()]
    legend = [
        (block_key("#1f5fa8", 0.55), "1: as often as another training there"),
        (block_key(MUTED, 0.18), "undefined"),
    ]
    return Figure(panels, legend)


def table(rows: list[Plain]) -> list[Plain]:
    """The cells in numbers."""
    found: list[Plain] = []
    for row in rows:
        share, interval = words.measured(row.get("transfer"), row.get("interval"))
        scores = {name: words.number(row.get(name)) for name in ("across", "within", "null")}
        floor = words.spaced(row.get("floor"))
        found.append({"a": row["a"], "b": row["b"], "share": share, "interval": interval, "floor": floor, **scores})
    return found


def _panel(model: str, rows: list[Plain], columns: list[str]) -> Panel:
    cells: list[dict[str, Any]] = []
    for row in rows:
        share = words.finite(row.get("transfer"))
        shown = {"a": _short(row["a"]), "b": _short(row["b"]), "defined": share is not None}
        cells.append(shown | {"share": min(max(share or 0.0, 0.0), 1.0), "text": words.number(share, 2)})
    order = [_short(name) for name in dict.fromkeys(row["a"] for row in rows)][::-1]
    x = alt.X(
        "b:N",
        sort=[_short(name) for name in columns],
        title=None,
        axis=alt.Axis(orient="top", labelAngle=0, labelOverlap=False),
    )
    y = alt.Y("a:N", sort=order, title=None, axis=alt.Axis(labelOverlap=False))
    base = alt.Chart(alt.Data(values=cells)).encode(x=x, y=y)
    scale = alt.Scale(domain=[0, 1], range=["#ffffff", "#7fb0e0"], interpolate="rgb")
    chart = alt.layer(
        base.mark_rect(stroke="#e4e7ec", strokeWidth=1, color=MUTED, opacity=0.18),
        base.transform_filter("datum.defined")
        .mark_rect(stroke="#e4e7ec", strokeWidth=1)
        .encode(color=alt.Color("share:Q", scale=scale, legend=None)),
        base.mark_text(fontSize=11, color=INK).encode(text="text:N"),
    )
    said = "; ".join(f"{row['a']} on {row['b']} {words.number(row.get('transfer'), 2)}" for row in rows)
    svg = draw(
        chart, f"transfer-{model or 'own'}", f"Null-corrected transfer: {said}", 30 * len(order), left=52, top=30
    )
    return Panel(f"from {model}" if model else "within the model", "rows: from; columns: on", svg)


def _short(name: str) -> str:
    """`L8` for the output of block 8, `L8 mlp out` for another site."""
    _, layer, site = name.rpartition(" ")[2].split(".")
    return f"L{layer}" if site == "resid_post" else f"L{layer} {words.spaced(site)}"
