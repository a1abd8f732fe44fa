"""The finished run whose SAEs `transfer` judges on this one's TEST: found, held against this experiment, hashed, read.

Where it lies is no part of an experiment; what it holds is sealed in the protocol.
"""

import json
from pathlib import Path
from typing import Any

from raysae.corpora.splits import problem_key
from raysae.errors import BadInput, Refused
from raysae.falsification.protocol import read
from raysae.models.capture import width
from raysae.models.load import describe, model_inputs
from raysae.saes import ARCHITECTURES, SparseAutoencoder, checkpoint
from raysae.stages.capture import MAIN
from raysae.store import Manifest, records_of
from raysae.types import Experiment, Split
from raysae.types.experiment import canonical_json, fingerprint

ANOTHER = "type protocol.transfer_from=<another run folder>"
EXCLUSION = "transfer leaves out the TEST documents of problems that the other run's TRAIN holds"


class OtherRun:
    """Its folder and, by the numbers of this run's seeds, its SAEs."""

    def __init__(self, experiment: Experiment, root: Path) -> None:
        self.root = root
        self.saes = {number: root / "sae" / MAIN / str(number) for number in experiment.train.seed_numbers}

    @property
    def folders(self) -> tuple[Path, ...]:
        """What is judged and what tells its text from ours."""
        return (self.root / "corpus", *self.saes.values())

    @property
    def sha256(self) -> str:
        """Of its seal and the manifests of `folders`, which name each file by content."""
        content = {
            str(folder.relative_to(self.root)): Manifest.read(folder).model_dump(mode="json", exclude={"provenance"})
            for folder in self.folders
        }
        return fingerprint({"protocol": read(self.root / "protocol.json").sha256, "content": content})

    def check(self, experiment: Experiment) -> None:
        """BadInput unless it is another finished run on the same model and hook point, with SAEs of the same size and
        budget under the numbers of this run's seeds. Reads no weights of an SAE."""
        said = f"protocol.transfer_from={self.root}"
        if "transfer" not in experiment.protocol.criteria:
            names = ",".join([*experiment.protocol.criteria, "transfer"])
            raise BadInput(
                f"{said}, but transfer is not judged",
                "allowed: with that criterion",
                f"type protocol.criteria=[{names}]",
            )
        if self.root.resolve() == experiment.folder.expanduser().resolve():
            raise BadInput(f"{said} is the folder of this run", "allowed: that of another run", ANOTHER)
        if not (self.root / "experiment.json").is_file():
            raise BadInput(f"{said} is not a run folder", "allowed: a folder with experiment.json", ANOTHER)
        files = ("record.json", "protocol.json", "corpus/manifest.json")
        if missing := next((name for name in files if not (self.root / name).is_file()), None):
            raise BadInput(
                f"{said} is not finished, it has no {missing}",
                "allowed: a run that was decided",
                "type raysae run <its configuration>",
            )
        if experiment.sweep.trials:
            raise BadInput(
                f"{said} with sweep.trials={experiment.sweep.trials}",
                "allowed: SAEs of the size that the other run has, so no sweep",
                "type sweep.trials=0",
            )
        self._check_model(experiment, said)
        if absent := [str(number) for number, folder in self.saes.items() if not Manifest.exists(folder)]:
            there = sorted(int(path.parent.name) for path in (self.root / "sae" / MAIN).glob("*/manifest.json"))
            raise BadInput(
                f"{said} has no SAE of seed {', '.join(absent)}",
                f"allowed: among {there}",
                f"type train.seeds={str(there[: len(self.saes)]).replace(' ', '')}" if there else ANOTHER,
            )
        self._check_saes(experiment, said)

    def _check_model(self, experiment: Experiment, said: str) -> None:
        mine = {**experiment.identity()["model"], "content": model_inputs(experiment.model)}
        identity = json.loads((self.root / "experiment.json").read_text(encoding="utf-8"))["identity"]
        theirs = {**identity["model"], "content": identity["inputs"]["model"]}
        for name in mine:
            if theirs.get(name) != mine[name]:
                raise BadInput(
                    f"{said} studied another model, its {name} is {canonical_json(theirs.get(name))}",
                    f"allowed: {canonical_json(mine[name])}, as here",
                    ANOTHER,
                )

    def _check_saes(self, experiment: Experiment, said: str) -> None:
        d_in, sae = width(describe(experiment.model), experiment.hookpoint), experiment.sae
        mine: dict[str, Any] = {
            "hook point": str(experiment.hookpoint),
            "d_in": d_in,
            "architecture": sae.architecture,
            "d_sae": d_in * sae.expansion,
        }
        if ARCHITECTURES[sae.architecture].needs_k:
            mine["k"] = sae.k
        for folder in self.saes.values():
            head = checkpoint.header(folder)
            theirs = {**head._asdict(), "hook point": checkpoint.provenance(folder).get("hook_name")}
            for name in mine:
                if theirs[name] != mine[name]:
                    raise BadInput(
                        f"{said}: {folder.relative_to(self.root)} has {name} {theirs[name]}",
                        f"allowed: {mine[name]}, as here",
                        {
                            "hook point": f"type sae.hookpoint={theirs[name]}",
                            "architecture": f"type sae.architecture={theirs[name]}",
                            "d_sae": f"type sae.expansion={head.d_sae / d_in:g}",
                            "k": f"type sae.k={head.k}",
                        }.get(name, ANOTHER),
                    )

    def changes(self) -> list[str]:
        """Every file of `folders` hashed again; one line for each that is not what its manifest says."""
        return [line for folder in self.folders for line in Manifest.read(folder).problems(folder)]

    def sae(self, number: int) -> SparseAutoencoder:
        """On the CPU."""
        return checkpoint.load(self.saes[number])

    def trained_on(self) -> set[str]:
        """`problem_key` of every problem in its TRAIN."""
        return {problem_key(record) for record in records_of(self.root / "corpus", Split.TRAIN)}


def other_run(experiment: Experiment) -> OtherRun | None:
    """The run that `protocol.transfer_from` names."""
    root = experiment.protocol.transfer_from
    return None if root is None else OtherRun(experiment, root)


def check(experiment: Experiment) -> str | None:
    """`OtherRun.check`, and the hash to be sealed; null where no run is named."""
    if (other := other_run(experiment)) is None:
        return None
    other.check(experiment)
    return other.sha256


def check_sealed(experiment: Experiment, sealed: str | None) -> None:
    """`check`, and Refused where `protocol.transfer_from` names something else than what was sealed."""
    found = check(experiment)
    if found != sealed:
        raise Refused(
            f"protocol.transfer_from={experiment.protocol.transfer_from or 'null'} hashes to {_short(found)}, the "
            f"sealed protocol names {_short(sealed)}; restore the run that was sealed, or run under another name"
        )


def _short(sha256: str | None) -> str:
    return f"{sha256[:16]}..." if sha256 else "nothing"
