"""The phases a run stands on, and where one was started without the GO of the one before."""

from raysae.report import words
from raysae.report.data import Plain, ReportData


def chain(run: ReportData) -> list[Plain]:
    """A row per phase before this one and one for this run; empty where it is no phase."""
    phase = run.protocol.get("phase")
    if phase is None:
        return []
    record = run.record or {}
    this = {
        "phase": phase,
        "experiment": run.experiment.get("name"),
        "outcome": run.verdict.get("outcome"),
        "mode": run.verdict.get("mode"),
        "decided_at": record.get("decided_at"),
        "protocol_sha256": run.verdict.get("protocol_sha256"),
    }
    return [_row(link, run.protocol) for link in (*run.protocol.get("chain", ()), this)]


def _row(link: Plain, protocol: Plain) -> Plain:
    begun = f"phase {link['phase']}: "
    reasons = [said.removeprefix(begun) for said in protocol.get("overrides", ()) if said.startswith(begun)]
    others = link.get("decisions", 1) - 1
    gate = "first" if link["phase"] == 1 else "open" if link.get("experiment") else words.DASH
    return {
        "phase": link["phase"],
        "experiment": link.get("experiment") or words.DASH,
        "others": f"and {words.plural(others, 'other decision')} of this phase" if others > 0 else "",
        "outcome": link.get("outcome") or "",
        "mode": link.get("mode") or "not decided",
        "decided": words.moment(link.get("decided_at")),
        "protocol": link.get("protocol_sha256") or "",
        "gate": f"overridden: {'; '.join(reasons)}" if reasons else gate,
        "overridden": bool(reasons),
    }
