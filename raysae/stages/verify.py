"""Is a finished run what it was when it was written? Re-hashes every block and follows the seal and the ledger."""

from pathlib import Path

from raysae.errors import BadInput, Refused
from raysae.falsification.protocol import read as read_protocol
from raysae.store import Ledger, Manifest
from raysae.store.ledger import LEDGER
from raysae.types import Verdict


def verify(path: Path) -> list[str]:
    """Re-hash every block of a run folder and check its seal and the ledger; one line per problem."""
    if not (path / "experiment.json").is_file():
        raise BadInput(
            f"{path} is not a run folder",
            "allowed: a folder with experiment.json",
            "type raysae verify runs/quickstart",
        )
    found: list[str] = []
    for manifest in sorted(path.rglob("manifest.json")):
        try:
            found += Manifest.read(manifest.parent).problems(manifest.parent)
        except BadInput as error:
            found.append(str(error))
    try:
        sealed = read_protocol(path / "protocol.json") if (path / "protocol.json").is_file() else None
        ledger = Ledger(path.parent / LEDGER)
        records = ledger.records()
        witnessed = {event.protocol_sha256 for kind in ("seal", "amend") for event in ledger.events(kind)}
    except Refused as error:
        return [*found, str(error)]
    if sealed is not None and sealed.sha256 not in witnessed:
        found.append(f"{path / 'protocol.json'}: no line of {ledger.path} witnesses this seal")
    if (path / "verdict.json").is_file():
        verdict = Verdict.model_validate_json((path / "verdict.json").read_bytes())
        if sealed is None or verdict.protocol_sha256 != sealed.sha256:
            found.append(f"{path / 'verdict.json'}: its protocol_sha256 is not that of protocol.json")
        said = {name: str(row.outcome) for name, row in verdict.criteria.items()}
        if not any(
            r.protocol_sha256 == verdict.protocol_sha256 and r.criteria == said and r.experiment == path.name
            for r in records
        ):
            found.append(f"{path / 'verdict.json'}: no line of {ledger.path} records this verdict")
    return found
