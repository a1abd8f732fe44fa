"""What a verdict's registration rests on, beside the seal itself: who sealed, who opened TEST before, what was amended.

The ledger is the witness: a protocol file can be rewritten together with its hash, a line of the chain cannot.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

from raysae.errors import Refused
from raysae.falsification.protocol import Protocol
from raysae.stages import other_model
from raysae.stages.other_run import check_sealed, other_run
from raysae.store import Ledger, Manifest, RunFolder, TokenStore
from raysae.types import Experiment, LedgerEvent, Split
from raysae.types.experiment import fingerprint


def splits(tokens: TokenStore) -> dict[str, str]:
    """SHA-256 of the token ids of each split: what `Protocol.splits` holds."""
    return {str(split): fingerprint([block.facts["ids_sha256"] for block in tokens.blocks(split)]) for split in Split}


def note(
    ledger: Ledger,
    kind: Literal["seal", "open", "amend"],
    protocol: Protocol,
    facts: Mapping[str, str],
) -> None:
    """Append an event, once per protocol: a run that was killed and goes on does not seal or open again."""
    known = ((event.experiment, event.protocol_sha256) for event in ledger.events(kind))
    if (protocol.experiment, protocol.sha256) not in known:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        ledger.append(
            LedgerEvent(
                kind=kind,
                at=now,
                experiment=protocol.experiment,
                protocol_sha256=protocol.sha256,
                facts=dict(facts),
            )
        )


def opened(experiment: Experiment, protocol: Protocol) -> dict[str, str]:
    """What opening TEST shows: these documents through this model at this place. Another model or place is new."""
    shown = {"split": protocol.splits[str(Split.TEST)], "model": protocol.model_sha256}
    return {"test": fingerprint({**shown, "hookpoint": str(experiment.hookpoint)})}


def breaches(experiment: Experiment, folder: RunFolder, protocol: Protocol) -> list[str]:
    """Sentences, each of which makes a verdict on finished metrics exploratory (SCIENCE 0.7)."""
    sealed = {(event.experiment, event.protocol_sha256) for event in folder.ledger.events("seal")}
    sealed |= {(event.experiment, event.protocol_sha256) for event in folder.ledger.events("amend")}
    found = []
    if (protocol.experiment, protocol.sha256) not in sealed:
        found.append("the ledger does not know this seal: protocol.json was not written by the stage that seals")
    mine = opened(experiment, protocol)
    for event in folder.ledger.events("open"):
        if event.protocol_sha256 == protocol.sha256:
            break
        if event.facts == mine:
            found.append(
                f"TEST was opened before under another protocol ({event.protocol_sha256[:16]}..., experiment "
                f"{event.experiment}); take other documents, or another runs folder for an unrelated question"
            )
            break
    return found + _measured_otherwise(folder, protocol)


def _measured_otherwise(folder: RunFolder, protocol: Protocol) -> list[str]:
    """A sentence for each code that measured and was not sealed: an evaluation killed and taken up again may have had
    two."""
    manifest = Manifest.read(folder.metrics)
    whole = manifest.provenance.get("source_sha256")
    if whole is None:
        return ["it is not known which code measured: the metrics do not say"]
    by = {whole, *(block.facts.get("source_sha256", whole) for block in manifest.blocks)}
    return [
        f"the code that measured hashes to {sha256[:16]}..., the sealed protocol names {protocol.source_sha256[:16]}..."
        for sha256 in sorted(by - {protocol.source_sha256})
    ]


def check_content(experiment: Experiment, folder: RunFolder, protocol: Protocol) -> None:
    """Refused where the text, or the other run that transfer judges, is not what was registered, or a finished metric
    was changed by hand."""
    for split, sha256 in splits(TokenStore(folder.tokens)).items():
        if protocol.splits.get(split) != sha256:
            raise Refused(
                f"{folder.tokens}: {split} hashes to {sha256[:16]}..., the sealed protocol names "
                f"{protocol.splits.get(split, 'nothing')[:16]}...; restore the tokens, or run under another name"
            )
    check_sealed(experiment, protocol.transfer_from)
    other_model.check_sealed(experiment, protocol.map_from)
    for change in other.changes() if (other := other_run(experiment)) else ():
        raise Refused(f"{change}; the sealed protocol judges it as it was; restore it, or run under another name")
    if Manifest.exists(folder.metrics):
        for problem in Manifest.read(folder.metrics).problems(folder.metrics):
            raise Refused(f"{problem}; restore the file, or remove {folder.metrics} and evaluate again")
