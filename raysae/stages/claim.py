"""A run folder belongs to one experiment: the mark that says which, and the only way to change what was sealed in it.

Imports nothing heavy at the top, so that a finished experiment is recognised in a moment.
"""

import json
import shutil
from typing import Any

from raysae.errors import BadInput
from raysae.store import Manifest, RunFolder, write_atomic, write_json
from raysae.types import Experiment
from raysae.types.experiment import fingerprint


def identity(experiment: Experiment) -> dict[str, Any]:
    """What the experiment is: its configuration, and the content of the files it reads."""
    from raysae.models.load import model_inputs
    from raysae.stages.ingest import inputs

    return {
        **experiment.identity(),
        "inputs": {"corpus": inputs(experiment.corpus), "model": model_inputs(experiment.model)},
    }


def claim(experiment: Experiment, folder: RunFolder, override: str | None) -> None:
    """A run folder belongs to one experiment: another configuration never mixes with what is there."""
    here = identity(experiment)
    if folder.experiment.is_file():
        there = mark_of(folder)["identity"]
        if there != here:
            changes = ", ".join(_differences(there, here)[:4])
            raise BadInput(
                f"{folder.root} holds another experiment ({changes})",
                "allowed: one experiment per folder",
                f"type name={experiment.name}-2 (or another out=), or remove the folder",
            )
        return
    if folder.root.exists() and any(folder.root.iterdir()):
        raise BadInput(
            f"{folder.root} is not empty and not a run folder",
            "allowed: a new or empty folder",
            "type another out= or name=",
        )
    _mark(experiment, folder, override)


def mark_of(folder: RunFolder) -> dict[str, Any]:
    """What `experiment.json` says. BadInput for a file that no run wrote."""
    try:
        mark = json.loads(folder.experiment.read_bytes())
        return {"identity": mark["identity"], "override": mark.get("override")}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{folder.experiment} cannot be read ({error})",
            "allowed: the file that the run wrote",
            f"put it back, or remove {folder.root} and run again",
        ) from error


def leave_nothing_partial(folder: RunFolder, fresh: bool) -> None:
    """After bad input: folders without a manifest go; what was committed before stays."""
    for part in (folder.corpus, folder.tokens, folder.labels, folder.alignment):
        if part.is_dir() and not Manifest.exists(part):
            shutil.rmtree(part)
    if fresh and not folder.corpus.is_dir():
        shutil.rmtree(folder.root)
        if folder.root.parent.is_dir() and not any(folder.root.parent.iterdir()):
            folder.root.parent.rmdir()


def _mark(experiment: Experiment, folder: RunFolder, override: str | None) -> None:
    here = identity(experiment)
    mark = {
        "name": experiment.name,
        "fingerprint": fingerprint(here),
        "identity": here,
        "config": experiment.model_dump(mode="json"),
        "override": override,
    }
    write_json(folder.experiment, mark)


def stored_override(folder: RunFolder) -> str | None:
    return mark_of(folder)["override"] if folder.experiment.is_file() else None


def _differences(old: Any, new: Any, where: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            d
            for key in {**old, **new}
            for d in _differences(old.get(key), new.get(key), f"{where}.{key}" if where else key)
        ]
    return [] if old == new else [f"{where}: {old} there, {new} now"]


def amend(experiment: Experiment, folder: RunFolder, reason: str) -> str:
    """Replace the sealed protocol of a run folder by that of `experiment`, which may differ in `protocol.*` alone; what
    was measured and decided under the old one moves to `superseded/`. Returns the new hash.

    The ledger keeps both hashes and the reason; once TEST was opened under the old protocol, the new one can only be
    exploratory (SCIENCE 0.7).
    """
    from raysae.falsification import power, read, refuse_underpowered
    from raysae.falsification.phases import Footing
    from raysae.falsification.protocol import sealed_text
    from raysae.stages.registration import note
    from raysae.stages.seal import registered

    if not reason.strip():
        raise BadInput("an empty reason", "allowed: why the protocol changes", 'type --reason "..."')
    old = read(folder.protocol)
    stored = mark_of(folder)
    changes = _differences(stored["identity"], identity(experiment))
    if other := [change for change in changes if not change.startswith("protocol.")]:
        raise BadInput(
            f"an amendment that changes {other[0]}",
            "allowed: changes of protocol.* alone",
            f"type raysae run with name={experiment.name}-2",
        )
    new = registered(experiment, folder, Footing(old.chain, old.overrides))
    refuse_underpowered(new.mode, power(new))
    if new.sha256 != old.sha256:
        note(folder.ledger, "amend", new, {"old": old.sha256, "reason": reason})
        away = folder.root / "superseded" / old.sha256[:16]
        away.mkdir(parents=True, exist_ok=True)
        for path in (folder.metrics, folder.verdict, folder.record, folder.report):
            if path.exists():
                path.rename(away / path.name)
        write_atomic(away / folder.protocol.name, folder.protocol.read_bytes())
        write_atomic(folder.protocol, sealed_text(new))
    _mark(experiment, folder, stored["override"])
    return new.sha256
