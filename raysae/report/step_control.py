"""Step-level control on the page: what each edit of a step's latents did, and every latent in every step."""

from typing import Any

import altair as alt

from raysae.report import words
from raysae.report.data import Plain
from raysae.report.figures import Figure, Panel
from raysae.report.svg import INK, TEAL, draw, glyph_key

TITLES = {
    "answer": "Log-probability of the answer",
    "steps": "Further steps",
    "detection": "Log-odds of the right word at a slip",
}


def table(found: Plain | None) -> list[Plain]:
    """One row per step type, edit and outcome."""
    rows: list[Plain] = []
    for row in (found or {}).get("rows") or []:
        effect, interval = words.measured(row.get("effect"), row.get("interval"))
        rows.append(
            {
                "step": row["step"],
                "edit": row["edit"],
                "outcome": TITLES.get(row["outcome"], row["outcome"]),
                "effect": effect,
                "interval": interval,
                "unit": row["unit"],
                "nulls": [
                    (words.spaced(null), words.number(row.get(f"{null}_mean")), words.number(row.get(f"{null}_p95")))
                    for null in ("matched_latents", "random_direction")
                ],
                "stands_out": bool(row.get("stands_out")),
            }
        )
    return rows


def step_map(found: Plain | None) -> Figure | None:
    """A panel per outcome: the step in which a latent was silenced by latent, coloured by the effect."""
    cells = (found or {}).get("matrix") or []
    panels = [_panel(outcome, mine) for outcome in TITLES if (mine := [c for c in cells if c["outcome"] == outcome])]
    legend = [
        (glyph_key("square", "#d8a37c"), "less"),
        (glyph_key("square", "#7fb0e0"), "more"),
        (glyph_key("triangle-up", TEAL), "beyond 95 % of the other latents that fire there"),
    ]
    return Figure(panels, legend) if panels else None


def _panel(outcome: str, cells: list[Plain]) -> Panel:
    steps = list(dict.fromkeys(cell["step"] for cell in cells))
    order = sorted({(steps.index(cell["of"]), cell["latent"]) for cell in cells})
    latents = [f"{latent}" for _, latent in order]
    drawn: list[dict[str, Any]] = []
    for cell in cells:
        effect, band = words.finite(cell.get("effect")), words.finite(cell.get("band"))
        if effect is not None:
            beyond = band is not None and abs(effect) > band
            drawn.append({"step": cell["step"], "latent": str(cell["latent"]), "effect": effect, "beyond": beyond})
    most = max((abs(cell["effect"]) for cell in drawn), default=0.0) or 1e-9
    x = alt.X("latent:N", sort=latents, title=None, axis=alt.Axis(orient="top", labelAngle=-90, labelOverlap=False))
    y = alt.Y("step:N", sort=steps, title=None, axis=alt.Axis(labelOverlap=False, labelColor=INK))
    base = alt.Chart(alt.Data(values=drawn)).encode(x=x, y=y)
    scale = alt.Scale(domain=[-most, 0, most], range=["#d8a37c", "#ffffff", "#7fb0e0"], interpolate="rgb")
    colour = alt.Color("effect:Q", scale=scale, legend=None)
    chart = alt.layer(
        base.mark_rect(stroke="#e4e7ec", strokeWidth=1).encode(color=colour),
        base.transform_filter("datum.beyond").mark_point(shape="triangle-up", size=34, color=TEAL, filled=True),
    )
    largest = max(drawn, key=lambda cell: abs(cell["effect"]), default=None)
    alternative = f"{TITLES[outcome]}: {len(drawn)} cells of step type by latent. " + (
        f"Largest: latent {largest['latent']} in {largest['step']}, {words.number(largest['effect'])}."
        if largest
        else ""
    )
    owners = "; ".join(
        f"{step}: {', '.join(str(latent) for place, latent in order if place == number)}"
        for number, step in enumerate(steps)
        if any(place == number for place, _ in order)
    )
    svg = draw(chart, f"step-{outcome}", alternative, 34 * len(steps), left=84, top=44)
    return Panel(TITLES[outcome], f"largest {words.number(most)}; {owners}", svg)
