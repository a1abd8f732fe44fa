"""The report page: `ReportData` in sentences, tables and figures. Reads a run folder, writes report.html."""

from pathlib import Path

import jinja2

from raysae.report import (
    attribution,
    beside,
    contexts,
    figures,
    maps,
    overhead,
    phases,
    quality,
    readings,
    resources,
    sections,
    step_control,
    trials,
    words,
)
from raysae.report.data import Plain, ReportData, collect
from raysae.store import write_atomic

__all__ = ["collect", "render", "write"]

_GUARDED = ("reconstruction", "fvu")
"""Criteria and metrics that carry the FVU sentence."""


def render(run: ReportData) -> str:
    """The page, the same text for the same data; no script, font, image or style from outside."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"spaced": words.spaced, "plain": words.plain, "number": words.number, "count": words.count}
    environment.filters |= {"duration": words.duration, "byte_size": words.byte_size, "moment": words.moment}
    units = [unit for unit in (run.causal or {}).get("units") or [] if isinstance(unit, dict)]
    criteria = run.verdict.get("criteria") or {}
    threshold = words.finite((criteria.get("reconstruction") or {}).get("threshold"))
    cap = words.finite(run.protocol.get("l0_cap"))
    return environment.get_template("page.html").render(
        run=run,
        head=_head(run),
        rows=[_verdict_row(name, row, run.metrics.get(name) or {}, run.protocol) for name, row in criteria.items()],
        reasons=words.REASONS,
        training=figures.training_curves(run.histories),
        sweep=figures.sweep_plane(run.sweep, threshold, cap) if run.sweep else None,
        trials=trials.table(run.sweep or {}),
        intervals=figures.criterion_intervals(criteria),
        causal=figures.causal_effect(units),
        doses=attribution.dose_response(run.attribution) if run.attribution else None,
        attributed=attribution.table(run.attribution) if run.attribution else [],
        hooks=attribution.hook_map(run.hook_sweep),
        steps=step_control.table(run.step_control),
        step_map=step_control.step_map(run.step_control),
        transfer_map=maps.transfer_map(run.transfer_map),
        cells=maps.table(run.transfer_map),
        units=[_unit(unit) for unit in units],
        latents=contexts.cards(run.contexts),
        latents_left_out=max(len(run.contexts) - contexts.LATENTS, 0),
        also=_also(run.metrics),
        nulls=_nulls(criteria),
        observations=[_observation(name, metric) for name, metric in run.observations.items()],
        gates=_gates(run.metrics),
        phases=phases.chain(run),
        recipes=beside.recipes(run),
        beside=beside.runs(run),
        protocol=sections.protocol(run.protocol, run.power),
        corpus=sections.corpus(run.corpus),
        quality=quality.section(run.quality),
        overhead=overhead.section(run.overhead, run.experiment.get("overhead") or {}),
        absent=_absent(run),
        resources=resources.section(run.resources, run.record),
        provenance=sections.provenance(run),
    )


def write(folder: Path) -> Path:
    """Collect, render, and put `report.html` into the run folder, wholly or not at all."""
    path = folder / "report.html"
    write_atomic(path, render(collect(folder)).encode())
    return path


def _head(run: ReportData) -> Plain:
    verdict, experiment = run.verdict, run.experiment
    criteria = verdict.get("criteria") or {}
    confirmatory = verdict.get("mode") == "confirmatory"
    outcomes = [str(row.get("outcome")) for row in criteria.values()]
    return {
        "name": experiment.get("name", words.DASH),
        "asked": _asked(run, len(criteria)),
        "outcome": verdict.get("outcome", words.DASH),
        "tally": [
            (outcome, outcomes.count(outcome)) for outcome in ("GO", "NO_GO", "INCONCLUSIVE") if outcome in outcomes
        ],
        "mode": "CONFIRMATORY" if confirmatory else "EXPLORATORY",
        "mode_means": (
            "the protocol passed its power check beforehand, and this verdict counts for gates."
            if confirmatory
            else "a look, not a test. Its numbers may suggest a hypothesis; its verdict opens no gate."
        ),
        "hash": str(verdict.get("protocol_sha256", words.DASH)),
        "attempt": (run.record or {}).get("attempt"),
        "remarks": verdict.get("remarks") or [],
        "overrides": verdict.get("overrides") or [],
    }


def _absent(run: ReportData) -> tuple[str, ...]:
    """Sections that this run has no use for."""
    unused = {
        "observations": not run.observations,
        "phases": run.protocol.get("phase") is None,
        "steps": not run.step_control,
        "map": not run.transfer_map,
        "beside": not (run.beside or run.experiment.get("rivals")),
    }
    of_saes = ("training", "sweep", "causal", "attribution", "contexts", "data", "text")
    return (*(name for name, so in unused.items() if so), *(of_saes if run.overhead else ("overhead",)))


def _asked(run: ReportData, criteria: int) -> str:
    """The question of the run in one sentence; where a sweep chose the SAE, of the one it chose."""
    experiment = run.experiment
    sae, model, capture = (experiment.get(part) or {} for part in ("sae", "model", "capture"))
    corpus = (experiment.get("corpus") or {}).get("name", words.DASH)
    chosen = next((trial for trial in (run.sweep or {}).get("trials") or [] if trial.get("chosen")), {})
    architecture = str(sae.get("architecture", ""))
    size = f"expansion {words.plain(chosen.get('expansion') or sae.get('expansion'))}"
    if "topk" in architecture:
        size += f", k = {words.plain(chosen.get('k') or sae.get('k'))}"
    hookpoint = sae.get("hookpoint") or next(iter(capture.get("hookpoints") or []), words.DASH)
    claims = "one criterion that was" if criteria == 1 else f"{criteria} criteria that were"
    of_model = words.plain(model.get("name")) + (" with random weights" if model.get("randomize") else "")
    if run.overhead:
        points = words.plain(capture.get("hookpoints"))
        return f"Does what it costs to capture {points} of {of_model} meet {claims} fixed before it was measured?"
    dictionary = f"{words.ARCHITECTURES.get(architecture, architecture)} sparse autoencoder ({size})"
    read = f"{words.plain(hookpoint)} of {of_model}"
    text = words.plain([corpus] if isinstance(corpus, str) else corpus)
    return f"Do the latents of a {dictionary}, trained on {read} reading {text}, meet {claims} fixed before training?"


def _verdict_row(name: str, row: Plain, metric: Plain, protocol: Plain) -> Plain:
    value, interval = words.measured(row.get("value"), row.get("interval"))
    guard = bool({name, metric.get("name")} & set(_GUARDED))
    return {
        "name": name,
        "about": _registered(protocol, "criteria", name).get("title", ""),
        "outcome": row.get("outcome", words.DASH),
        "code": row.get("reason_code"),
        "value": value,
        "interval": interval,
        "missing": metric.get("not_run") if words.finite(row.get("value")) is None else None,
        "threshold": words.comparison(row.get("direction"), row.get("threshold")),
        "unit": row.get("unit", ""),
        "n": words.count(row.get("n")),
        "sampled": f"{words.spaced(row.get('unit_of_sampling', 'unit'))}{'' if row.get('n') == 1 else 's'}",
        "seeds": words.plural(metric["seeds"], "seed") if metric.get("seeds") else "",
        "nulls": [_null(null, numbers, protocol) for null, numbers in (row.get("nulls") or {}).items()],
        "ceiling": words.number(row.get("ceiling")),
        "corrected": None if words.finite(row.get("corrected")) is None else words.number(row["corrected"]),
        "reason": row.get("reason", ""),
        "worst": readings.worst(metric),
        "guard": words.FVU_GUARD if guard else "",
    }


def _observation(name: str, metric: Plain) -> Plain:
    value, interval = words.measured(metric.get("value"), metric.get("interval"))
    return {
        "name": words.spaced(name),
        "value": value,
        "interval": interval,
        "unit": metric.get("unit", ""),
        "n": f"{words.count(metric.get('n'))} {words.spaced(metric.get('unit_of_sampling', 'unit'))}s",
        "missing": metric.get("not_run") or "",
        "nulls": [_null(null, numbers, {}) for null, numbers in (metric.get("nulls") or {}).items()],
        "also": readings.rows(metric),
    }


def _null(name: str, numbers: Plain, protocol: Plain) -> Plain:
    return {
        "name": words.spaced(name),
        "mean": words.number(numbers.get("mean")),
        "p95": words.number(numbers.get("p95")),
        "about": numbers.get("note") or _registered(protocol, "nulls", name).get("description", ""),
    }


def _registered(protocol: Plain, table: str, name: str) -> Plain:
    """The row called `name` in a table of the protocol; empty where it is not registered."""
    return next((row for row in protocol.get(table) or [] if row.get("name") == name), {})


def _unit(unit: Plain) -> Plain:
    numbers = (
        "latents",
        "ceiling",
        "matched_mean",
        "matched_p95",
        "random_direction",
        "random_model",
        "permuted_labels",
        "corrected",
    )
    return {key: words.number(unit.get(key), 2) for key in numbers} | {
        "variable": words.spaced(unit.get("variable")),
        "value": words.plain(unit.get("value")),
        "pairs": words.count(unit.get("pairs")),
        "coherent": bool(unit.get("coherent")),
    }


def _also(metrics: Plain) -> list[tuple[str, list[Plain]]]:
    """Criterion and its readings, of those that have any."""
    found: list[tuple[str, list[Plain]]] = []
    for name, metric in metrics.items():
        rows = readings.rows(metric)
        if words.finite(metric.get("ceiling")) is not None:
            about, value = "the best that supervision, or a perfect SAE, reaches", words.number(metric["ceiling"])
            rows = [{"name": "ceiling", "about": about, "value": value, "members": []}, *rows]
        if by_seed := readings.by_seed(metric):
            rows = [by_seed, *rows]
        if rows:
            found.append((words.spaced(name), rows))
    return found


def _nulls(criteria: Plain) -> list[list[str]]:
    found: list[list[str]] = []
    for name, row in criteria.items():
        for null, numbers in (row.get("nulls") or {}).items():
            _, interval = words.measured(numbers.get("mean"), numbers.get("interval"))
            cells = [words.number(numbers.get("mean")), words.number(numbers.get("p95")), interval or words.DASH]
            found.append(
                [
                    words.spaced(name),
                    words.spaced(null),
                    *cells,
                    words.count(numbers.get("n") or None),
                    numbers.get("note") or "",
                ]
            )
    return found


def _gates(metrics: Plain) -> list[tuple[str, Plain]]:
    return [(words.spaced(name), gate) for name, metric in metrics.items() for gate in metric.get("gates") or []]
