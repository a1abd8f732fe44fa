"""The finished run on another model whose latents `transfer_map` holds against this one's: found, checked, hashed.

Where it lies is no part of an experiment; what it holds is sealed in the protocol.
"""

import json

from raysae.errors import BadInput, Refused
from raysae.falsification.metrics.transfer_map import SEEDS
from raysae.falsification.protocol import read
from raysae.stages.capture import MAIN
from raysae.stages.dictionaries import elsewhere
from raysae.stages.ingest import inputs
from raysae.store import Manifest, RunFolder
from raysae.types import Experiment
from raysae.types.experiment import fingerprint

ANOTHER = "type protocol.map_from=<another run folder>"


def other_experiment(experiment: Experiment) -> Experiment | None:
    """What `protocol.map_from` names, as it was run, where it now is; None where nothing is named."""
    root = experiment.protocol.map_from
    if root is None:
        return None
    path = root / "experiment.json"
    if not path.is_file():
        raise BadInput(
            f"protocol.map_from={root} is not a run folder", "allowed: a folder with experiment.json", ANOTHER
        )
    stored = Experiment.model_validate(json.loads(path.read_text(encoding="utf-8"))["config"])
    return stored.model_copy(update={"out": root.parent, "name": root.name})


def check(experiment: Experiment) -> str | None:
    """SHA-256 of the other run, to be sealed; null where none is named. BadInput unless it is another finished run that
    read the same text, divided in the same way. Reads no weights."""
    other = other_experiment(experiment)
    if other is None:
        return None
    said = f"protocol.map_from={experiment.protocol.map_from}"
    if "transfer_map" not in experiment.protocol.observations:
        raise BadInput(
            f"{said}, but transfer_map is not asked for",
            "allowed: with that observation",
            "add it to protocol.observations",
        )
    folder = RunFolder(other)
    if folder.root.resolve() == RunFolder(experiment).root.resolve():
        raise BadInput(f"{said} is the folder of this run", "allowed: that of another run", ANOTHER)
    if not folder.record.is_file():
        raise BadInput(
            f"{said} is not finished, it has no record.json",
            "allowed: a run that was decided",
            "type raysae run <its configuration>",
        )
    mine = {**experiment.identity(), "inputs": inputs(experiment.corpus)}
    stored = json.loads(folder.experiment.read_text(encoding="utf-8"))["identity"]
    theirs = {**stored, "inputs": stored["inputs"]["corpus"]}
    for name in ("seed", "corpus", "inputs"):
        if mine[name] != theirs[name]:
            raise BadInput(
                f"{said} read another text, its {name} differs",
                "allowed: the same corpus, files and seed, so that TEST is the same",
                ANOTHER,
            )
    for one in (experiment, other):
        if (one.tokenizer.layout, one.tokenizer.overflow) != ("documents", "truncate"):
            raise BadInput(
                f"{one.name} cuts its texts into rows",
                "allowed: a row per document",
                "type tokenizer.layout=documents tokenizer.overflow=truncate",
            )
        if len(one.train.seed_numbers) < SEEDS:
            raise BadInput(
                f"{one.name} has {len(one.train.seed_numbers)} seeds",
                f"allowed: {SEEDS} or more",
                f"type train.seeds={SEEDS}",
            )
    saes = {
        f"{arm}/{number}": Manifest.read(folder.sae / arm / str(number)).model_dump(mode="json", exclude={"provenance"})
        for arm in (MAIN, *elsewhere(other))
        for number in other.train.seed_numbers[:SEEDS]
    }
    return fingerprint({"protocol": read(folder.protocol).sha256, "saes": saes})


def check_sealed(experiment: Experiment, sealed: str | None) -> None:
    """Refused where the run that is named is not the sealed one."""
    if (found := check(experiment)) != sealed:
        said = f"protocol.map_from={experiment.protocol.map_from or 'null'} hashes to {(found or 'nothing')[:16]}"
        raise Refused(
            f"{said}, the sealed protocol names {(sealed or 'nothing')[:16]}; restore the run that was sealed, or run "
            "under another name"
        )
