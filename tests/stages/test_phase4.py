"""Phase 4 without its weights: the six configurations, and everything they ask for on a small model from a folder."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from raysae.checks import check
from raysae.models.load import describe, load_tokenizer
from raysae.stages.court import Court
from raysae.stages.exhibits import transfer_map
from raysae.stages.exhibits.answers import _solved, _without_sae, problems
from raysae.types import Experiment, Split
from raysae.types.experiment import ModelConfig
from raysae.types.loading import load, load_phases
from tests.conftest import ROOT
from tests.runs import in_process

CONFIGS = ROOT / "configs" / "phase4"
MODELS = ("gpt2", "gpt2-medium", "pythia-1.4b", "gemma-2b", "llama-3-8b", "phi-2")
BUNDLED = ROOT / "raysae" / "models" / "bundled" / "tiny-gsm8k"


@pytest.mark.parametrize("name", MODELS)
def test_a_configuration_holds_before_any_weights_are_there(name: str) -> None:
    experiment = load(CONFIGS / f"{name}.yaml")
    check(experiment)
    assert experiment.name == f"phase4_{name}" and experiment.model.name == name
    assert (len(experiment.train.seed_numbers), experiment.train.documents) == (10, "own")
    layers = [point.layer for point in experiment.capture.hookpoints]
    assert layers == list(range(3, experiment_layers(experiment), 4)), "every fourth block"
    assert {experiment.hookpoint, *experiment.sae.also_at} == set(experiment.capture.hookpoints)
    assert in_process("protocol", str(CONFIGS / f"{name}.yaml")).returncode == 0


def experiment_layers(experiment: Experiment) -> int:
    return describe(experiment.model).layers


def test_the_file_of_phases_lists_phases_that_hold() -> None:
    found = load_phases(ROOT / "configs" / "phases.yaml")
    for experiment in found:
        check(experiment)
    phases = [experiment.protocol.phase for experiment in found]
    assert phases == list(range(1, len(found) + 1))


def row(a: int, b: int, name: str) -> dict[str, str]:
    return {
        "question": f"{name} has {a} shells and finds {b}. How many are there?",
        "answer": f"{name} has {a} + {b} = <<{a}+{b}={a + b}>>{a + b} shells.\n#### {a + b}",
    }


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Problems in GSM8K's layout: 240 to train on, 12 of its test."""
    folder, rng = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0)
    names = ("Ann", "Ben", "Cal", "Dee", "Eve", "Fay")
    numbers = rng.permutation([(a, b) for a in range(2, 30) for b in range(2, 30)])[:252].tolist()
    pairs = [(a, b, names[i % 6]) for i, (a, b) in enumerate(numbers)]
    for file, some in (("train", pairs[12:]), ("test", pairs[:12])):
        (folder / f"{file}.jsonl").write_text("".join(json.dumps(row(*pair)) + "\n" for pair in some))
    return folder


def small_model(folder: Path, width: int, texts: list[str]) -> Path:
    """A GPT-2 of three layers with tiny-gsm8k's tokenizer, made to know `texts` by heart."""
    shutil.copytree(BUNDLED, folder)
    for path in (folder / "model.safetensors", folder / "config.json", folder / "pretrain.json"):
        path.unlink()
    tokenizer = load_tokenizer(ModelConfig(name="tiny-gsm8k"), Experiment(name="x").tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(width)
        config = transformers.GPT2Config(
            vocab_size=4096, n_positions=160, n_embd=width, n_layer=3, n_head=2, resid_pdrop=0, embd_pdrop=0,
            attn_pdrop=0, bos_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
        model = transformers.GPT2LMHeadModel(config).train()
    if texts:
        _learn(model, [tokenizer(text)["input_ids"] + [tokenizer.eos_token_id] for text in texts])
    model.config.architectures = ["GPT2LMHeadModel"]
    model.eval().save_pretrained(folder)
    return folder


def _learn(model: Any, ids: list[list[int]]) -> None:
    batch = torch.nn.utils.rnn.pad_sequence([torch.tensor(one) for one in ids], True, padding_value=-100)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(120):
        loss = model(batch.clamp_min(0), labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.fixture(scope="module")
def arguments(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A finished run of tiny.yaml, smaller still, on a model that knows the test problems by heart."""
    lines = (corpus / "test.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    texts = [f"{row['question']}\n{row['answer'].split('<<')[0]}{row['answer'].split('>>')[1]}" for row in rows]
    out = tmp_path_factory.mktemp("phase4")
    how = [
        str(CONFIGS / "tiny.yaml"), f"out={out}", f"corpus.path={corpus}", "corpus.splits.near=null",
        f"model.path={small_model(out / 'model', 32, texts)}", "tokenizer.block_tokens=600", "train.seeds=3",
        "train.steps=40", "train.batch_tokens=256", "sae.k=6", "protocol.bootstrap=200", "protocol.answer_tokens=48",
        "capture.hookpoints=[layers.0.resid_post,layers.1.resid_post]", "sae.also_at=[layers.0.resid_post]",
        "quality.min_agreement=0", "protocol.alive_rate=0.001", "protocol.attribution_sites=2",
        "protocol.attribution_window=1",
        "protocol.observations=[pw_mcc,transfer_map,answer_accuracy]",
    ]  # fmt: skip
    done = in_process("run", *how, "--override", "a test")
    assert done.returncode == 0, done.stderr
    return how


def experiment_of(arguments: list[str]) -> Experiment:
    return load(Path(arguments[0]), arguments[1:])


@pytest.fixture(scope="module")
def measured(arguments: list[str]) -> dict[str, Any]:
    return json.loads((experiment_of(arguments).folder / "metrics" / "metrics.json").read_text())


def test_runs_are_independent_in_all_three_ways(measured: dict[str, Any]) -> None:
    found = measured["criteria"]["stability"]
    gates = {gate["name"]: gate for gate in found["gates"]}
    assert all(gates[name]["passed"] for name in ("own initialisation", "own numbering", "own data", "own start"))
    assert gates["screened"]["passed"] and found["also"]["candidates_without_effect"] > 0


def test_a_model_that_knows_the_answers_solves_the_benchmark_and_ablated_does_not(measured: dict[str, Any]) -> None:
    found = measured["observations"]["answer_accuracy"]
    assert found["n"] == 12 and found["also"]["accuracy_clean"] > 0.8
    assert found["also"]["accuracy_clean_given_steps"] > 0.8 and found["also"]["accuracy_ablated"] < 0.3
    assert found["also"]["fits_the_context"] == 1 and set(found["nulls"]) == {"random_dictionary", "frozen_decoder"}
    assert found["value"] == pytest.approx(found["also"]["accuracy_sae"] - found["also"]["accuracy_clean"])


def test_nothing_is_lost_through_the_identity(arguments: list[str], measured: dict[str, Any]) -> None:
    court = Court(experiment_of(arguments))
    found = _solved(court, "main", lambda hidden: hidden)
    assert np.mean(found.right) == measured["observations"]["answer_accuracy"]["also"]["accuracy_clean"]
    for problem, right in zip(problems(court), found.right, strict=True):
        text = court.tokenizer.decode(problem.prompt)
        assert text == problem.record.question + "\n", "nothing of the solution is shown"
        assert right in (0.0, 1.0)


def test_a_random_model_in_the_real_arms_place_answers_for_that_arm_alone(
    arguments: list[str], measured: dict[str, Any]
) -> None:
    nulls = "protocol.nulls=[random_dictionary,frozen_decoder,random_model]"
    court = Court(experiment_of([*arguments, nulls, "protocol.stand_in=random_model"]))
    assert court.examine("main", 0).source == "random_model"
    for found, name in zip(_without_sae(court, "main"), ("clean", "ablated"), strict=True):
        assert np.mean(found.right) == measured["observations"]["answer_accuracy"]["also"][f"accuracy_{name}"]


def test_worked_problems_of_train_stand_before_the_question(arguments: list[str]) -> None:
    court = Court(experiment_of([*arguments, "protocol.answer_shots=2"]))
    court.protocol = court.protocol.model_copy(update={"answer_shots": 2})
    test = {problem.record.question for problem in problems(court)}
    shown = [court.tokenizer.decode(problem.prompt).split("\n\n") for problem in problems(court)]
    assert all(len(parts) == 3 and parts[:2] == shown[0][:2] for parts in shown)
    assert all("####" in part and part.split("\n")[0] not in test for part in shown[0][:2])
    assert [parts[2] for parts in shown] == [f"{problem.record.question}\n" for problem in problems(court)]


def test_words_are_what_white_space_divides_whatever_the_tokens(arguments: list[str]) -> None:
    court = Court(experiment_of(arguments))
    sample = court.sample("main", Split.TEST)
    texts = {record.record_id: record.text for record in court.records if record.record_id in sample.records}
    word, count = transfer_map.words(court, texts)
    expected = [part for text in texts.values() for part in text.split()]
    assert count == len(expected)
    said: dict[int, str] = {}
    for token, number in zip(sample.token_id.tolist(), word.tolist(), strict=True):
        if number >= 0:
            said[number] = said.get(number, "") + court.tokenizer.decode([token])
    assert [said[number].strip() for number in range(count)] == expected


def test_the_map_has_a_cell_for_every_pair_of_places(arguments: list[str]) -> None:
    folder = experiment_of(arguments).folder
    rows = json.loads((folder / "metrics" / "transfer_map.json").read_text())
    points = ["layers.0.resid_post", "layers.1.resid_post"]
    assert [(row["a"], row["b"]) for row in rows] == [(a, b) for b in points for a in points]
    for row in rows:
        assert row["floor"] in ("random_dictionary", "pca")
        assert row["transfer"] is None or row["a"] != row["b"] or row["transfer"] == pytest.approx(1.0)
    assert "Latents found again elsewhere" in (folder / "report.html").read_text()


def test_a_run_on_another_model_is_mapped_too_and_sealed(arguments: list[str], tmp_path: Path) -> None:
    other = experiment_of(arguments).folder
    model = small_model(tmp_path / "model", 16, [])
    how = [one for one in arguments if not one.startswith(("out=", "model.path="))]
    how += [f"out={tmp_path / 'runs'}", f"model.path={model}", f"protocol.map_from={other}", "name=second"]
    how += ["protocol.observations=[transfer_map]", "protocol.nulls=[]", "sae.also_at=[]"]
    done = in_process("decide", *how)
    assert done.returncode == 5, "phase 4 waits for phase 3 in its own ledger"
    how += ["protocol.phase=null"]
    assert in_process("decide", *how).returncode in (3, 4)
    folder = experiment_of(how).folder
    rows = json.loads((folder / "metrics" / "transfer_map.json").read_text())
    assert [row["a"] for row in rows] == [
        "layers.1.resid_post", *(f"phase4_tiny layers.{layer}.resid_post" for layer in (0, 1)),
    ]  # fmt: skip
    sealed = json.loads((folder / "protocol.json").read_text())["protocol"]["map_from"]
    assert sealed and len(sealed) == 64
    (folder / "record.json").unlink()
    found = in_process("decide", *how, "protocol.map_from=null")
    assert found.returncode == 5 and "the sealed protocol names" in found.stderr


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("protocol.map_from=/nowhere", "is not a run folder"),
        ("seed=3", "read another text, its seed differs"),
        ("corpus.records=200", "read another text, its corpus differs"),
        ("protocol.observations=[pw_mcc]", "transfer_map is not asked for"),
        ("train.seeds=2", "has 2 seeds; allowed: 3 or more"),
    ],
)
def test_another_run_that_cannot_be_mapped_is_bad_input(
    arguments: list[str], tmp_path: Path, override: str, said: str
) -> None:
    other = experiment_of(arguments).folder
    how = [one for one in arguments if not one.startswith("out=")]
    how += [f"out={tmp_path}", "protocol.phase=null", f"protocol.map_from={other}", "name=x", override]
    found = in_process("run", *how)
    assert found.returncode == 2 and said in found.stderr and found.stderr.count("\n") == 1
    assert not (tmp_path / "x").exists()
