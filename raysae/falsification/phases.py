"""The order of the phases: which decision opens the gate of the next one, and what a phase stands on."""

from collections.abc import Sequence
from typing import NamedTuple

from raysae.types import Outcome, PhaseLink, RunRecord

JUDGED_BY = {1: "alignment", 2: "causal_interchange", 3: "leakage", 4: "stability"}
"""Phase -> the criterion that makes a run one of this phase; without it even a GO opens nothing."""


class Footing(NamedTuple):
    """What a phase stands on."""

    chain: tuple[PhaseLink, ...] = ()
    """The phases before, from the first."""
    overrides: tuple[str, ...] = ()
    """`phase N: reason`, of every gate on the way that was opened without a GO."""


NOTHING = Footing()


def obstacle(record: RunRecord) -> str | None:
    """Why this decision does not open the gate of the next phase; None if it does."""
    if record.outcome != Outcome.GO or record.mode != "confirmatory":
        return f"{record.outcome} ({record.mode})"
    needed = JUDGED_BY[record.phase or 1]
    if record.criteria.get(needed) != Outcome.GO:
        return f"GO without {needed}"
    stand_in = record.config.get("protocol", {}).get("stand_in")
    if record.config.get("model", {}).get("randomize"):
        stand_in = "random_model"
    return f"GO of the null {stand_in}" if stand_in else None


def footing(records: Sequence[RunRecord], phase: int) -> Footing:
    """What phase `phase` would stand on now. Of several decisions that open its gate the one with the fewest overrides
    counts, and of those the first; where none opens it, the last decision stands in the chain all the same."""
    if phase == 1:
        return NOTHING
    before = [record for record in records if record.phase == phase - 1]
    if not before:
        chain, overrides = footing(records, phase - 1)
        return Footing((*chain, PhaseLink(phase=phase - 1)), overrides)
    opening = [record for record in before if obstacle(record) is None]
    found = min(opening, key=lambda record: len(record.overrides), default=before[-1])
    link = PhaseLink(
        phase=phase - 1,
        experiment=found.experiment,
        outcome=found.outcome,
        mode=found.mode,
        decided_at=found.decided_at,
        protocol_sha256=found.protocol_sha256,
        decisions=len(before),
        opens=bool(opening),
    )
    return Footing((*found.chain, link), found.overrides)
