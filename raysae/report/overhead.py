"""What capture costs: the runs behind the three criteria, as a table and two drawings."""

from typing import Any

import altair as alt
import numpy as np

from raysae.report import words
from raysae.report.data import Plain
from raysae.report.figures import NUMBER, Figure, Panel
from raysae.report.svg import BLUE, INK, NULL, TEAL, draw, line_key

_RUNS = {
    "base": "forward pass without hooks, ending where capture ends",
    "forward": "hooked forward pass, nothing transferred or written",
    "capture": "captured: hooked, transferred, encoded, written, synced, checksummed",
    "whole": "forward pass without hooks to the end of the model",
}


def section(shown: Plain | None, config: Plain) -> Plain | None:
    """None for a run that judged SAEs. `shown` is metrics/overhead.json, `config` the experiment's `overhead`."""
    if not shown:
        return None
    timed, stretch = shown["latency"], shown.get("throughput")
    tokens = config["batch_size"] * config["sequence_length"] * config["batches"]
    facts = [
        ("model", f"{timed['model']}, {timed['parameters']:,} parameters, {timed['dtype']}"),
        (
            "captured",
            f"{words.plural(timed['sites'], 'hook point')} behind {timed['blocks_run']} blocks, "
            f"stored as {timed['stored_as']}",
        ),
        (
            "one run",
            f"{words.plural(config['batches'], 'batch')} of {timed['batch_size']} x "
            f"{timed['sequence_length']} tokens, {tokens:,} in all",
        ),
        ("device", timed["device"]),
    ]
    if stretch:
        facts.append(
            (
                "without a pause",
                f"{sum(stretch['tokens']):,} tokens in {len(stretch['tokens'])} files, "
                f"{words.byte_size(sum(stretch['bytes']))}, {words.duration(sum(stretch['seconds']))}",
            )
        )
    memory = [shown[name] for name in ("memory-base", "memory-capture") if name in shown]
    if len(memory) == 2 and all(found["peaks"] for found in memory):
        kind = "allocated GPU memory" if timed["gpu"] else "resident memory (CPU, not the criterion)"
        base, captured = (words.byte_size(float(np.median(found["peaks"]))) for found in memory)
        facts.append((f"peak of {kind}", f"{base} without hooks, {captured} captured"))
    return {"facts": facts, "rows": _rows(timed["seconds"], tokens), "figure": _figure(timed["seconds"], stretch)}


def _rows(seconds: dict[str, Any], tokens: int) -> list[Plain]:
    """A kind of run: its median time, tokens per second, and how much longer than the base."""
    of_block = {name: np.mean(rows, axis=1) for name, rows in seconds.items()}
    return [
        {
            "name": about,
            "seconds": words.duration(float(np.median(of_block[name]))),
            "rate": words.count(tokens / float(np.median(of_block[name]))),
            "rise": words.DASH if name == "base" else _percent(float(np.median(of_block[name] / of_block["base"] - 1))),
        }
        for name, about in _RUNS.items()
    ]


def _percent(share: float) -> str:
    return f"{words.MINUS if share < 0 else '+'}{abs(share):.1%}"


def _figure(seconds: dict[str, Any], stretch: Plain | None) -> Figure:
    of_block = {name: np.mean(rows, axis=1) for name, rows in seconds.items()}
    kinds = {"captured": "capture", "hooked only": "forward"}
    rows = [
        {"block": number, "rise": float(rise), "kind": kind}
        for kind, name in kinds.items()
        for number, rise in enumerate(of_block[name] / of_block["base"] - 1, start=1)
    ]
    colour = alt.Color("kind:N", scale=alt.Scale(domain=list(kinds), range=[BLUE, NULL]), legend=None)
    points = (
        alt.Chart(alt.Data(values=rows))
        .mark_point(filled=True, size=36, opacity=0.9)
        .encode(
            x=alt.X("block:Q", title="block", axis=alt.Axis(grid=False, tickCount=5, format=",d")),
            y=alt.Y("rise:Q", title=None, axis=alt.Axis(tickCount=4, format="%")),
            color=colour,
        )
    )
    line = alt.Chart(alt.Data(values=[{"rise": 0.5}])).mark_rule(strokeDash=[4, 3], color=INK).encode(y="rise:Q")
    median = _percent(float(np.median(of_block["capture"] / of_block["base"] - 1)))
    svg = draw(alt.layer(line, points), "overhead-latency", f"Rise of each block, median {median}", 170, left=46)
    panels = [Panel("Time above the base, by block", f"median {median}", svg)]
    if stretch:
        ends, done = np.cumsum(stretch["seconds"]), np.cumsum(stretch["tokens"])
        rates = np.array(stretch["tokens"]) / np.array(stretch["seconds"])
        along = [{"tokens": int(n), "rate": float(rate)} for n, rate in zip(done, rates, strict=True)]
        chart = (
            alt.Chart(alt.Data(values=along))
            .mark_line(color=TEAL, strokeWidth=1.6)
            .encode(
                x=alt.X("tokens:Q", title="tokens written", axis=alt.Axis(grid=False, tickCount=4, format="~s")),
                y=alt.Y("rate:Q", title=None, axis=alt.Axis(tickCount=4, format=NUMBER)),
            )
        )
        goal = alt.Chart(alt.Data(values=[{"rate": 1000}])).mark_rule(strokeDash=[4, 3], color=INK).encode(y="rate:Q")
        over = f"{words.count(done[-1] / ends[-1])} over all"
        svg = draw(
            alt.layer(goal, chart), "overhead-throughput", f"Tokens per second of each file, {over}", 170, left=46
        )
        panels.append(Panel("Tokens per second, file by file", over, svg))
    legend = [
        (line_key(BLUE, dot=True), "captured"),
        (line_key(NULL, dot=True), "hooked only"),
        (line_key(INK, dash="4 3"), "threshold"),
    ]
    return Figure(panels, legend)
