"""The recipes behind the bundled models, and the bundled models themselves: they are what the recipes promise."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer, GPT2LMHeadModel, PreTrainedTokenizerFast

import raysae.models
from raysae.corpora import CORPORA
from raysae.errors import BadInput
from raysae.models.capture import capture, splice
from raysae.models.decoding import continue_greedily
from raysae.stages import pretrain as stage
from raysae.stages.pretrain import RECIPES, pretrain
from raysae.types import CorpusRecord, HookPoint, Split
from raysae.types.text import CorpusConfig
from raysae.worlds import arithmetic_cot as world
from raysae.worlds import controlled_cot
from raysae.worlds.controlled_cot.words import VERDICTS

BUNDLED = Path(raysae.models.__file__).parent / "bundled"
GSM8K = Path(__file__).parents[2] / ".." / "shared" / "data" / "gsm8k"
HERE = HookPoint(layer=1, site="resid_post")

needs_gsm8k = pytest.mark.skipif(not (GSM8K / "test.jsonl").is_file(), reason="the GSM8K files are not at hand")


@pytest.fixture
def gsm8k_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "gsm8k"
    folder.mkdir()
    for name, offset in (("train", 0), ("test", 50)):
        rows = [
            {
                "question": f"Zoë has {n} pens – how many are {n} × 2?\u2028",
                "answer": f"She has {n}*2=<<{n}*2={2 * n}>>{2 * n}.\n#### {2 * n}",
            }
            for n in range(offset, offset + 12)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def tiny_cot() -> tuple[GPT2LMHeadModel, PreTrainedTokenizerFast]:
    folder = BUNDLED / "tiny-cot"
    return GPT2LMHeadModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- making one ---


@pytest.mark.parametrize("name", RECIPES)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    name: str, tmp_path: Path, gsm8k_folder: Path
) -> None:
    one, two, other = (
        pretrain(name, tmp_path / str(run), seed, steps=2, corpus_path=gsm8k_folder)
        for run, seed in enumerate((0, 0, 1))
    )
    assert files(one) == files(two)
    assert sorted(files(one)) == [
        *(["circuit.safetensors"] if RECIPES[name].circuit else []),
        "config.json",
        "model.safetensors",
        "pretrain.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert (one / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", RECIPES)
def test_the_folder_opens_with_transformers_and_its_special_tokens_agree(
    name: str, tmp_path: Path, gsm8k_folder: Path
) -> None:
    folder = pretrain(name, tmp_path / "model", steps=1, corpus_path=gsm8k_folder)
    model, tokenizer = GPT2LMHeadModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert tokenizer.is_fast
    assert model.config.vocab_size == len(tokenizer)
    assert model.config.eos_token_id == model.config.bos_token_id == tokenizer.eos_token_id
    assert model.config.pad_token_id == tokenizer.pad_token_id != tokenizer.eos_token_id
    assert model.config.n_positions == tokenizer.model_max_length == RECIPES[name].ctx_len
    assert model.lm_head.weight is model.get_input_embeddings().weight


def test_training_lowers_the_loss_and_reports_it(tmp_path: Path) -> None:
    told: list[tuple[int, float]] = []
    pretrain("tiny-cot", tmp_path / "model", steps=30, report=lambda step, loss: told.append((step, loss)))
    assert [step for step, _ in told] == [25, 30]
    assert told[0][1] > told[1][1]
    made_of = json.loads((tmp_path / "model" / "pretrain.json").read_text())
    assert made_of["train_loss_nats"] == pytest.approx(told[-1][1], abs=1e-4)
    assert made_of["held_out_loss_nats"] < told[0][1]


def test_held_out_loss_is_the_mean_over_predicted_tokens() -> None:
    recipe = RECIPES["tiny-cot"]
    tokenizer = recipe.tokenizer([], 0)
    model = stage.build(recipe, tokenizer, seed=0)
    documents = stage.encode(recipe, tokenizer, [record.text for record in world.generate(20, seed=0)])
    assert all(document[-1] == model.config.eos_token_id for document in documents)
    total, tokens = 0.0, 0
    for document in documents:
        logits = model(torch.tensor([document])).logits[0].log_softmax(-1)
        for position, following in enumerate(document[1:]):
            total -= logits[position, following].item()
            tokens += 1
    loss, counted = stage.held_out_loss(model, documents)
    assert counted == tokens
    assert loss == pytest.approx(total / tokens, rel=1e-4)


def test_a_model_that_learnt_nothing_misses_its_check_and_it_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    folder = pretrain("tiny-dyck", tmp_path / "model", steps=1, say=said.append)
    made_of = json.loads((folder / "pretrain.json").read_text())
    rates = made_of["check"]["interchange_ceiling"]
    assert made_of["check"]["accuracy"] < 0.2 and list(rates) == ["dyck.depth", "dyck.operation", "dyck.top"]
    assert len(made_of["missed"]) == 4 and max(rates.values()) < 0.2
    assert said[0].startswith("accuracy 0.0") and said[1:] == [
        f"the check is missed: {why}" for why in made_of["missed"]
    ]


@pytest.mark.slow
def test_tiny_dyck_answers_and_does_what_supervised_exchanges_ask_of_it(tmp_path: Path) -> None:
    made_of = json.loads((pretrain("tiny-dyck", tmp_path / "model") / "pretrain.json").read_text())
    assert made_of["missed"] == [] and made_of["check"]["accuracy"] >= 0.99


def test_an_unknown_name_an_occupied_folder_and_a_missing_corpus_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="allowed: tiny-cot, tiny-controlled, tiny-dyck, tiny-bfs, tiny-gsm8k"):
        pretrain("tiny", tmp_path / "model")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match="is not empty"):
        pretrain("tiny-cot", tmp_path)
    with pytest.raises(BadInput, match="steps=0"):
        pretrain("tiny-cot", tmp_path / "model", steps=0)
    with pytest.raises(BadInput, match="no such file"):
        pretrain("tiny-gsm8k", tmp_path / "model", corpus_path=tmp_path / "absent")
    assert not (tmp_path / "model").exists()


# --- the bundled ones ---


def test_bundled_models_are_small_and_say_what_they_are_made_of() -> None:
    names = [name for name in RECIPES if (BUNDLED / name).is_dir()]
    assert names == ["tiny-cot", "tiny-controlled", "tiny-gsm8k"]
    paths = [path for name in names for path in (BUNDLED / name).iterdir()]
    assert sum(path.stat().st_size for path in paths) < 12_000_000
    for name in names:
        made_of = json.loads((BUNDLED / name / "pretrain.json").read_text())
        assert (made_of["name"], made_of["seed"], made_of["steps"]) == (name, 0, RECIPES[name].steps)
        weights = load_file(BUNDLED / name / "model.safetensors")
        assert made_of["parameters"] == sum(weight.numel() for weight in weights.values())
        assert {weight.dtype for weight in weights.values()} == {torch.float32}


def test_the_bundled_word_tokenizer_is_the_worlds_and_gives_texts_back(
    tiny_cot: tuple[GPT2LMHeadModel, PreTrainedTokenizerFast],
) -> None:
    _, tokenizer = tiny_cot
    assert tokenizer.get_vocab() == {word: i for i, word in enumerate(world.VOCABULARY)}
    for record in world.generate(50, seed=1):
        assert tokenizer.decode(tokenizer(record.text)["input_ids"]) == record.text


@needs_gsm8k
def test_the_bundled_byte_level_tokenizer_gives_real_texts_back_exactly() -> None:
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED / "tiny-gsm8k")
    for text in [record.text for record in gsm8k_test(1319)] + ["", " \n\t ", "𝟚²½ — \u00a0\u2028\x00 日本 <|pad"]:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_bundled_tiny_controlled_answers_its_questions_and_finds_wrong_results() -> None:
    folder = BUNDLED / "tiny-controlled"
    model, tokenizer = GPT2LMHeadModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    texts = [text for text in controlled_cot.mixed(90, seed=987) if "?" in text]
    prompts = [tokenizer(text[: text.index("?") + 1])["input_ids"] for text in texts]
    written = continue_greedily(model, prompts, 120, ends=lambda added: added[-1] == tokenizer.eos_token_id)
    answers = [tokenizer.decode(added, skip_special_tokens=True).split()[-1] for added in written]
    right = np.mean([answer == text.split()[-1] for answer, text in zip(answers, texts, strict=True)])
    told = json.loads((folder / "pretrain.json").read_text())
    assert right == pytest.approx(told["answers"], abs=0.05) and told["answers"] > 0.95
    verdicts = {tokenizer.convert_tokens_to_ids(word): word for word in VERDICTS}
    found: dict[str, list[bool]] = {word: [] for word in VERDICTS}
    for text in texts:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits = model(ids).logits[0]
        for at in range(1, ids.shape[1]):
            if word := verdicts.get(int(ids[0, at])):
                found[word].append(verdicts[max(verdicts, key=lambda token: float(logits[at - 1, token]))] == word)
    assert all(len(right) > 20 and np.mean(right) > 0.9 for right in found.values())


@needs_gsm8k
def test_bundled_tiny_gsm8k_is_a_language_model_of_reasoning_text() -> None:
    model = GPT2LMHeadModel.from_pretrained(BUNDLED / "tiny-gsm8k")
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED / "tiny-gsm8k")
    texts = [record.text for record in gsm8k_test(60)]
    documents = [[*ids, tokenizer.eos_token_id] for ids in tokenizer(texts)["input_ids"]]
    loss, tokens = stage.held_out_loss(model, documents)
    told = json.loads((BUNDLED / "tiny-gsm8k" / "pretrain.json").read_text())
    assert tokens > 60 * 80
    assert loss == pytest.approx(told["held_out_loss_nats"], abs=0.15)
    words = " ".join(texts).split()
    random.Random(0).shuffle(words)
    shuffled = [tokenizer(" ".join(words[i : i + 100]))["input_ids"] for i in range(0, 3000, 100)]
    assert loss + 1.5 < stage.held_out_loss(model, shuffled)[0]


def test_bundled_tiny_cot_predicts_what_the_state_determines(
    tiny_cot: tuple[GPT2LMHeadModel, PreTrainedTokenizerFast],
) -> None:
    model, tokenizer = tiny_cot
    records = list(world.generate(250, seed=987))
    batch = tokenizer(
        [record.text for record in records], padding=True, return_offsets_mapping=True, return_tensors="pt"
    )
    with torch.no_grad():
        predicted = model(batch["input_ids"]).logits.argmax(-1)
    right: list[bool] = []
    for row, record in enumerate(records):
        token_at = {
            start: place for place, (start, end) in enumerate(batch["offset_mapping"][row].tolist()) if end > start
        }
        for start, step in world.read_steps(record):
            words = len(" ".join(step.words[:6])), len(" ".join(step.words[:7])), len(" ".join(step.words[:9]))
            chars = [start + length + 1 for length in (words[2:] if step.slipped else words)]
            right += [bool(predicted[row, token_at[c] - 1] == batch["input_ids"][row, token_at[c]]) for c in chars]
        close = token_at[len(record.text) - 1]
        right.append(bool(predicted[row, close - 1] == batch["input_ids"][row, close]))
    assert len(right) > 1500
    assert sum(right) / len(right) >= 0.99


@pytest.mark.parametrize("variable", world.VARIABLES)
def test_exchanging_class_means_in_bundled_tiny_cot_has_the_predicted_outcome(
    tiny_cot: tuple[GPT2LMHeadModel, PreTrainedTokenizerFast], variable: str
) -> None:
    model, tokenizer = tiny_cot
    fit, test = list(world.generate(300, seed=11)), list(world.generate(400, seed=12))
    sites = [
        (row, start + len(" ".join(step.words[: world.SITES[variable]])) + 1, step.value(variable))
        for row, record in enumerate(fit)
        for start, step in world.read_steps(record)
    ]
    states = states_at(model, tokenizer, [record.text for record in fit], [(row, char) for row, char, _ in sites])
    means = {
        value: states[[i for i, (*_, other) in enumerate(sites) if other == value]].mean(0)
        for value in world.VARIABLES[variable]
    }
    pairs = [pair for value in means for pair in world.interchange_pairs(test, variable, value, 12, seed=0)]
    own = {
        (record.record_id, label.start): label.value
        for record in test
        for label in record.labels
        if label.variable == variable
    }
    base = states_at(model, tokenizer, [pair.text for pair in pairs], list(enumerate(pair.char for pair in pairs)))
    source = states_at(
        model, tokenizer, [pair.source_text for pair in pairs], list(enumerate(pair.source_char for pair in pairs))
    )
    change = torch.stack([means[pair.value] - means[own[pair.base_record_id, pair.char]] for pair in pairs])
    other = torch.randn(change.shape, generator=torch.Generator().manual_seed(0))
    other *= change.norm(dim=1, keepdim=True) / other.norm(dim=1, keepdim=True)
    assert joint_success(model, tokenizer, pairs, base + change) > 0.9
    # Doing nothing, copying everything, and a random direction of the same length all fail.
    assert joint_success(model, tokenizer, pairs, base) == 0
    assert joint_success(model, tokenizer, pairs, source) < 0.15
    assert joint_success(model, tokenizer, pairs, base + other) < 0.05


def gsm8k_test(count: int) -> list[CorpusRecord]:
    config = CorpusConfig.model_validate({"name": "gsm8k", "path": GSM8K, "records": count})
    sources = [source for source in CORPORA["gsm8k"].sources(config) if source.native_split == Split.TEST]
    return [row for source in sources for row in CORPORA["gsm8k"].read(source, config) if isinstance(row, CorpusRecord)]


def located(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> tuple[Tensor, Tensor, list[dict[int, int]]]:
    batch = tokenizer(texts, padding=True, return_offsets_mapping=True, return_tensors="pt")
    token_at = [
        {start: place for place, (start, end) in enumerate(row) if end > start}
        for row in batch["offset_mapping"].tolist()
    ]
    return batch["input_ids"], batch["attention_mask"], token_at


def states_at(
    model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, texts: list[str], places: list[tuple[int, int]]
) -> Tensor:
    """Layer 1 at each (text, first character of a token): [places, d_model]."""
    ids, mask, token_at = located(tokenizer, texts)
    hidden = capture(model, ids, mask, [HERE])[HERE]
    return torch.stack([hidden[row, token_at[row][char]] for row, char in places])


def joint_success(
    model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, pairs: list[world.InterchangePair], states: Tensor
) -> float:
    ids, mask, token_at = located(tokenizer, [pair.text for pair in pairs])
    rows = torch.arange(len(pairs))
    sites = torch.tensor([places[pair.char] for places, pair in zip(token_at, pairs, strict=True)])

    def put(hidden: Tensor) -> Tensor:
        hidden = hidden.clone()
        hidden[rows, sites] = states
        return hidden

    with torch.no_grad(), splice(model, HERE, put):
        predicted = model(ids, attention_mask=mask).logits.argmax(-1)
    right = [
        all(predicted[row, places[char] - 1] == ids[row, places[char]] for char in pair.readouts)
        for row, (places, pair) in enumerate(zip(token_at, pairs, strict=True))
    ]
    return sum(right) / len(right)
