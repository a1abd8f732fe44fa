"""What the command line prints: a verdict as blocks, the rest as tables, the same in a terminal and in a log file."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from raysae.corpora import Corpus
    from raysae.costs.plan import Plan
    from raysae.costs.scale import Step, Tokens
    from raysae.falsification import Criterion, PowerRow
    from raysae.models.registry import ModelRow
    from raysae.stages.spent import Pair
    from raysae.types import Experiment, Verdict
    from raysae.types.record import RunRecord

_COLOURS = {"GO": "green", "NO_GO": "red", "INCONCLUSIVE": "yellow"}


def say(line: str) -> None:
    """A sentence, never cut at the width of the terminal."""
    Console(soft_wrap=True).print(line, highlight=False)


def print_verdict(verdict: "Verdict") -> None:
    """One block per criterion, so that it reads the same at 80 columns and in a log file."""
    console = Console(soft_wrap=True)
    console.print()
    for name, row in verdict.criteria.items():
        outcome = f"[bold {_COLOURS[row.outcome]}]{row.outcome}[/]" + (
            f" ({row.reason_code})" if row.reason_code else ""
        )
        console.print(f"{name:<20}{outcome}", highlight=False)
        if row.value is not None and row.interval is not None:
            low, high = row.interval
            console.print(
                f"    {row.value:.3f} [{low:.3f}, {high:.3f}], "
                f"asked {row.direction} {row.threshold:g} {row.unit}, n = {row.n}",
                highlight=False,
                markup=False,
            )
        nulls = ", ".join(f"{null} {value.mean:.3f}" for null, value in row.nulls.items() if value.mean is not None)
        if nulls:
            share = (
                ""
                if row.corrected is None
                else f"; {row.corrected:.2f} of the way from the hardest null to the ceiling"
            )
            console.print(f"    [dim]nulls: {nulls}{share}[/dim]", highlight=False)
        console.print(f"    [dim]{escape(row.reason)}[/dim]", highlight=False)
    mode = "confirmatory" if verdict.mode == "confirmatory" else "exploratory: it opens no gate"
    console.print(f"\nverdict [bold {_COLOURS[verdict.outcome]}]{verdict.outcome}[/], {mode}", highlight=False)
    for reason in verdict.overrides:
        console.print(f"[bold red]started without the gate[/], {escape(reason)}", highlight=False)


def print_power(criteria: "Iterable[Criterion]", rows: "Iterable[PowerRow]") -> None:
    """What each criterion can show."""
    _print_table(
        ("criterion", "passes when", "planned n", "minimum n", "shown at 80 % power", "voiding nulls", "power"),
        (
            (
                criterion.name,
                f"{criterion.direction} {criterion.threshold:g} {criterion.unit}",
                "counted in the text" if row.planned_n is None else str(row.planned_n),
                f"{row.minimum_n} ({row.unit_of_sampling})",
                "–" if row.mde is None else f"{row.mde:.4f}",
                ", ".join(criterion.voiding_nulls) or "none",
                "; ".join(row.obstacles) or "GO is reachable",
            )
            for criterion, row in zip(criteria, rows, strict=True)
        ),
    )


def print_models(models: "Iterable[ModelRow]") -> None:
    _print_table(
        ("name", "hub id", "revision", "layers", "d_model", "d_mlp", "context", "probe layer", "licence", "gated"),
        (
            (
                row.name,
                row.hub_id or "bundled",
                (row.revision or "–")[:10],
                str(row.layers),
                str(row.d_model),
                str(row.d_mlp),
                str(row.ctx_len),
                str(row.probe_layer),
                row.licence,
                "yes" if row.gated else "no",
            )
            for row in models
        ),
    )


def print_corpora(corpora: "Iterable[Corpus]", worlds: Iterable[str]) -> None:
    def counted(rows: Mapping[str, int | str]) -> str:
        said = [f"{split} {n:,}" if isinstance(n, int) else f"{split} {n}" for split, n in rows.items()]
        return ", ".join(said) or "by file name"

    rows = [
        (
            corpus.name,
            (corpus.hub_id or "local files") + (" (gated)" if corpus.gated else ""),
            corpus.revision or "–",
            counted(corpus.rows),
            corpus.licence,
            "yes" if corpus.has_cot else "no",
            "evaluation only" if corpus.eval_only else "yes" if corpus.redistribute else "no",
        )
        for corpus in corpora
    ]
    _print_table(
        ("name", "hub id", "revision", "splits and rows", "licence", "chain of thought", "redistributable"),
        [*rows, *((name, "generated", "–", "any number, by hash", "MIT", "yes", "yes") for name in worlds)],
    )


def print_ledger(records: "Iterable[RunRecord]") -> None:
    _print_table(
        (
            *("started", "experiment", "phase", "outcome", "mode", "attempt", "tokens", "seconds", "seed", "commit"),
            "protocol",
        ),
        (
            (
                record.started_at[:19],
                record.experiment,
                _phase(record),
                record.outcome,
                record.mode,
                str(record.attempt),
                f"{record.tokens:,}",
                f"{sum(record.seconds.values()):.0f}",
                str(record.seeds.get("experiment")),
                (record.commit or "–")[:10],
                record.protocol_sha256[:10],
            )
            for record in records
        ),
    )


def _phase(record: "RunRecord") -> str:
    said = "–" if record.phase is None else str(record.phase)
    return f"{said}, {'; '.join(record.overrides)}" if record.overrides else said


def print_rates(criteria: Mapping[str, Any]) -> None:
    """How often the court was wrong, a line per simulated world."""
    from raysae.report.calibration import TITLES, said

    def line(name: str, kind: str, world: dict[str, Any]) -> tuple[str, ...]:
        low, high = world["interval"]
        within = "[green]within[/]" if world["within"] else "[bold red]OUT OF BOUNDS[/]"
        return name, TITLES[kind], said(world), f"{world['rate']:.3f} [{low:.3f}, {high:.3f}]", within

    _print_table(
        ("criterion", "in the simulated world", "the court said", "rate [95 % interval]", ""),
        (line(name, kind, world) for name, row in criteria.items() for kind, world in row["worlds"].items()),
    )


def _print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """On a terminal as wide as it is; in a file no cell is cut or folded."""
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console = Console(width=240)
    console.print(table, highlight=False)


def print_plan(experiment: "Experiment", plans: "Mapping[str, Plan]") -> None:
    """The timeline of the experiment as it is, and in one line what either way of `activations.mode` takes."""
    from raysae.report import words

    plan = plans[experiment.activations.mode]
    starts, rows = 0.0, []
    for stage, line in plan.stages.items():
        rows.append(
            (
                stage,
                words.duration(starts),
                words.duration(line.wall_s),
                words.count(line.tokens or None),
                words.byte_size(line.numbers_bytes or None),
                words.byte_size(line.disk_bytes or None),
                words.byte_size(line.read_bytes or None),
                words.DASH if line.device_hours is None else f"{words.number(line.device_hours)} {line.device}",
                words.number(line.cost),
            )
        )
        starts += line.wall_s or 0.0
    say(f"[bold]{escape(experiment.name)}[/bold]: {plan.counted_by}; {plan.timed_by}")
    cost = f"cost, {plan.currency}" if plan.currency else "cost"
    _print_table(
        ("stage", "begins", "takes", "tokens", "numbers", "on disk at most", "reads", "device-hours", cost), rows
    )
    for mode, other in plans.items():
        say(f"activations.mode={mode}: {other.summary}; {words.number(other.rtx_hours)} RTX-equivalent hours")
    if None not in (prices := [other.cost for other in plans.values()]):
        cheaper = min(zip(prices, plans, strict=True))[1]
    else:
        cheaper = min(plans, key=lambda mode: plans[mode].rtx_hours)
    if len(plans) > 1:
        say(f"cheaper: activations.mode={cheaper}")


def print_spent(pairs: "Mapping[str, Pair]") -> None:
    """Planned against actual."""
    from raysae.report import words

    says = {"seconds": words.duration, "tokens captured": words.count}
    shown = [
        f"{says.get(name, words.byte_size)(pair.taken)} {name.removeprefix('bytes ')}".removesuffix(" seconds")
        + ("" if pair.planned is None else f" (planned {says.get(name, words.byte_size)(pair.planned)})")
        for name, pair in pairs.items()
    ]
    if shown:
        say(f"took {', '.join(shown)}")


def scale_tables(tokens: "Sequence[Tokens]", steps: "Sequence[Step]") -> "list[Sequence[Sequence[str]]]":
    """Rows as text, their headings first."""
    from raysae.costs.scale import LATENTS
    from raysae.report import words

    of_tokens = [
        (
            f"{row.tokens // 10**9} billion",
            words.byte_size(row.cache_bytes),
            words.number(row.read_hours),
            words.number(row.capture_hours),
            words.number(row.train_hours),
            words.number(row.million_hours),
        )
        for row in tokens
    ]
    of_steps = [
        (
            f"{step.devices} by {step.split}",
            words.byte_size(step.state_bytes),
            words.byte_size(step.network_bytes),
            *(words.number(1000 * value) for value in (step.products_s, step.memory_s, step.network_s)),
            step.bottleneck,
        )
        for step in steps
    ]
    return [
        [
            ("tokens", "cached", "hours to read once", "device-hours: capture", "train", f"train {LATENTS:,} latents"),
            *of_tokens,
        ],
        [
            ("devices", "state of each", "sent by each a step", "products, ms", "memory, ms", "network, ms", "most"),
            *of_steps,
        ],
    ]


def print_scale(tokens: "Sequence[Tokens]", steps: "Sequence[Step]", crossing: int) -> None:
    for headings, *rows in scale_tables(tokens, steps):
        _print_table(headings, rows)
        say("")
    say(f"from {crossing:,} latents on a step sends less when it is split by latents")
