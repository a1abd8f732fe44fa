"""The plan of a run, against the run: tokens and bytes of numbers to the last one, files at most, and no capture beyond
the budget."""

import json
import re
from pathlib import Path

import pytest

from raysae.planning import plans
from raysae.stages.capture import capture
from raysae.stages.plan import learn, records
from raysae.stages.progress import Reporter
from raysae.stages.spent import left, planned_and_taken
from raysae.store import RunFolder, TokenStore
from raysae.types import Experiment
from raysae.types.loading import load
from tests.conftest import GSM8K, ROOT
from tests.runs import copy_before, in_process, overrides


def ledger(folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    return json.loads((folder / "resources.json").read_text())


def test_what_was_planned_before_capture_is_what_was_captured(undisturbed: Path) -> None:
    found = ledger(undisturbed)
    planned, taken = found["planned"], found["stages"]["capture"]
    line = planned["stages"]["capture"]
    assert planned["exact"] is True
    assert (line["tokens"], line["numbers_bytes"]) == (taken["tokens"], taken["numbers_bytes"])
    assert taken["disk_bytes"] <= line["disk_bytes"] < 1.5 * taken["disk_bytes"]
    pairs = planned_and_taken(RunFolder(Experiment(name="tiny", out=undisturbed.parent)))
    assert pairs["tokens captured"].planned == pairs["tokens captured"].taken == taken["tokens"]
    assert pairs["bytes of activations"].planned == pairs["bytes of activations"].taken


def test_bytes_and_tokens_of_saes_are_planned_to_the_last_once_their_size_is_known(
    undisturbed: Path, tiny_config: Path
) -> None:
    trials = json.loads((undisturbed / "sweep" / "sweep.json").read_text())["trials"]
    (expansion,) = [trial["expansion"] for trial in trials if trial["chosen"]]
    known = load(tiny_config, [f"out={undisturbed.parent}", "sweep.trials=0", f"sae.expansion={expansion}"])
    line, taken = plans(known)["cache"].stages["train"], ledger(undisturbed)["stages"]["train"]
    assert (line.tokens, line.numbers_bytes) == (taken["tokens"], taken["numbers_bytes"])
    open_still = plans(load(tiny_config, [f"out={undisturbed.parent}"]))["cache"].stages
    assert open_still["train"].numbers_bytes >= taken["numbers_bytes"], "the widest that the sweep may choose"
    assert open_still["sweep"].tokens == ledger(undisturbed)["stages"]["sweep"]["tokens"]


def test_a_streamed_capture_is_planned_to_the_last_number_too(
    undisturbed: Path, tiny_config: Path, tmp_path: Path
) -> None:
    folder = copy_before("capture", undisturbed, tmp_path)
    arguments = [*overrides(tmp_path), "activations.mode=stream", "protocol.test_tokens=500"]
    experiment = load(tiny_config, arguments)
    line = plans(experiment)["stream"].stages["capture"]
    with pytest.MonkeyPatch.context() as patch, Reporter().stage("capture") as progress:
        patch.setenv("RAYSAE_LOCAL", "1")
        capture(experiment, folder / "tokens", folder / "activations", progress)
    taken = left("capture", experiment, RunFolder(experiment))
    assert line.numbers_bytes == taken["numbers_bytes"]
    assert taken["disk_bytes"] <= line.disk_bytes
    assert line.numbers_bytes < plans(experiment)["cache"].stages["capture"].numbers_bytes / 2


@pytest.mark.parametrize(
    "corpus",
    [
        ["corpus.records=1500"],
        pytest.param(
            ["corpus.name=gsm8k", f"corpus.path={GSM8K}", "model.name=tiny-gsm8k", "corpus.records=600"],
            marks=pytest.mark.skipif(not GSM8K.exists(), reason="GSM8K is not on this machine"),
        ),
    ],
)
def test_before_there_are_tokens_they_are_estimated_within_a_tenth_and_nothing_is_written(
    corpus: list[str], tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYSAE_LOCAL", "1")
    arguments = [f"out={tmp_path / 'runs'}", *corpus]
    experiment = load(tiny_config, arguments)
    found = plans(experiment)["cache"]
    assert not found.exact and "estimated from the first" in found.counted_by
    assert not (tmp_path / "runs").exists()
    assert in_process("tokenize", str(tiny_config), *arguments).returncode == 0
    tokens = TokenStore(RunFolder(experiment).tokens).tokens
    assert found.stages["tokenize"].tokens == pytest.approx(tokens, rel=0.1)
    after = plans(experiment)["cache"].stages["capture"]
    assert found.stages["capture"].disk_bytes == pytest.approx(after.disk_bytes, rel=0.2)


def test_a_large_file_is_counted_by_its_size(tmp_path: Path, tiny_config: Path) -> None:
    lines = [json.dumps({"question": f"What is {i} + 1?", "answer": "#### 2" * (1 + i % 7)}) for i in range(5000)]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    arguments = ["corpus.name=gsm8k", f"corpus.path={tmp_path}", "model.name=tiny-gsm8k"]
    (found,) = records(load(tiny_config, [*arguments, "corpus.records=null"]))
    assert found == pytest.approx(5000, rel=0.05)
    assert records(load(tiny_config, [*arguments, "corpus.records=70"])) == [70]


def test_beyond_the_budget_nothing_is_sealed_or_captured_until_told_otherwise(
    undisturbed: Path, tiny_config: Path, tmp_path: Path
) -> None:
    folder = copy_before("seal", undisturbed, tmp_path)
    refused = in_process("capture", str(tiny_config), *overrides(tmp_path), "budget.gb=0.001")
    assert refused.returncode == 2
    (line,) = refused.stderr.strip().split("\n")
    assert re.search(r"the plan needs 0\.0\d+ GB on disk; allowed: budget.gb=0.001; type budget.gb=1 to go on", line)
    assert not (folder / "protocol.json").exists() and not (folder / "activations").exists()
    told = in_process("capture", str(tiny_config), *overrides(tmp_path), "budget.gb=1")
    assert told.returncode == 0, told.stderr
    assert "plan: " in told.stdout


def test_the_plan_shows_both_ways_and_exits_2_beyond_the_budget(undisturbed: Path, tiny_config: Path) -> None:
    arguments = ["plan", str(tiny_config), f"out={undisturbed.parent}", "budget.device=H100"]
    shown = in_process(*arguments, f"budget.prices={ROOT / 'cluster' / 'prices.yaml'}")
    assert shown.returncode == 0, shown.stderr
    for said in ("activations.mode=cache: ", "activations.mode=stream: ", "cheaper: activations.mode=", "USD"):
        assert said in shown.stdout
    assert in_process(*arguments, "budget.rtx_hours=0").returncode == 2


@pytest.mark.parametrize(
    ("override", "said"),
    [("budget.device=abacus", "budget.device=abacus"), ("budget.prices=nowhere.yaml", "nowhere.yaml: no such file")],
)
def test_a_budget_that_cannot_be_reckoned_with_is_refused(override: str, said: str, tiny_config: Path) -> None:
    refused = in_process("plan", str(tiny_config), override)
    assert refused.returncode == 2 and said in refused.stderr and refused.stderr.count("\n") == 1


def test_what_was_timed_is_used_for_experiments_of_the_same_kind_alone(
    undisturbed: Path, tiny_config: Path, tmp_path: Path
) -> None:
    timed = load(tiny_config, [f"out={undisturbed.parent}"])
    whole = load(tiny_config, [f"out={tmp_path}", "corpus.records=1000"])
    learn(whole, RunFolder(whole), [timed, timed])
    found = plans(whole)["cache"]
    assert found.timed_by == "timed by a rehearsal on this machine" and found.untimed == ()
    wall = ledger(undisturbed)["stages"]["capture"]["wall_s"]
    assert found.stages["capture"].wall_s == pytest.approx(wall), "one point twice is a stage that does not grow"
    assert plans(load(tiny_config, [f"out={tmp_path}", "sae.k=3"]))["cache"].untimed
    assert plans(load(tiny_config, [f"out={tmp_path}", "budget.device=L4"]))["cache"].untimed


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_after_a_rehearsal_a_run_takes_what_was_planned_within_a_factor_of_three(tmp_path: Path) -> None:
    config = ROOT / "configs" / "quickstart.yaml"
    half = [f"out={tmp_path}", "corpus.records=2000", "train.steps=400", "sweep.trials=3"]
    rehearsed = in_process("plan", str(config), *half, "--calibrate")
    assert rehearsed.returncode == 0, rehearsed.stderr
    done = in_process("run", str(config), *half)
    assert done.returncode == 0, done.stderr
    pairs = planned_and_taken(RunFolder(load(config, half)))
    planned, taken = pairs["seconds"]
    assert planned is not None and 1 / 3 < taken / planned < 3
    assert pairs["tokens captured"].planned == pairs["tokens captured"].taken
    assert pairs["bytes of activations"].planned == pairs["bytes of activations"].taken
    print(rehearsed.stdout, done.stdout[done.stdout.index("took ") :])  # noqa: T201
