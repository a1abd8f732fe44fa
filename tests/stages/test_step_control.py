"""Step-level control on the tiny run, one layer before its last."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from raysae.stages.court import Court
from raysae.stages.exhibits.step_control import Along
from raysae.stages.ingest import GENERATED, READINGS
from raysae.types import Split
from raysae.types.loading import load
from tests.runs import in_process

LAYER = ["capture.hookpoints=[layers.0.resid_post]", "protocol.criteria=[reconstruction]", "sweep.trials=0"]
ASKED = [*LAYER, "protocol.observations=[step_control]", "protocol.nulls=[random_dictionary]"]
ASKED += ["protocol.permutations=20", "protocol.test_tokens=2500", "train.steps=120", "train.seeds=1"]


@pytest.fixture(scope="module")
def run(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    how = [str(tiny_config), f"out={tmp_path_factory.mktemp('steps')}", *ASKED]
    assert in_process("run", *how).returncode == 0
    return how


@pytest.fixture(scope="module")
def court(run: list[str]) -> Court:
    return Court(load(Path(run[0]), run[1:]))


@torch.no_grad()
def naive(court: Court, document: int, delta: torch.Tensor) -> dict[str, float]:
    """One text alone through the whole model, its readings found word by word."""
    sample, model = court.sample("main", Split.TEST), court.model("main")
    words = court.tokenizer.convert_ids_to_tokens(sample.token_id[sample.document.numpy() == document].tolist())
    ids = court.tokenizer.convert_tokens_to_ids(words)
    push = delta[sample.document == document]
    handle = model.transformer.h[0].register_forward_hook(lambda module, args, output: output + push)
    log_p = model(torch.tensor([ids])).logits[0].log_softmax(dim=-1)
    handle.remove()
    close = max(i for i, word in enumerate(words) if word == "so")
    so = court.tokenizer.convert_tokens_to_ids("so")
    found = {"answer": float(log_p[close, ids[close + 1]]), "steps": 0.0, "detection": 0.0}
    total = int(words[2])
    for start in range(4, close, 11):
        person, verb, operand, _, book, _, copy, operation, _, result, _ = words[start : start + 11]
        found["steps"] += 1 - float(log_p[start + 10, so].exp())
        sign = {"gets": "+", "finds": "+", "loses": "-", "sells": "-", "copies": "*", "repeats": "*"}[verb]
        for place, written, right in ((6, copy, f"{total}{book}"), (7, operation, sign + operand)):
            if written != right:
                at = log_p[start + place - 1]
                found["detection"] += float(at[court.tokenizer.convert_tokens_to_ids(right)] - at[ids[start + place]])
        total = int(result[0])
    return found


@pytest.mark.slow
def test_what_is_read_is_what_one_plain_pass_per_text_gives(court: Court) -> None:
    read = Along(court, "main")
    rows, width = read.hidden.shape
    for delta in (torch.zeros(rows, width), torch.randn(rows, width, generator=torch.Generator().manual_seed(0))):
        found = read(delta)
        for document in (0, 5, 17):
            expected = naive(court, document, delta)
            assert {name: float(found[name][document]) for name in expected} == pytest.approx(expected, abs=2e-3)
    assert read.counts["answer"].min() == 1 and read.counts["detection"].sum() > 20


@pytest.mark.slow
def test_a_run_leaves_a_row_per_edit_a_matrix_and_a_section(run: list[str]) -> None:
    folder = load(Path(run[0]), run[1:]).folder
    found = json.loads((folder / "metrics" / "step_control.json").read_text())
    metric = json.loads((folder / "metrics" / "metrics.json").read_text())["observations"]["step_control"]
    assert metric["value"] is not None and set(metric["nulls"]) == {"matched_latents", "random_direction"}
    assert metric["nulls"]["matched_latents"]["n"] == 20
    steps = {row["step"] for row in found["rows"]}
    of_close = {row["outcome"] for row in found["rows"] if row["step"] == "FORMAT"}
    assert steps <= {"PARSE", "OPERATE", "FORMAT"} and of_close <= {"answer"}, "all else stands before the close"
    assert len(found["rows"]) == 6 * len(steps - {"FORMAT"}) + 2 * len(of_close)
    assert {cell["step"] for cell in found["matrix"]} >= steps
    assert '<section id="steps">' in (folder / "report.html").read_text()


@pytest.mark.slow
def test_silencing_changes_the_text_behind_and_nothing_before(court: Court) -> None:
    read, sample = Along(court, "main"), court.sample("main", Split.TEST)
    delta = torch.zeros(read.hidden.shape)
    last = np.flatnonzero(np.diff(sample.document.numpy(), append=-1))
    delta[last] = 100.0  # the end of text: nothing is predicted from it but what is behind
    before, after = read(torch.zeros_like(delta)), read(delta)
    assert all(np.allclose(before[name], after[name], atol=1e-4) for name in before)
    delta = torch.zeros(read.hidden.shape)
    delta[np.flatnonzero(np.diff(sample.document.numpy(), prepend=-1))] = 100.0  # the first of each text: all is behind
    assert not np.allclose(before["answer"], read(delta)["answer"], atol=0.1)


def test_behind_the_last_block_there_is_nothing_to_control(tiny_config: Path, tmp_path: Path) -> None:
    how = [str(tiny_config), f"out={tmp_path}", *ASKED, "capture.hookpoints=[layers.1.resid_post]"]
    found = in_process("run", *how)
    assert found.returncode == 2 and "type sae.hookpoint=layers.0.resid_post" in found.stderr
    assert found.stderr.count("\n") == 1 and not (tmp_path / "tiny").exists()


@pytest.mark.parametrize("world", ["arithmetic_cot", "controlled_cot"])
def test_a_world_says_in_most_of_its_texts_where_the_model_is_read(world: str) -> None:
    records = list(GENERATED[world](60, 1))
    found = [(record, read) for record in records if (read := READINGS[world](record)) is not None]
    assert len(found) > 20 and any(read.detections for _, read in found)
    for record, read in found:
        assert record.text[read.close - 1] == " " and read.answer < len(record.text)
