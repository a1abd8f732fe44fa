"""The command line: one subcommand per stage, `run`, and the readers. Parses arguments and nothing else."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from raysae import terminal
from raysae.errors import BadInput, RaysaeError

_UsageError: Any = typer.BadParameter.__mro__[1]
"""What typer raises for every command line that it cannot read; it has no public name of its own."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train sparse autoencoders on language models that reason, then try to disprove what they found.",
)


def _place(text: str) -> Path:
    """A folder, or the working copy of one on an object store."""
    from raysae.types.place import place

    try:
        return Path(place(str(text)))
    except ValueError as error:
        raise BadInput(*str(error).split("; ", 2)) from error


Config = Annotated[Path, typer.Argument(help="The experiment, a YAML file.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value, for example sae.k=16 out=/data/runs")]
Folder = Annotated[
    Path, typer.Argument(parser=_place, help="A run folder: runs/quickstart, s3://bucket/runs/quickstart.")
]


@app.command()
def run(
    config: Config,
    overrides: Overrides = None,
    gate: Annotated[bool, typer.Option(help="Exit 0 for GO, 3 for NO_GO, 4 for INCONCLUSIVE.")] = False,
    override: Annotated[
        str | None,
        typer.Option(help="Why a phase starts without a GO of the one before; it stands in every record and report."),
    ] = None,
) -> None:
    """Everything, from text to report; a finished stage is not done again. A file of phases is walked in order."""
    _run_until(config, overrides, "report", gate, override)


def _stage_command(stage: str, sentence: str) -> None:
    def command(config: Config, overrides: Overrides = None) -> None:
        _run_until(config, overrides, stage, gate=stage == "decide")

    command.__doc__ = sentence
    app.command(name=stage)(command)


for _stage, _sentence in {
    "draw": "Drawn token ids in the place of a text, of an experiment about capture itself.",
    "ingest": "Source text -> normalised records, split by problem.",
    "tokenize": "Records -> token blocks with steps and labels.",
    "quality": "Is the text fit to train on? Stops beyond a limit of `quality.`",
    "seal": "Fix and hash the protocol.",
    "capture": "Token blocks -> activation blocks.",
    "sweep": "Try expansion factors and sparsity penalties on FIT.",
    "train": "Activation blocks -> SAEs.",
    "evaluate": "SAEs and null arms -> metrics on TEST.",
    "overhead": "What capture costs, of an experiment about capture itself.",
    "decide": "Metrics -> verdict; exits 0 for GO, 3 for NO_GO, 4 for INCONCLUSIVE.",
    "report": "Verdict and figures -> report.html.",
}.items():
    _stage_command(_stage, f"{_sentence} Missing predecessors run first.")


def _run_until(config: Path, overrides: list[str] | None, stage: str, gate: bool, override: str | None = None) -> None:
    from raysae.pipeline import exit_status, walk
    from raysae.stages.progress import Reporter
    from raysae.stages.spent import planned_and_taken
    from raysae.store import RunFolder
    from raysae.types import Verdict
    from raysae.types.loading import load_phases

    verdicts: list[Verdict] = []
    for experiment, verdict in walk(load_phases(config, overrides or ()), Reporter(), stage, override):
        if verdict is None:
            continue
        terminal.print_verdict(verdict)
        terminal.print_spent(planned_and_taken(RunFolder(experiment)))
        if (report := RunFolder(experiment).report).is_file():
            terminal.say(f"report: [bold]{report}[/bold]")
        verdicts.append(verdict)
    if gate:
        raise typer.Exit(exit_status(verdicts))


@app.command()
def plan(
    config: Config,
    overrides: Overrides = None,
    calibrate: Annotated[bool, typer.Option(help="First run it twice in miniature, to time its stages here.")] = False,
    scale: Annotated[bool, typer.Option(help="What its model and SAE take at billions of tokens instead.")] = False,
) -> None:
    """What a run will take: tokens, bytes, hours and cost, cached and streamed. Exits 2 beyond the budget."""
    from raysae.costs.plan import check_budget
    from raysae.planning import plans, rehearse
    from raysae.stages.plan import at_scale
    from raysae.stages.progress import Reporter
    from raysae.types.loading import load_phases

    for experiment in load_phases(config, overrides or ()):
        if scale:
            terminal.print_scale(*at_scale(experiment))
            continue
        if calibrate:
            rehearse(experiment, Reporter())
        found = plans(experiment)
        terminal.print_plan(experiment, found)
        check_budget(found[experiment.activations.mode], experiment.budget)


@app.command()
def protocol(config: Config, overrides: Overrides = None) -> None:
    """The criteria of an experiment and the smallest effects they can show; exits 5 for a hopeless confirmatory one.

    Of a run that is already sealed, the sealed protocol; else what is known before any text is read.
    """
    from raysae.checks import check
    from raysae.falsification import choose_criteria, power, power_before, read, refuse_underpowered
    from raysae.store import RunFolder
    from raysae.store.mirror import fetch
    from raysae.types.loading import load

    experiment = load(config, overrides or ())
    check(experiment)
    fetch(RunFolder(experiment).root, activations=False)
    path = RunFolder(experiment).protocol
    sealed = read(path) if path.is_file() else None
    criteria = sealed.criteria if sealed else choose_criteria(experiment.protocol.criteria)
    rows = power(sealed) if sealed else power_before(experiment)
    terminal.print_power(criteria, rows)
    mode = sealed.mode if sealed else experiment.protocol.mode
    said = f"sealed as {sealed.sha256}" if sealed else "not sealed yet: raysae run seals it before anything is captured"
    terminal.say(f"\n{mode}, {said}")
    refuse_underpowered(mode, rows)


@app.command()
def amend(
    config: Config,
    reason: Annotated[str, typer.Option(help="Why; it stands in the ledger for good.")],
    overrides: Overrides = None,
) -> None:
    """Replace a sealed protocol, with a reason; after TEST was opened the result can only be exploratory."""
    from raysae.pipeline import amend as amend_protocol
    from raysae.types.loading import load

    sha256 = amend_protocol(load(config, overrides or ()), reason)
    terminal.say(f"the protocol is now {sha256}; type raysae run to go on")


@app.command()
def models() -> None:
    """The language models known by name."""
    from raysae.models.registry import MODELS

    terminal.print_models(MODELS.values())


@app.command()
def datasets() -> None:
    """The corpora known by name."""
    from raysae.corpora import CORPORA
    from raysae.stages.ingest import GENERATED

    terminal.print_corpora(CORPORA.values(), GENERATED)


@app.command()
def ledger(
    out: Annotated[Path, typer.Argument(parser=_place, help="The folder that holds the run folders.")] = Path("runs"),
) -> None:
    """Every decision ever taken in a runs folder; the hash chain is checked on the way."""
    from raysae.store import Ledger
    from raysae.store.ledger import LEDGER
    from raysae.store.mirror import fetch_ledger

    fetch_ledger(out)
    path = out / LEDGER
    if not path.is_file():
        raise BadInput(
            f"{path}: no such file", "a ledger is written by the first finished run", "type raysae ledger runs"
        )
    terminal.print_ledger(Ledger(path).records())


@app.command()
def verify(folder: Folder) -> None:
    """Re-hash every block, check the seal and the ledger; exits 5 and names the file if anything changed."""
    from raysae.errors import Refused
    from raysae.stages.verify import verify as verify_folder
    from raysae.store.mirror import fetch

    fetch(folder)
    problems = verify_folder(folder)
    if problems:
        raise Refused("; ".join(problems))
    terminal.say(f"{folder}: every block, the seal and the ledger are as they were written")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(parser=_place, help="A run folder, or the folder of one SAE.")],
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    to: Annotated[str, typer.Option(help="saelens, sparsify or dictionary_learning.")] = "saelens",
    arm: Annotated[str, typer.Option(help="Which arm of the run.")] = "main",
    seed: Annotated[int | None, typer.Option(help="Which seed of the arm; the first, if not given.")] = None,
) -> None:
    """Write one SAE for another library, with a model card."""
    from raysae.stages.export import export as export_sae
    from raysae.store.mirror import fetch

    fetch(run, activations=False)
    sae = export_sae(run, to, out, arm, seed)
    terminal.say(f"{out}: {sae.architecture}, {sae.d_in} -> {sae.d_sae}, as {to} reads it")


@app.command(name="import")
def import_(
    folder: Annotated[Path, typer.Argument(help="The folder of one SAE of SAELens, sparsify or dictionary_learning.")],
    out: Annotated[Path, typer.Argument(help="A new folder.")],
) -> None:
    """Read an SAE of another library and write it as one of ours. No pickle is read."""
    from raysae.stages.export import bring_in

    sae, library = bring_in(folder, out)
    terminal.say(f"{out}: {sae.architecture}, {sae.d_in} -> {sae.d_sae}, from {library}")


@app.command()
def pretrain(
    name: Annotated[str, typer.Argument(help="tiny-cot, tiny-controlled, tiny-dyck, tiny-bfs or tiny-gsm8k.")],
    out: Annotated[Path, typer.Argument(help="Folder to write the model to.")],
    seed: Annotated[int, typer.Option(help="Everything random derives from it.")] = 0,
    corpus_path: Annotated[Path | None, typer.Option(help="GSM8K's folder, for tiny-gsm8k.")] = None,
) -> None:
    """Train a small model of a recipe from its seed; the bundled ones are such models."""
    from raysae.stages.pretrain import pretrain as train_model
    from raysae.stages.progress import Reporter

    with Reporter().stage("pretrain") as progress:
        written = train_model(
            name,
            out,
            seed=seed,
            corpus_path=corpus_path,
            report=lambda step, loss: progress.at(step, f"step {step}, loss {loss:.3f}"),
            say=progress.say,
        )
        progress.say(str(written))


@app.command()
def calibrate(
    simulations: Annotated[int, typer.Option(help="Simulated cases of each false claim.")] = 400,
    json: Annotated[Path | None, typer.Option(help="Where the rates go; a figure per criterion beside it.")] = None,
    seed: Annotated[int, typer.Option(help="Everything random derives from it.")] = 0,
    criteria: Annotated[str, typer.Option(help="Some criteria only: reconstruction,alignment")] = "",
    actors: Annotated[int, typer.Option(help="Processes that simulate; the rates do not depend on it.")] = 2,
) -> None:
    """How often the court itself is wrong: false claims called GO, true ones missed. Exits 3 if out of bounds."""
    from raysae.stages.calibrate import calibrate as simulate
    from raysae.stages.calibrate import check, write
    from raysae.stages.progress import Reporter

    names = tuple(name for name in criteria.split(",") if name)
    check(simulations, names, actors, json)
    with Reporter().stage("calibrate") as progress:
        found = simulate(simulations, progress, seed=seed, criteria=names, actors=actors)
    terminal.print_rates(found["criteria"])
    if json is not None:
        terminal.say(f"rates and figures: [bold]{write(found, json)[0]}[/bold] ...")
    if not found["within"]:
        raise typer.Exit(3)


def main() -> None:
    """Errors meant for a user are one line on stderr; their exit status says of which kind they are."""
    try:
        sys.exit(app(standalone_mode=False))
    except _UsageError as error:
        said, command = error.format_message(), error.ctx.command_path if error.ctx else "raysae"
        if not said or "\n" in said:  # the help, since nothing was typed
            error.show()
        else:
            sys.stderr.write(f"raysae: {said.rstrip('.')}; allowed: what its help lists; type {command} --help\n")
        sys.exit(BadInput.status)
    except typer.Abort:
        sys.exit(1)
    except RaysaeError as error:
        sys.stderr.write(f"raysae: {error}\n")
        sys.exit(error.status)
