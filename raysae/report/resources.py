"""What the run took: a row per stage of `resources.json`, beside what was planned for it."""

from typing import Any

from raysae.report import words
from raysae.report.data import Plain


def section(ledger: Plain | None, record: Plain | None) -> Plain | None:
    """Rows and facts; None where neither was kept."""
    if ledger is None and record is None:
        return None
    ledger, record = ledger or {}, record or {}
    stages, planned = ledger.get("stages") or {}, ledger.get("planned") or {}
    prices = ledger.get("prices") or {}
    currency = prices.get("currency", "")
    costs = [row.get("cost") for row in stages.values() if row.get("cost") is not None]
    hours: dict[str, float] = {}
    for row in stages.values():
        hours[row["device"]] = hours.get(row["device"], 0.0) + row["device_hours"]
    facts = [
        ("all stages", words.duration(sum(row["wall_s"] for row in stages.values())) if stages else words.DASH),
        ("device-hours", ", ".join(f"{words.number(n)} of {name}" for name, n in hours.items()) or words.DASH),
        ("tokens captured, all arms", words.count(record.get("tokens"))),
        ("written", words.byte_size(record.get("bytes_written"))),
        ("device", words.plain(record.get("device"))),
    ]
    if costs:
        facts.append(("cost", f"{words.number(sum(costs))} {currency}"))
    if planned:
        facts.append(("planned", f"{planned['counted_by']}; {planned['timed_by']}; bytes on disk at most"))
    of_stage = planned.get("stages") or {}
    return {
        "rows": [_row(stage, row, of_stage.get(stage) or {}) for stage, row in stages.items()],
        "priced": bool(costs),
        "currency": currency,
        "facts": facts,
    }


def _row(stage: str, row: Plain, planned: Plain) -> Plain:
    """A cell with a plan has two lines."""

    def beside(name: str, say: Any) -> tuple[str, str]:
        """Nothing was counted where there is 0."""
        return say(row[name] or None), say(planned[name]) if planned.get(name) else ""

    gpu = row.get("gpu_peak_bytes")
    return {
        "stage": stage,
        "wall": beside("wall_s", words.duration),
        "tokens": beside("tokens", words.count),
        "numbers": beside("numbers_bytes", words.byte_size),
        "disk": beside("disk_bytes", words.byte_size),
        "cpu": words.number(row["cpu_hours"]),
        "device": f"{words.number(row['device_hours'])} {row['device']}",
        "peak": words.byte_size(row["peak_bytes"] or None) + (f" (GPU {words.byte_size(gpu)})" if gpu else ""),
        "read": words.byte_size(row["read_bytes"] or None),
        "written": words.byte_size(row["written_bytes"] or None),
        "cost": words.number(row.get("cost")),
    }
