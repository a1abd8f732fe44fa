"""The gate between two phases: it opens to a confirmatory GO in the ledger of the runs folder, or to a reason."""

from raysae.errors import Refused
from raysae.falsification.phases import NOTHING, Footing, footing, obstacle
from raysae.store import RunFolder
from raysae.types import Experiment


def gate(experiment: Experiment, folder: RunFolder, reason: str | None) -> Footing:
    """What the experiment stands on, `reason` among its overrides where no GO opens the gate.

    Refused without either. The ledger is the one beside the run folder, `out/ledger.jsonl`: phases that are to stand on
    each other share `out`.
    """
    phase = experiment.protocol.phase
    if phase is None:
        return NOTHING
    records = folder.ledger.records()
    found = footing(records, phase)
    if phase == 1 or found.chain[-1].opens:
        return found
    if reason:
        return Footing(found.chain, (*found.overrides, f"phase {phase}: {reason}"))
    before = [obstacle(record) for record in records if record.phase == phase - 1]
    outcomes = ", ".join(said for said in dict.fromkeys(before) if said) or "not decided"
    raise Refused(
        f"phase {phase} asks for a confirmatory GO of phase {phase - 1} in {folder.ledger.path}, found: {outcomes}; "
        f'run phase {phase - 1} first, or type --override "reason"'
    )
