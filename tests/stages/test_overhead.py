"""An experiment about capture itself: from drawn ids to a verdict, and what keeps it from one."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from raysae.models import capture as hooks
from raysae.pipeline import CAPTURE_STAGES, run
from raysae.stages import meter
from raysae.stages.progress import Reporter
from raysae.stages.verify import verify
from raysae.store import Ledger, RunFolder, TokenStore
from raysae.store.activation_block import ActivationBlock
from raysae.types import Outcome, Reason, Verdict
from raysae.types.loading import load
from tests.runs import in_process, kill_when, raysae

TINY = """
name: tiny
model: {name: tiny-cot}
capture: {hookpoints: [layers.0.mlp_hidden, layers.1.resid_post]}
overhead: {blocks: 5, batch_size: 4, sequence_length: 16, batches: 2, sustained_tokens: 1000}
protocol: {criteria: [capture_latency, capture_throughput, capture_memory], nulls: []}
"""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Here as in every other test: on arrays this small more threads only wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meter, "_every_core", nullcontext)
        yield


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(TINY)
    return path


def judged(config: Path, out: Path, *overrides: str) -> Verdict:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYSAE_LOCAL", "1")
        verdict = run(load(config, [f"out={out}", *overrides]), Reporter(), "decide")
    assert verdict is not None
    return verdict


def evidence(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / "metrics" / f"{name}.evidence.json").read_text())


@pytest.fixture(scope="module")
def finished(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished")
    result = in_process("run", str(config), f"out={out}")
    assert result.returncode == 0, result.stderr
    return out / "tiny"


def test_every_run_of_every_block_is_timed_and_every_token_counted(finished: Path) -> None:
    latency, stretch = evidence(finished, "latency"), evidence(finished, "throughput")
    assert {name: np.shape(rows) for name, rows in latency["seconds"].items()} == {
        "base": (5, 2), "capture": (5, 2), "forward": (5, 1), "whole": (5, 1),
    }  # fmt: skip
    assert min(np.min(rows) for rows in latency["seconds"].values()) > 0
    files = 1 + 2 * (meter.WARMUP_BLOCKS + 5)  # One is held against the reference.
    assert latency["files"] == {"tokens": 128 * files, "rows": 128 * files, "wrong_documents": 0}
    assert latency["compared"] == 2 * 128 * (256 + 64) and latency["differing"] == 0
    assert latency["generated"] == 2 * meter.DECODED and latency["changed"] == 0
    assert sum(stretch["tokens"]) == 1024 and len(stretch["seconds"]) == len(stretch["bytes"]) == 8
    assert stretch["files"]["rows"] == 1024 + 128 * meter.WARMUP_BLOCKS


def test_the_verdict_is_the_rule_over_the_evidence(finished: Path) -> None:
    verdict = Verdict.model_validate_json((finished / "verdict.json").read_bytes())
    rows = evidence(finished, "latency")["seconds"]
    rises = [sum(c) / sum(b) - 1 for b, c in zip(rows["base"], rows["capture"], strict=True)]
    assert verdict.criteria["capture_latency"].value == pytest.approx(float(np.median(rises)))
    short, on_cpu = verdict.criteria["capture_throughput"], verdict.criteria["capture_memory"]
    assert (short.outcome, short.reason_code) == (Outcome.INCONCLUSIVE, Reason.UNDERPOWERED)
    assert "1,024 tokens" in short.reason
    assert (on_cpu.outcome, on_cpu.reason_code, on_cpu.value) == (Outcome.INCONCLUSIVE, Reason.NOT_RUN, None)
    assert on_cpu.reason.startswith("No GPU")


def test_what_is_left_is_sealed_witnessed_and_whole(finished: Path) -> None:
    assert verify(finished) == []
    assert {path.name for path in finished.iterdir()} == {
        "experiment.json", "metrics", "protocol.json", "record.json", "report.html", "resources.json", "tokens",
        "verdict.json",
    }  # fmt: skip
    (record,) = Ledger(finished.parent / "ledger.jsonl").records()
    captured = sum(evidence(finished, name)["files"]["rows"] for name in ("latency", "throughput", "memory-capture"))
    assert record.tokens == captured and record.notes == ("128 drawn ids",)
    assert set(record.seconds) == {"draw", "seal", "overhead"}
    protocol = json.loads((finished / "protocol.json").read_text())["protocol"]
    assert protocol["seeds"] == [] and protocol["overhead"]["blocks"] == 5


def test_the_ids_are_drawn_from_the_whole_vocabulary_by_the_seed(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYSAE_LOCAL", "1")

    def drawn(name: str, *overrides: str) -> np.ndarray:
        experiment = load(config, [f"out={tmp_path}", f"name={name}", "overhead.batches=100", *overrides])
        run(experiment, Reporter(), "draw")
        store = TokenStore(RunFolder(experiment).tokens)
        return np.stack([ids for _, ids, _ in store.documents(store.blocks()[0])])

    first = drawn("a")
    assert first.shape == (400, 16)
    assert np.array_equal(first, drawn("b")) and not np.array_equal(first, drawn("c", "seed=1"))
    assert set(first.ravel()) == set(range(81))


def assert_every_criterion_fails(verdict: Verdict, gate: str) -> None:
    for row in verdict.criteria.values():
        assert (row.outcome, row.reason_code) == (Outcome.INCONCLUSIVE, Reason.GATE_FAILED)
        assert gate in row.reason


def test_a_hook_that_changes_the_model_fails_the_gate(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach = hooks._attach

    def meddle(model: Any, hookpoint: Any, edit: Callable[[Any], Any]) -> Any:
        def changed(tensor: Any) -> Any:
            edit(tensor)
            return tensor * 1.001

        return attach(model, hookpoint, changed)

    monkeypatch.setattr(hooks, "_attach", meddle)
    verdict = judged(config, tmp_path)
    assert_every_criterion_fails(verdict, "model unchanged")
    assert_every_criterion_fails(verdict, "equal to a reference")  # Also what stands behind the first.


def test_a_capture_that_leaves_a_trace_fails_the_gate(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    capturer = meter.Capturer

    class Leaves(capturer):
        def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
            answer = super().__call__(item)
            self.models["main"].model.transformer.wte.weight.data[3] *= 1.01
            return answer

    monkeypatch.setattr(meter, "Capturer", Leaves)
    assert_every_criterion_fails(judged(config, tmp_path, "protocol.criteria=[capture_latency]"), "model unchanged")


def test_a_lost_token_fails_the_gate(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = ActivationBlock.add

    def lose(self: ActivationBlock, tokens: Any, values: dict[str, np.ndarray]) -> None:
        kept = type(tokens)(*(column[:-1] for column in tokens))
        add(self, kept, {name: array[:-1] for name, array in values.items()})

    monkeypatch.setattr(ActivationBlock, "add", lose)
    assert_every_criterion_fails(judged(config, tmp_path), "every token once")


def test_a_token_twice_in_the_place_of_another_fails_the_gate(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = ActivationBlock.add

    def repeat(self: ActivationBlock, tokens: Any, values: dict[str, np.ndarray]) -> None:
        rows = np.arange(len(tokens.record))
        rows[-1] = rows[-2]
        add(self, type(tokens)(*(column[rows] for column in tokens)), values)

    monkeypatch.setattr(ActivationBlock, "add", repeat)
    verdict = judged(config, tmp_path, "protocol.criteria=[capture_latency]")
    assert_every_criterion_fails(verdict, "every token once")
    assert "1,920 of 1,920 tokens in the files, 15 documents differ" in verdict.criteria["capture_latency"].reason


def test_a_finished_measurement_is_not_repeated(finished: Path, config: Path, tmp_path: Path) -> None:
    """As after a kill during the last one: the others keep their numbers, and scraps of an attempt are cleared away."""
    shutil.copytree(finished.parent, tmp_path / "out")
    folder = tmp_path / "out" / "tiny"
    kept = {name: evidence(folder, name) for name in ("latency", "throughput", "memory-base")}
    for name in (
        "metrics.json",
        "overhead.json",
        "manifest.json",
        "memory-capture.json",
        "memory-capture.evidence.json",
    ):
        (folder / "metrics" / name).unlink()
    for name in ("verdict.json", "record.json", "report.html"):
        (folder / name).unlink()
    scraps = folder / "overhead" / "memory-capture" / "7"
    scraps.mkdir(parents=True)
    judged(config, tmp_path / "out")
    assert kept == {name: evidence(folder, name) for name in kept}
    assert evidence(folder, "memory-capture")["files"]["rows"] > 0
    assert not (folder / "overhead").exists()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("protocol.criteria=[capture_latency,reconstruction]", "capture_latency and reconstruction"),
        ("overhead.blocks=0", "overhead.blocks"),
        ("overhead.rounds=3", "rounds"),
        ("overhead.sequence_length=65", "type overhead.sequence_length=64"),
        ("corpus.name=gsm8k", "remove corpus"),
        ("train.steps=5", "remove train"),
        ("protocol.nulls=[random_model]", "type protocol.nulls=[]"),
        ("protocol.observations=[purity]", "type protocol.observations=[]"),
        ("model.name=rotated", "model.name=rotated and criteria of capture"),
        ("capture.hookpoints=[layers.2.resid_post]", "has 2 layers"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    config: Path, tmp_path: Path, override: str, said: str
) -> None:
    result = in_process("run", str(config), f"out={tmp_path / 'runs'}", override)
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.strip().split("\n")) == 1 and said in result.stderr
    assert result.stderr.count("; ") >= 2
    assert not (tmp_path / "runs").exists()


def test_a_disk_too_small_for_the_stretch_is_refused(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**6))
    result = in_process("run", str(config), f"out={tmp_path / 'runs'}", "overhead.sustained_tokens=10000")
    assert result.returncode == 2 and "10,112 tokens x 320 numbers x 2 bytes" in result.stderr
    assert not (tmp_path / "runs" / "tiny").exists()


def test_a_stage_that_the_criteria_do_not_ask_for_is_refused(config: Path, tiny_config: Path, tmp_path: Path) -> None:
    for stage, path, allowed in (
        ("train", config, "draw, seal, overhead"),
        ("overhead", tiny_config, "ingest, tokenize"),
    ):
        result = in_process(stage, str(path), f"out={tmp_path / 'runs'}")
        assert result.returncode == 2 and f"allowed: {allowed}" in result.stderr
    assert not (tmp_path / "runs").exists()


def test_a_hopeless_confirmatory_run_is_refused_before_it_starts(config: Path, tmp_path: Path) -> None:
    result = in_process("run", str(config), f"out={tmp_path / 'runs'}", "protocol.mode=confirmatory")
    assert result.returncode == 5
    assert "cannot show capture_latency: 5 units (block), at least 30 needed" in result.stderr
    assert not (tmp_path / "runs" / "tiny" / "protocol.json").exists()


@pytest.mark.ray
@pytest.mark.slow
def test_killed_while_it_measures_it_ends_in_a_whole_run_folder(config: Path, tmp_path: Path) -> None:
    command = ("run", str(config), f"out={tmp_path}")
    folder = tmp_path / "tiny"
    assert kill_when(lambda: (folder / "metrics" / "latency.json").is_file(), *command, local=False)
    assert not (folder / "verdict.json").is_file()
    before = evidence(folder, "latency")
    result = raysae(*command, local=False)
    assert result.returncode == 0, result.stderr
    assert evidence(folder, "latency") == before
    assert verify(folder) == []


def test_the_stages_are_in_order() -> None:
    assert CAPTURE_STAGES.index("seal") < CAPTURE_STAGES.index("overhead")
