"""Phases in order: a closed gate, an open one, an overridden one, and the walk through a file of them."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from raysae.store import Ledger
from raysae.types import RunRecord
from tests.conftest import ROOT, TINY
from tests.runs import in_process

CHEAP = ["sweep.trials=0", "train.steps=20", "protocol.criteria=[reconstruction]", "protocol.nulls=[]"]
CHEAP += ["protocol.observations=[]"]


def record(folder: Path, **changes: Any) -> RunRecord:
    (found,) = Ledger(folder.parent / "ledger.jsonl").records()
    return found.model_copy(update=changes)


def passed(folder: Path, phase: int, criterion: str, **changes: Any) -> RunRecord:
    """The record of a run as if it had been a phase and passed."""
    go = {"phase": phase, "outcome": "GO", "mode": "confirmatory", "criteria": {criterion: "GO"}}
    return record(folder, **go | changes)


def sealed(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "protocol.json").read_text())["protocol"]


def test_a_phase_waits_for_the_one_before(tiny_config: Path, undisturbed: Path, tmp_path: Path) -> None:
    how = [str(tiny_config), f"out={tmp_path}", "protocol.phase=2"]
    closed = in_process("seal", *how)
    assert closed.returncode == 5 and closed.stderr.count("\n") == 1
    assert f"phase 2 asks for a confirmatory GO of phase 1 in {tmp_path}/ledger.jsonl" in closed.stderr
    assert "found: not decided" in closed.stderr and '--override "reason"' in closed.stderr
    assert not (tmp_path / "tiny").exists(), "a closed gate leaves nothing behind"
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(passed(undisturbed, 1, "alignment", mode="exploratory"))
    assert in_process("seal", *how).returncode == 5, "an exploratory GO opens no gate"
    ledger.append(passed(undisturbed, 1, "sparsity"))
    closed = in_process("seal", *how)
    assert "found: GO (exploratory), GO without alignment" in closed.stderr
    digest = ledger.append(passed(undisturbed, 1, "alignment"))
    assert digest and in_process("seal", *how).returncode == 0
    protocol = sealed(tmp_path / "tiny")
    (link,) = protocol["chain"]
    assert (link["opens"], link["decisions"], protocol["overrides"]) == (True, 3, [])


def test_the_ledger_of_another_runs_folder_opens_nothing(tiny_config: Path, undisturbed: Path, tmp_path: Path) -> None:
    Ledger(tmp_path / "a" / "ledger.jsonl").append(passed(undisturbed, 1, "alignment"))
    how = [str(tiny_config), "protocol.phase=2"]
    assert in_process("seal", *how, f"out={tmp_path / 'b'}").returncode == 5
    assert in_process("seal", *how, f"out={tmp_path / 'a'}").returncode == 0


@pytest.fixture(scope="module")
def overridden(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of phase 2 that nothing opened the gate for."""
    out = tmp_path_factory.mktemp("overridden")
    how = [str(tiny_config), f"out={out}", "protocol.phase=2", *CHEAP]
    first = in_process("run", *how, "--override", "phase 1 is slow")
    assert first.returncode == 0 and "started without the gate, phase 2: phase 1 is slow" in first.stdout
    assert in_process("run", *how).returncode == 0, "the reason was kept"
    return out / "tiny"


def test_an_override_stands_in_protocol_verdict_and_ledger(overridden: Path) -> None:
    said = ("phase 2: phase 1 is slow",)
    found = record(overridden)
    verdict = json.loads((overridden / "verdict.json").read_text())
    assert (found.phase, found.overrides) == (2, said)
    assert sealed(overridden)["overrides"] == verdict["overrides"] == list(said)
    assert found.chain[0].outcome is None and not found.chain[0].opens
    listed = in_process("ledger", str(overridden.parent)).stdout
    assert "2, phase 2: phase 1 is slow" in " ".join(listed.split())


def test_nobody_who_opens_the_report_can_miss_it(overridden: Path) -> None:
    page = (overridden / "report.html").read_text()
    head, rest = page.split("</header>")
    assert "STARTED WITHOUT THE GATE" in head and "phase 2: phase 1 is slow" in head
    assert "gate overridden</title>" in head and ">gate overridden</span>" in head
    assert "overridden: phase 1 is slow" in rest and "not decided" in rest


def test_an_override_stands_in_every_later_phase(
    overridden: Path, tiny_config: Path, undisturbed: Path, tmp_path: Path
) -> None:
    go = passed(overridden, 2, "causal_interchange")
    Ledger(tmp_path / "ledger.jsonl").append(go)
    how = [str(tiny_config), f"out={tmp_path}", "protocol.phase=3", "name=third"]
    assert in_process("seal", *how).returncode == 0
    assert sealed(tmp_path / "third")["overrides"] == ["phase 2: phase 1 is slow"]
    assert [link["phase"] for link in sealed(tmp_path / "third")["chain"]] == [1, 2]


@pytest.fixture
def phases(tmp_path: Path) -> list[str]:
    """A file of two phases, and where they run."""
    for number, name in ((1, "first"), (2, "second")):
        text = TINY.replace("name: tiny\n", f"name: {name}\n").replace(
            "protocol:\n  {", f"protocol:\n  {{phase: {number}, "
        )
        (tmp_path / f"{name}.yaml").write_text(text)
    (tmp_path / "phases.yaml").write_text("phases: [first.yaml, second.yaml]\n")
    return [str(tmp_path / "phases.yaml"), f"out={tmp_path / 'runs'}", *CHEAP]


def test_the_walk_stops_at_a_closed_gate(phases: list[str], tmp_path: Path) -> None:
    stopped = in_process("run", *phases)
    assert stopped.returncode == 5 and stopped.stderr.count("\n") == 1
    assert "phase 2 asks for a confirmatory GO of phase 1" in stopped.stderr and "(exploratory)" in stopped.stderr
    assert (tmp_path / "runs" / "first" / "report.html").is_file() and not (tmp_path / "runs" / "second").exists()


def test_the_walk_goes_on_with_a_reason_and_shows_the_chain(phases: list[str], tmp_path: Path) -> None:
    walked = in_process("run", *phases, "--override", "a look", "--gate")
    assert walked.returncode in (3, 4), "the status is of the first phase that is not GO"
    page = (tmp_path / "runs" / "second" / "report.html").read_text()
    first = json.loads((tmp_path / "runs" / "first" / "protocol.json").read_text())["sha256"]
    assert first in page and "<td>first</td>" in page
    assert sealed(tmp_path / "runs" / "second")["overrides"] == ["phase 2: a look"]


def test_a_job_goes_through_the_same_gate(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["run.py", str(tiny_config), f"out={tmp_path}", "protocol.phase=2"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "jobs" / "run.py"), run_name="__main__")
    assert end.value.code == 5 and "phase 2 asks for a confirmatory GO" in capsys.readouterr().err
    assert not (tmp_path / "tiny").exists()


def test_a_mistake_in_the_last_phase_is_found_before_the_first_begins(phases: list[str], tmp_path: Path) -> None:
    path = tmp_path / "second.yaml"
    path.write_text(path.read_text().replace("layers.1.resid_post", "layers.7.resid_post"))
    found = in_process("run", *phases)
    assert found.returncode == 2 and "layers.7.resid_post" in found.stderr
    assert not (tmp_path / "runs").exists()
