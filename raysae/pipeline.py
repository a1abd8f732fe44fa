"""The order of the stages, and what is finished."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from raysae.checks import check, check_inputs, check_other_run
from raysae.errors import BadInput
from raysae.stages import tracking
from raysae.stages.claim import claim, identity, leave_nothing_partial, mark_of, stored_override
from raysae.store import Manifest, RunFolder, holds
from raysae.store.mirror import followed
from raysae.types import Experiment, Outcome, Verdict
from raysae.types.loading import beside

STAGES = ("ingest", "tokenize", "quality", "seal", "capture", "sweep", "train", "evaluate", "decide", "report")
"""DESIGN order: the protocol is sealed before the first activation exists."""
CAPTURE_STAGES = ("draw", "seal", "overhead", "decide", "report")
"""Of an experiment about capture itself, which reads no text and trains nothing."""


def stages(experiment: Experiment) -> tuple[str, ...]:
    """What there is to do, in order. BadInput for criteria that no one experiment can judge."""
    from raysae.falsification.criteria import judges_capture

    return CAPTURE_STAGES if judges_capture(experiment.protocol.criteria) else STAGES


def walk(
    experiments: Sequence[Experiment], reporter: Any, until: str = "report", override: str | None = None
) -> Iterator[tuple[Experiment, Verdict | None]]:
    """Run experiments one after the other; what each asks for is checked before the first begins. Phases among them
    stop where a gate is closed (Refused); `override` is the reason to go on at every one of them."""
    for experiment in experiments[1:]:  # the first is checked by its own run
        check(experiment)
    for experiment in experiments:
        if len(experiments) > 1:
            reporter.line(f"[bold]{experiment.name}[/bold], phase {experiment.protocol.phase}")
        yield experiment, run(experiment, reporter, until, override)


def run(experiment: Experiment, reporter: Any, until: str = "report", override: str | None = None) -> Verdict | None:
    """Run every stage up to `until` that is not finished. Returns the verdict once there is one.

    `reporter` is a `raysae.stages.progress.Reporter`; `override` the reason to start a phase whose gate is closed.
    Raises BadInput before anything is written when the experiment cannot run, Refused when a seal does not hold or a
    gate is closed.
    """
    folder = RunFolder(experiment)
    with followed(folder.root, reporter.line):
        return _run(experiment, folder, reporter, until, override)


def _run(experiment: Experiment, folder: RunFolder, reporter: Any, until: str, override: str | None) -> Verdict | None:
    if until == "report" and is_finished(experiment, folder):
        check_other_run(experiment, folder)
        reporter.line(
            f"[bold]{experiment.name}[/bold] is finished: nothing to do. Remove {folder.root} to run it again."
        )
        return _read_verdict(folder)
    from raysae.stages.gates import gate

    order = stages(experiment)
    if until not in order:
        raise BadInput(
            f"{until} is no stage of {experiment.name}: its criteria do not ask for it",
            f"allowed: {', '.join(order)}",
            "type raysae run, which takes them in order",
        )
    check(experiment)
    check_inputs(experiment)
    check_other_run(experiment, folder)
    fresh = not folder.root.exists()
    override = override or stored_override(folder)
    gate(experiment, folder, override)
    for other in beside(experiment) if until == "report" else ():
        verdict = run(other, reporter)
        reporter.line(f"beside: [bold]{other.name}[/bold] {verdict.outcome if verdict else ''}")
    claim(experiment, folder, override)
    try:
        for stage in order[: order.index(until) + 1]:
            _one(stage, experiment, folder, reporter)
    except BadInput:
        leave_nothing_partial(folder, fresh)
        raise
    return _read_verdict(folder) if folder.verdict.is_file() else None


def is_finished(experiment: Experiment, folder: RunFolder) -> bool:
    """Whether this very experiment ran to its report. Imports nothing heavy, so saying so takes a moment."""
    if not (
        folder.report.is_file() and folder.verdict.is_file() and folder.record.is_file() and folder.experiment.is_file()
    ):
        return False
    return mark_of(folder)["identity"] == identity(experiment)


def amend(experiment: Experiment, reason: str) -> str:
    """Replace the sealed protocol of a run folder; returns the new hash."""
    from raysae.stages.claim import amend as amend_claim

    check(experiment)
    folder = RunFolder(experiment)
    with followed(folder.root, lambda line: None):
        return amend_claim(experiment, folder, reason)


def _one(stage: str, experiment: Experiment, folder: RunFolder, reporter: Any) -> None:
    if stage == "sweep" and experiment.sweep.trials == 0:
        return
    finished, work = _TABLE[stage]
    if finished(experiment, folder):
        reporter.found(stage)
        return
    from raysae.stages import spent

    if stage in ("seal", "capture") and stages(experiment) == STAGES:
        _promise(experiment, folder, reporter)
    with spent.recording(stage, experiment, folder), reporter.stage(stage) as progress:
        work(experiment, folder, progress)
    if (failure := tracking.track(experiment, folder, stage, spent.seconds(folder)[stage])) is not None:
        reporter.line(failure)


def _promise(experiment: Experiment, folder: RunFolder, reporter: Any) -> None:
    """Say what is to come. BadInput for what goes beyond the budget, while nothing is captured."""
    from raysae.costs.plan import check_budget
    from raysae.stages.plan import promise

    plan = promise(experiment, folder)
    if not folder.protocol.is_file():
        reporter.line(f"[dim]plan: {plan.counted_by}; {plan.summary}[/dim]")
    check_budget(plan, experiment.budget)


def _read_verdict(folder: RunFolder) -> Verdict:
    return Verdict.model_validate_json(folder.verdict.read_bytes())


def exit_status(verdicts: Sequence[Verdict]) -> int:
    """Of `decide` and `run --gate`: that of the first verdict that is not GO."""
    statuses = [{Outcome.GO: 0, Outcome.NO_GO: 3, Outcome.INCONCLUSIVE: 4}[verdict.outcome] for verdict in verdicts]
    return next(filter(None, statuses), 0)


# One pair per stage: is it finished, and how is it done. The stages are imported when they run, so that a finished
# experiment is recognised without loading torch or Ray.


def _tokenize_finished(experiment: Experiment, folder: RunFolder) -> bool:
    if not Manifest.exists(folder.tokens):  # the last of the three
        return False
    tokens = Manifest.read(folder.tokens)
    holds(folder.corpus, tokens.extra["corpus_fingerprint"])
    return all(holds(part, tokens.fingerprint) for part in (folder.alignment, folder.labels, folder.tokens))


def _quality_finished(experiment: Experiment, folder: RunFolder) -> bool:
    return holds(folder.quality, Manifest.read(folder.tokens).fingerprint)


def _ingest(experiment: Experiment, folder: RunFolder, progress: Any) -> None:
    from raysae.stages.ingest import ingest

    manifest = ingest(experiment, folder.corpus, progress)
    counts = ", ".join(f"{split} {count:,}" for split, count in manifest.extra["records"].items())
    progress.say(f"{manifest.rows:,} records ({counts}), {manifest.extra['quarantined']} quarantined")


def _tokenize(experiment: Experiment, folder: RunFolder, progress: Any) -> None:
    from raysae.stages.tokenize import tokenize

    manifest = tokenize(experiment, folder.corpus, folder.tokens, folder.labels, folder.alignment, progress)
    progress.say(f"{manifest.extra['tokens']:,} tokens in {len(manifest.blocks)} blocks")


def _quality(experiment: Experiment, folder: RunFolder, progress: Any) -> None:
    from raysae.stages.quality import quality

    for name, figures in quality(experiment, folder, progress)["corpora"].items():
        found = (
            "no steps" if figures["coverage"] is None else f"{figures['coverage']:.1%} of {figures['steps']:,} steps"
        )
        alpha = figures["agreement"]["alpha"]
        agreed = "" if alpha is None else f", alpha between the aligners {alpha:.3f}"
        progress.say(f"{name}: {figures['documents']:,} documents, {found} found{agreed}")


def _draw(experiment: Experiment, folder: RunFolder, progress: Any) -> None:
    from raysae.stages.draw import draw

    manifest = draw(experiment, folder)
    progress.say(f"{manifest.rows:,} documents of drawn ids, {manifest.extra['tokens']:,} tokens")


def _overhead(experiment: Experiment, folder: RunFolder, progress: Any) -> None:
    from raysae.stages.overhead import lines, overhead

    for line in lines(overhead(experiment, folder, progress)):
        progress.say(line)


def _seal(experiment: Experiment, folder: RunFolder, progress: Any) -> None:
    from raysae.stages.gates import gate
    from raysae.stages.seal import seal

    protocol = seal(experiment, folder, gate(experiment, folder, stored_override(folder)))
    progress.say(f"protocol {protocol.sha256[:16]} sealed: {len(protocol.criteria)} criteria, {protocol.mode}")


def _capture_finished(experiment: Experiment, folder: RunFolder) -> bool:
    from raysae.stages.capture import fingerprints

    marks = fingerprints(experiment, Manifest.read(folder.tokens))
    return all([holds(folder.activations / arm, mark) for arm, mark in marks.items()])


def _capture(experiment: Experiment, folder: RunFolder, progress: Any) -> None:
    from raysae.models.maps import is_map
    from raysae.stages.capture import Capturer, capture
    from raysae.stages.states import StatesWriter

    worker = StatesWriter if is_map(experiment.model) else Capturer
    manifests = capture(experiment, folder.tokens, folder.activations, progress, worker)
    rows = sum(manifest.rows for manifest in manifests.values())
    streamed = "" if experiment.activations.mode == "cache" else "; TRAIN will be streamed"
    size = sum(manifest.bytes for manifest in manifests.values()) / 1e6
    progress.say(f"{rows:,} tokens, {size:,.1f} MB, arms {', '.join(manifests)}{streamed}")


def _sweep(experiment: Experiment, folder: RunFolder, progress: Any) -> None:
    from raysae.falsification.protocol import read as read_protocol
    from raysae.stages.sweep import sweep

    sealed = read_protocol(folder.protocol)
    best = sweep(experiment, folder.activations, folder.tokens, folder.sweep, sealed, progress)
    progress.say(
        f"chosen on FIT: expansion {best['expansion']}, k {best['k']}, l1 {best['l1']:g} (margin {best['margin']:+.2f})"
    )


def configured(experiment: Experiment, folder: RunFolder) -> Experiment:
    """The experiment with the sweep's choice in place."""
    if experiment.sweep.trials == 0:
        return experiment
    from raysae.stages.points import configure
    from raysae.stages.sweep import chosen

    return configure(experiment, chosen(folder.sweep))


def _train_finished(experiment: Experiment, folder: RunFolder) -> bool:
    from raysae.stages.jobs import plan
    from raysae.stages.train import is_finished

    return all([is_finished(job) for job in plan(configured(experiment, folder), folder.activations, folder.sae)])


def _train(experiment: Experiment, folder: RunFolder, progress: Any) -> None:
    from raysae.stages.train import train

    manifests = train(configured(experiment, folder), folder.activations, folder.sae, progress)
    progress.say(f"{len(manifests)} SAEs in {folder.sae}")


def _measured(experiment: Experiment, folder: RunFolder) -> bool:
    return Manifest.exists(folder.metrics)  # `decide` reads every byte of them, and refuses what was changed


def _evaluate(experiment: Experiment, folder: RunFolder, progress: Any) -> None:
    from raysae.stages.evaluate import evaluate

    evaluate(configured(experiment, folder), folder, progress)


def _decide(experiment: Experiment, folder: RunFolder, progress: Any) -> None:
    from raysae.stages.decide import decide

    decide(configured(experiment, folder), folder)


def _report(experiment: Experiment, folder: RunFolder, progress: Any) -> None:
    from raysae.report.page import write

    write(folder.root)


_TABLE: dict[str, tuple[Callable[[Experiment, RunFolder], bool], Callable[[Experiment, RunFolder, Any], None]]] = {
    "draw": (lambda experiment, folder: holds(folder.tokens), _draw),
    "ingest": (lambda experiment, folder: holds(folder.corpus), _ingest),
    "tokenize": (_tokenize_finished, _tokenize),
    "quality": (_quality_finished, _quality),
    "seal": (lambda experiment, folder: folder.protocol.is_file(), _seal),
    "capture": (_capture_finished, _capture),
    "sweep": (lambda experiment, folder: holds(folder.sweep), _sweep),
    "train": (_train_finished, _train),
    "evaluate": (_measured, _evaluate),
    "overhead": (_measured, _overhead),
    "decide": (lambda experiment, folder: folder.record.is_file(), _decide),
    "report": (lambda experiment, folder: folder.report.is_file(), _report),
}
