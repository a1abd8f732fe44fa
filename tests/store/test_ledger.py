"""The ledger: append-only, chained, and a touched line is named."""

from pathlib import Path

import pytest

from raysae.errors import Refused
from raysae.store import Ledger
from raysae.types import RunRecord


def record(name: str, protocol: str = "p") -> RunRecord:
    return RunRecord(
        experiment=name,
        started_at="2026-01-01T00:00:00+00:00",
        fingerprint="f",
        config={"seed": 0},
        seeds={"experiment": 0},
        commit=None,
        versions={},
        tokens=1,
        bytes_written=2,
        seconds={"train": 1.5},
        device="cpu",
        device_hours=0.1,
        protocol_sha256=protocol,
        mode="exploratory",
        outcome="INCONCLUSIVE",
        criteria={"sparsity": "GO"},
        attempt=1,
    )


def test_records_come_back_in_order_and_attempts_are_counted(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "runs" / "ledger.jsonl")
    assert ledger.records() == []
    for name in ("a", "b", "c"):
        ledger.append(record(name, "p" if name != "b" else "q"))
    assert [line.experiment for line in ledger.records()] == ["a", "b", "c"]
    assert ledger.attempts("p") == 2
    assert ledger.attempts("unknown") == 0


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda lines: [lines[0], lines[1].replace("INCONCLUSIVE", "GO"), lines[2]], 2),
        (lambda lines: [lines[0], lines[2]], 2),
        (lambda lines: [lines[1], lines[2]], 1),
        (lambda lines: [lines[0], "{}", lines[2]], 2),
        (lambda lines: [lines[0], lines[1], lines[2][:-5]], 3),
    ],
)
def test_a_touched_line_is_named_and_nothing_is_built_on_it(tmp_path: Path, damage, line: int) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for name in ("a", "b", "c"):
        ledger.append(record(name))
    lines = damage(ledger.path.read_text().split("\n")[:-1])
    ledger.path.write_text("\n".join(lines) + "\n")
    with pytest.raises(Refused, match=f"ledger.jsonl:{line}:"):
        ledger.records()
    with pytest.raises(Refused):
        ledger.append(record("d"))
    assert len(ledger.path.read_text().split("\n")) == len(lines) + 1


def test_a_removed_tail_is_seen_by_who_knows_the_record(tmp_path: Path) -> None:
    """A chain cannot know of lines cut off its end; `raysae verify` misses them by the verdict they recorded."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(record("a"))
    ledger.append(record("b"))
    ledger.path.write_text(ledger.path.read_text().split("\n")[0] + "\n")
    assert [line.experiment for line in ledger.records()] == ["a"]


def grown(path: Path, *names: str) -> Ledger:
    ledger = Ledger(path)
    for name in names:
        ledger.append(record(name))
    return ledger


@pytest.mark.parametrize(
    ("mine", "theirs", "both"),
    [
        ("ab", "", "ab"),
        ("", "ab", "ab"),
        ("ab", "abc", "abc"),
        ("abc", "ab", "abc"),
        ("abc", "abd", "abdc"),
        ("a", "b", "ba"),
    ],
)
def test_merged_ledgers_hold_the_lines_of_both_in_one_chain(tmp_path: Path, mine: str, theirs: str, both: str) -> None:
    here, there = grown(tmp_path / "out" / "mine.jsonl", *mine), grown(tmp_path / "theirs.jsonl", *theirs)
    data = there.path.read_bytes() if theirs else b""
    assert here.merge(data) == here.path.read_bytes()
    assert "".join(line.experiment for line in here.records()) == both
    here.append(record("z"))
    assert "".join(line.experiment for line in here.records()) == f"{both}z"


def test_nothing_is_merged_with_a_broken_chain(tmp_path: Path) -> None:
    here = grown(tmp_path / "mine.jsonl", "a", "b")
    before = here.path.read_bytes()
    broken = grown(tmp_path / "theirs.jsonl", "a", "c", "d").path.read_bytes().replace(b'"c"', b'"e"')
    with pytest.raises(Refused, match="the hash chain is broken here"):
        here.merge(broken)
    assert here.path.read_bytes() == before
    assert Ledger(tmp_path / "none.jsonl").merge(b"") == b""
    assert not (tmp_path / "none.jsonl").exists()
