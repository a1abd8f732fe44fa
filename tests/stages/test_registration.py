"""What was fixed before the run stays fixed: every edit afterwards is refused or makes the verdict exploratory."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raysae.store import Ledger
from raysae.types.experiment import canonical_json
from tests.runs import copy_before, in_process


def decide(config: Path, folder: Path, *extra: str):
    return in_process("decide", str(config), f"out={folder.parent}", *extra)


def remarks(folder: Path) -> str:
    return " ".join(json.loads((folder / "verdict.json").read_text())["remarks"])


def edit(path: Path, change) -> None:
    tree = json.loads(path.read_text())
    change(tree)
    path.write_text(json.dumps(tree))


@pytest.fixture
def before_decide(undisturbed: Path, tmp_path: Path) -> Path:
    return copy_before("decide", undisturbed, tmp_path)


def test_the_ledger_witnesses_the_seal_and_the_one_opening_of_test(undisturbed: Path) -> None:
    ledger = Ledger(undisturbed.parent / "ledger.jsonl")
    sha256 = json.loads((undisturbed / "protocol.json").read_text())["sha256"]
    assert [type(entry).__name__ for entry in ledger.entries()] == ["LedgerEvent", "LedgerEvent", "RunRecord"]
    assert [event.protocol_sha256 for kind in ("seal", "open") for event in ledger.events(kind)] == [sha256, sha256]


def test_test_is_counted_once_when_a_killed_evaluation_goes_on(
    tiny_config: Path, undisturbed: Path, tmp_path: Path
) -> None:
    folder = copy_before("evaluate", undisturbed, tmp_path)
    assert decide(tiny_config, folder).returncode in (3, 4)
    assert len(Ledger(tmp_path / "ledger.jsonl").events("open")) == 1
    assert "TEST was opened before" not in remarks(folder)


def test_a_threshold_changed_together_with_its_hash_is_exploratory(tiny_config: Path, before_decide: Path) -> None:
    def forge(tree: dict[str, Any]) -> None:
        tree["protocol"]["criteria"][0]["threshold"] = 0.5
        tree["sha256"] = hashlib.sha256(canonical_json(tree["protocol"]).encode()).hexdigest()

    edit(before_decide / "protocol.json", forge)
    decide(tiny_config, before_decide)
    assert "EXPLORATORY: the ledger does not know this seal" in remarks(before_decide)
    assert json.loads((before_decide / "verdict.json").read_text())["mode"] == "exploratory"


def test_a_changed_metric_is_refused_by_name(tiny_config: Path, before_decide: Path) -> None:
    def better(tree: dict[str, Any]) -> None:
        tree["criteria"]["alignment"]["value"] = 1.0

    edit(before_decide / "metrics" / "metrics.json", better)
    found = decide(tiny_config, before_decide)
    assert found.returncode == 5
    assert "metrics/metrics.json: sha256 is" in found.stderr and found.stderr.count("\n") == 1
    assert not (before_decide / "verdict.json").exists()


def test_changed_evidence_is_refused_too(tiny_config: Path, before_decide: Path) -> None:
    edit(before_decide / "metrics" / "main-0.evidence.json", lambda tree: tree.update(seed=7))
    assert decide(tiny_config, before_decide).returncode == 5


def test_code_that_measured_and_is_not_the_sealed_one_is_exploratory_though_it_was_put_back(
    tiny_config: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_before("evaluate", undisturbed, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("raysae.stages.evaluate.source_sha256", lambda: "f" * 64)
        how = [str(tiny_config), f"out={tmp_path}"]
        assert in_process("evaluate", *how).returncode == 0
    assert decide(tiny_config, folder).returncode in (3, 4)
    assert f"EXPLORATORY: the code that measured hashes to {'f' * 16}..." in remarks(folder)
    assert json.loads((folder / "verdict.json").read_text())["mode"] == "exploratory"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tree: tree["blocks"][0]["facts"].update(source_sha256="e" * 64), "measured hashes to eeeeeeee"),
        (lambda tree: tree["provenance"].clear(), "EXPLORATORY: it is not known which code measured"),
    ],
)
def test_one_piece_of_evidence_by_other_code_or_by_none_that_is_known_is_exploratory(
    tiny_config: Path, before_decide: Path, change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    edit(before_decide / "metrics" / "manifest.json", change)
    decide(tiny_config, before_decide)
    assert said in remarks(before_decide)


def test_another_split_is_refused_with_the_name_of_the_side(tiny_config: Path, before_decide: Path) -> None:
    def move(tree: dict[str, Any]) -> None:
        block = next(block for block in tree["blocks"] if block["facts"]["split"] == "FIT")
        block["facts"]["split"] = "TEST"

    edit(before_decide / "tokens" / "manifest.json", move)
    found = decide(tiny_config, before_decide)
    assert found.returncode == 5
    assert "FIT hashes to" in found.stderr


def test_another_list_of_seeds_is_another_experiment(tiny_config: Path, before_decide: Path) -> None:
    found = decide(tiny_config, before_decide, "train.seeds=[0]")
    assert found.returncode == 2
    assert "train.seeds" in found.stderr


def test_a_second_protocol_on_the_same_test_is_exploratory(
    tiny_config: Path, undisturbed: Path, tmp_path: Path
) -> None:
    first = copy_before("decide", undisturbed, tmp_path)
    assert decide(tiny_config, first).returncode in (3, 4)
    assert "EXPLORATORY" not in remarks(first)
    cheap = [
        "name=again",
        "sweep.trials=0",
        "train.steps=20",
        "protocol.criteria=[reconstruction]",
        "protocol.nulls=[]",
    ]
    assert decide(tiny_config, first, *cheap).returncode in (3, 4)
    assert "TEST was opened before under another protocol" in remarks(tmp_path / "again")
    other_text = ["name=elsewhere", "seed=1", *cheap[1:]]
    assert decide(tiny_config, first, *other_text).returncode in (3, 4)
    assert "EXPLORATORY" not in remarks(tmp_path / "elsewhere")


def test_an_amendment_keeps_both_hashes_and_the_reason(tiny_config: Path, undisturbed: Path, tmp_path: Path) -> None:
    folder = copy_before("decide", undisturbed, tmp_path)
    old = json.loads((folder / "protocol.json").read_text())["sha256"]
    how = [f"out={tmp_path}", "protocol.bootstrap=300"]
    assert in_process("amend", str(tiny_config), *how, "--reason", "a typing error").returncode == 0
    new = json.loads((folder / "protocol.json").read_text())["sha256"]
    (event,) = Ledger(tmp_path / "ledger.jsonl").events("amend")
    assert (event.protocol_sha256, event.facts) == (new, {"old": old, "reason": "a typing error"})
    kept = json.loads((folder / "superseded" / old[:16] / "protocol.json").read_text())
    assert kept["sha256"] == old != new
    assert (folder / "superseded" / old[:16] / "metrics" / "metrics.json").is_file()
    assert in_process("decide", str(tiny_config), *how).returncode in (3, 4)
    assert "TEST was opened before" in remarks(folder), "the old protocol had opened it"


def test_an_amendment_before_test_was_opened_is_no_breach(tiny_config: Path, tmp_path: Path) -> None:
    how = [str(tiny_config), f"out={tmp_path}", "sweep.trials=0", "train.steps=20", "protocol.nulls=[]"]
    assert in_process("seal", *how, "protocol.criteria=[sparsity]").returncode == 0
    assert in_process("amend", *how, "protocol.criteria=[reconstruction]", "--reason", "why").returncode == 0
    assert in_process("decide", *how, "protocol.criteria=[reconstruction]").returncode in (3, 4)
    assert "EXPLORATORY" not in remarks(tmp_path / "tiny")


def test_an_amendment_of_anything_else_is_bad_input(tiny_config: Path, before_decide: Path) -> None:
    how = [f"out={before_decide.parent}", "sae.k=3", "--reason", "luck"]
    found = in_process("amend", str(tiny_config), *how)
    assert found.returncode == 2
    assert "sae.k" in found.stderr and "protocol.*" in found.stderr


def test_an_amendment_without_a_reason_is_bad_input(tiny_config: Path, before_decide: Path) -> None:
    found = in_process(
        "amend", str(tiny_config), f"out={before_decide.parent}", "protocol.bootstrap=300", "--reason", " "
    )
    assert found.returncode == 2 and "an empty reason" in found.stderr


def test_a_mark_that_no_run_wrote_is_bad_input(tiny_config: Path, before_decide: Path) -> None:
    (before_decide / "experiment.json").write_text("{")
    found = in_process("run", str(tiny_config), f"out={before_decide.parent}")
    assert found.returncode == 2 and "experiment.json cannot be read" in found.stderr and found.stderr.count("\n") == 1


def test_the_power_table_is_printed_before_anything_is_read(tiny_config: Path, tmp_path: Path) -> None:
    found = in_process("protocol", str(tiny_config), f"out={tmp_path}")
    assert found.returncode == 0
    assert "alignment" in found.stdout and "counted in the text" in found.stdout and "2 seeds, 5 needed" in found.stdout
    assert not (tmp_path / "tiny").exists()


def test_a_hopeless_confirmatory_protocol_is_refused_before_anything_is_read(tiny_config: Path, tmp_path: Path) -> None:
    found = in_process("protocol", str(tiny_config), f"out={tmp_path}", "protocol.mode=confirmatory")
    assert found.returncode == 5
    assert "cannot show reconstruction: 2 seeds, 5 needed" in found.stderr
