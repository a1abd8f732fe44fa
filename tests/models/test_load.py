"""Loading: what is described, what is refused and how, fresh weights, tokenizers."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from raysae.errors import BadInput
from raysae.models import MODELS, ModelRow
from raysae.models.capture import capture, width
from raysae.models.compiled import is_compiled
from raysae.models.describe import ARCHITECTURES, BUNDLED
from raysae.models.families import FAMILIES, blocks, down_projection
from raysae.models.load import (
    check_reachable,
    check_tokenizer,
    describe,
    fitting_tokenizer,
    load_model,
    load_tokenizer,
    model_inputs,
    random_twin,
    tokenizer_sha256,
    vocabulary_sha256,
)
from raysae.types import SITES, HookPoint
from raysae.types.experiment import ModelConfig, ModuleNames
from raysae.types.text import TokenizerConfig

from .conftest import SMALL, words

OWN = TokenizerConfig()


def refused(match: str, action: Callable[[], Any]) -> None:
    with pytest.raises(BadInput, match=match) as error:
        action()
    assert "\n" not in str(error.value)


def weights(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: PreTrainedModel, other: PreTrainedModel) -> bool:
    left, right = weights(one), weights(other)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_every_row_is_of_a_family_and_looks_inside_itself() -> None:
    assert set(MODELS) == {
        "tiny-cot", "tiny-controlled", "tiny-gsm8k", "compiled", "compressed",
        "gpt2", "gpt2-medium", "pythia-1.4b", "gemma-2b", "llama-3-8b", "phi-2",
    }  # fmt: skip
    assert set(ARCHITECTURES.values()) == set(FAMILIES) == set(SMALL)
    for name, row in MODELS.items():
        assert row.name == name
        assert row.architecture in FAMILIES
        assert 0 < row.probe_layer < row.layers
        assert (row.hub_id is None) == row.bundled
        assert row.revision is None or len(row.revision) == 40


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("gpt2", 124.4),
        ("gpt2-medium", 354.8),
        ("pythia-1.4b", 1414.6),
        ("gemma-2b", 2506.2),
        ("llama-3-8b", 8030.3),
        ("phi-2", 2779.7),
    ],
)
def test_the_registrys_dimensions_give_the_published_number_of_parameters(name: str, millions: float) -> None:
    from raysae.models.load import registry_config

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(registry_config(MODELS[name]))
    assert type(model).__name__ == MODELS[name].architecture
    assert sum(tensor.numel() for tensor in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


def test_a_folder_is_described_by_its_config(any_folder: Path) -> None:
    row = describe(ModelConfig(path=any_folder))
    assert (row.layers, row.d_model, row.vocab_size, row.ctx_len) == (3, 16, 50, 32)
    model = load_model(ModelConfig(path=any_folder))
    assert type(model).__name__ == row.architecture
    assert len(blocks(model)) == row.layers
    down = down_projection(model, 0)
    assert isinstance(down.weight, torch.Tensor)
    assert sorted(down.weight.shape) == sorted((row.d_mlp, row.d_model))


def test_a_folder_is_loaded_as_it_was_saved_in_eval_mode(any_folder: Path) -> None:
    model = load_model(ModelConfig(path=any_folder))
    reference = AutoModelForCausalLM.from_pretrained(any_folder)
    assert same(model, reference)
    assert not model.training
    assert model.config._attn_implementation == "sdpa"
    assert next(load_model(ModelConfig(path=any_folder, dtype="bfloat16")).parameters()).dtype is torch.bfloat16


def test_fresh_weights_follow_the_seed_and_leave_the_global_generator_alone(any_folder: Path) -> None:
    before = torch.get_rng_state()
    first = load_model(ModelConfig(path=any_folder, randomize=True, seed=1))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert same(first, load_model(ModelConfig(path=any_folder, randomize=True, seed=1)))
    assert same(first, random_twin(ModelConfig(path=any_folder), seed=1))
    assert not same(first, random_twin(ModelConfig(path=any_folder), seed=2))
    assert not same(first, load_model(ModelConfig(path=any_folder)))
    assert not first.training


def test_a_randomized_model_needs_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert describe(ModelConfig(path=folder, randomize=True)).layers == 3
    load_model(ModelConfig(path=folder, randomize=True))


def test_a_named_model_is_built_from_the_registry_when_randomized(monkeypatch: pytest.MonkeyPatch) -> None:
    small = ModelRow(**{**vars(MODELS["pythia-1.4b"]), "layers": 2, "d_model": 32, "d_mlp": 48, "vocab_size": 60})
    monkeypatch.setitem(MODELS, "pythia-1.4b", small)
    model = load_model(ModelConfig(name="pythia-1.4b", randomize=True))
    assert type(model).__name__ == "GPTNeoXForCausalLM"
    assert (len(blocks(model)), model.config.vocab_size) == (2, 60)


def test_unknown_names_and_missing_folders_are_refused(tmp_path: Path) -> None:
    refused(r"model\.name='gpt3'; allowed: tiny-cot, .*phi-2; type", lambda: describe(ModelConfig(name="gpt3")))
    refused("no such folder", lambda: describe(ModelConfig(path=tmp_path / "absent")))
    refused(r"has no config\.json", lambda: describe(ModelConfig(path=tmp_path)))


def test_pickled_weights_are_refused_before_they_are_opened(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(r"pickled weights only \(pytorch_model\.bin\)", lambda: describe(ModelConfig(path=folder)))
    (folder / "pytorch_model.bin").unlink()
    refused(r"has no model\.safetensors", lambda: load_model(ModelConfig(path=folder)))


def test_a_missing_shard_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = {
        "metadata": {},
        "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused("lacks 1 of 2 shards", lambda: describe(ModelConfig(path=folder)))
    (folder / "model.safetensors.index.json").write_text("{")
    refused("cannot be read", lambda: describe(ModelConfig(path=folder)))


def test_damaged_and_incomplete_weights_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    path.write_bytes(path.read_bytes()[:-100])
    refused("cannot be loaded", lambda: load_model(ModelConfig(path=folder)))
    dropped = tensors.pop("transformer.h.1.mlp.c_fc.weight")
    save_file(tensors, path, {"format": "pt"})
    refused(r"lacks 1 weights \(transformer\.h\.1\.mlp\.c_fc\.weight", lambda: load_model(ModelConfig(path=folder)))
    save_file({**tensors, "transformer.h.1.mlp.c_fc.weight": dropped[:, :3].contiguous()}, path, {"format": "pt"})
    refused("cannot be loaded|lacks", lambda: load_model(ModelConfig(path=folder)))


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"model_type": "bert"}, "model_type bert; allowed: gpt2, gpt_neox"),
        ({"model_type": None}, "model_type None"),
        ({"architectures": ["GPT2ForSequenceClassification"]}, "holds a GPT2ForSequenceClassification"),
        ({"n_layer": "many"}, "does not describe a gpt2 model"),
    ],
)
def test_a_config_of_something_else_is_refused(folder: Path, values: dict[str, Any], match: str) -> None:
    edit(folder / "config.json", **values)
    refused(match, lambda: describe(ModelConfig(path=folder)))


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe"])
def test_a_broken_config_is_refused(folder: Path, content: bytes) -> None:
    (folder / "config.json").write_bytes(content)
    refused("cannot be read", lambda: describe(ModelConfig(path=folder)))


def test_code_in_a_folder_is_never_run(folder: Path) -> None:
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    edit(folder / "config.json", auto_map={"AutoModelForCausalLM": "evil.Model", "AutoConfig": "evil.Config"})
    load_model(ModelConfig(path=folder))
    load_model(ModelConfig(path=folder, randomize=True))
    load_tokenizer(ModelConfig(path=folder), OWN)


def test_loading_says_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_model(ModelConfig(path=folder))
    random_twin(ModelConfig(path=folder), 0)
    load_tokenizer(ModelConfig(path=folder), OWN)
    assert capfd.readouterr() == ("", "")


def test_inputs_name_the_content_and_not_the_place(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(folder, copy)
    first = model_inputs(ModelConfig(path=folder))
    assert first == model_inputs(ModelConfig(path=copy))
    assert set(first) == {"config.json", "model.safetensors"}
    random_twin(ModelConfig(path=folder), 3).save_pretrained(copy)
    assert first != model_inputs(ModelConfig(path=copy))
    assert set(model_inputs(ModelConfig(path=folder, randomize=True))) == {"config.json"}
    assert MODELS["gpt2"].revision is not None
    assert MODELS["gpt2"].revision in model_inputs(ModelConfig(name="gpt2"))["hub"]


def test_an_unreachable_hub_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    class OfTheHttpLibrary(Exception):
        pass

    def unreachable(*_: object, **__: object) -> None:
        raise OfTheHttpLibrary("Name or service not known")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", unreachable)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    refused(r"Name or service.*type model\.path=", lambda: load_model(ModelConfig(name="gpt2")))
    refused(r"Name or service.*randomize=true", lambda: check_reachable(ModelConfig(name="gpt2")))
    refused(r"accept its licence.*HF_TOKEN", lambda: check_reachable(ModelConfig(name="gemma-2b")))
    refused(r"Name or service.*type tokenizer\.path=", lambda: load_tokenizer(ModelConfig(name="gpt2"), OWN))
    check_reachable(ModelConfig(name="gpt2", randomize=True))


def test_a_folders_tokenizer_is_found_and_another_can_be_named(folder: Path, tmp_path: Path) -> None:
    own = load_tokenizer(ModelConfig(path=folder), OWN)
    assert own("w3 w4")["input_ids"] == [3, 4]
    other = tmp_path / "tokenizer"
    other.mkdir()
    words(20).save(str(other / "tokenizer.json"))
    assert len(load_tokenizer(ModelConfig(path=folder), TokenizerConfig(path=other))) == 20
    (folder / "tokenizer.json").unlink()
    refused("holds no tokenizer", lambda: load_tokenizer(ModelConfig(path=folder), OWN))


def test_a_broken_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    refused("tokenizer .* cannot be loaded", lambda: load_tokenizer(ModelConfig(path=folder), OWN))


def test_a_saved_tokenizer_keeps_its_special_tokens(folder: Path) -> None:
    PreTrainedTokenizerFast(tokenizer_object=words(50), eos_token="w1").save_pretrained(folder)
    assert load_tokenizer(ModelConfig(path=folder), OWN).eos_token_id == 1


def test_a_vocabulary_that_does_not_fit_is_refused(folder: Path) -> None:
    row = describe(ModelConfig(path=folder))
    check_tokenizer(PreTrainedTokenizerFast(tokenizer_object=words(50)), row)
    refused(
        r"ids up to 50, but model knows 50 tokens",
        lambda: check_tokenizer(PreTrainedTokenizerFast(tokenizer_object=words(51)), row),
    )


def test_a_tokenizers_hash_is_of_what_it_does_not_of_its_last_call() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words(20), pad_token="w1")
    before = tokenizer_sha256(tokenizer)
    tokenizer(["w1 w2", "w3"], padding=True, truncation=True, max_length=1)
    assert tokenizer_sha256(tokenizer) == before
    assert tokenizer_sha256(PreTrainedTokenizerFast(tokenizer_object=words(21), pad_token="w1")) != before
    assert (
        tokenizer_sha256(PreTrainedTokenizerFast(tokenizer_object=words(20), pad_token="w1", eos_token="w2")) != before
    )


def test_the_gpt2_vocabulary_from_files_is_fast_and_fits_the_model() -> None:
    files = Path(__file__).parents[3] / "shared" / "data" / "gpt2_tokenizer"
    if not files.is_dir():
        pytest.skip(f"the GPT-2 vocabulary is not at {files}")
    tokenizer = load_tokenizer(ModelConfig(name="gpt2"), TokenizerConfig(path=files))
    assert tokenizer("Natalia sold")["input_ids"] == [47849, 9752, 2702]
    check_tokenizer(tokenizer, MODELS["gpt2"])
    refused("knows 4096 tokens", lambda: check_tokenizer(tokenizer, MODELS["tiny-gsm8k"]))


def test_another_models_tokenizer_is_refused_by_size_and_by_hash(folder: Path, tmp_path: Path) -> None:
    own, other = ModelConfig(path=folder), tmp_path / "other"
    other.mkdir()
    shutil.copy(folder / "tokenizer.json", other)
    assert len(fitting_tokenizer(own, TokenizerConfig(path=other))) == 50
    definition = json.loads((other / "tokenizer.json").read_text())
    vocabulary = definition["model"]["vocab"]
    vocabulary["w1"], vocabulary["w2"] = vocabulary["w2"], vocabulary["w1"]
    (other / "tokenizer.json").write_text(json.dumps(definition))
    refused(
        r"vocabulary has sha256 .*; that of model has ", lambda: fitting_tokenizer(own, TokenizerConfig(path=other))
    )
    assert fitting_tokenizer(own.model_copy(update={"randomize": True}), TokenizerConfig(path=other))
    refused(
        "the tokenizer has 50 tokens; that of pythia-1.4b has 50277",
        lambda: fitting_tokenizer(ModelConfig(name="pythia-1.4b"), TokenizerConfig(path=other)),
    )


def test_the_gpt2_vocabulary_has_the_hash_that_is_on_record() -> None:
    files = Path(__file__).parents[3] / "shared" / "data" / "gpt2_tokenizer"
    if not files.is_dir():
        pytest.skip(f"the GPT-2 vocabulary is not at {files}")
    tokenizer = fitting_tokenizer(ModelConfig(name="gpt2"), TokenizerConfig(path=files))
    assert len(tokenizer) == MODELS["gpt2"].tokens
    assert vocabulary_sha256(tokenizer) == MODELS["gpt2-medium"].vocabulary_sha256


@pytest.mark.parametrize("name", [name for name, row in MODELS.items() if row.bundled])
def test_a_bundled_model_is_what_its_row_says(name: str) -> None:
    if not (is_compiled(ModelConfig(name=name)) or (BUNDLED / name / "config.json").is_file()):
        refused("not in this installation", lambda: describe(ModelConfig(name=name)))
        pytest.skip(f"{name} is not in this checkout")
    row = describe(ModelConfig(name=name))
    assert row == MODELS[name]
    assert len(blocks(load_model(ModelConfig(name=name)))) == row.layers
    check_tokenizer(load_tokenizer(ModelConfig(name=name), OWN), row)


OPT = {"stack": "model.decoder.layers", "attention": "self_attn", "mlp": "fc2", "down": ""}
"""OPT has no module for its MLP: the down-projection stands for it."""
OLMO = {"stack": "model.layers", "attention": "self_attn", "down": "down_proj"}
SIZES = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (transformers.OPTConfig(**SIZES, ffn_dim=24, word_embed_proj_dim=16, max_position_embeddings=32), OPT),
        (transformers.OlmoConfig(**SIZES, intermediate_size=24, max_position_embeddings=32, eos_token_id=1), OLMO),
    ],
)
def test_any_architecture_of_transformers_is_read_by_the_names_of_its_modules(
    config: Any, names: dict[str, str], tmp_path: Path
) -> None:
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    refused(
        f"is of model_type {config.model_type}; .*any causal language model of transformers with model.modules",
        lambda: describe(ModelConfig(path=tmp_path)),
    )
    named = ModelConfig(path=tmp_path, modules=ModuleNames(**names))
    row = describe(named)
    assert (row.layers, row.d_model, row.d_mlp) == (3, 16, 24)
    points = [HookPoint.parse(f"layers.1.{site}") for site in SITES]
    ids = torch.tensor([[3, 5, 7, 9]])
    for model in (load_model(named), random_twin(named, 1)):
        seen = capture(model, ids, torch.ones_like(ids), points)
        with torch.no_grad():
            states = model(ids, output_hidden_states=True).hidden_states
        assert torch.equal(seen[points[SITES.index("resid_post")]], states[2])
        assert torch.equal(seen[points[SITES.index("resid_pre")]], states[1])
        for point in points:
            assert seen[point].shape[-1] == width(row, point)


@pytest.mark.parametrize("key", ["stack", "attention", "mlp", "down"])
def test_a_module_that_is_not_there_is_named_beside_those_that_are(key: str, tmp_path: Path) -> None:
    transformers.OlmoConfig(**SIZES, intermediate_size=24).save_pretrained(tmp_path)
    names = ModuleNames(**{**OLMO, key: "nowhere"})
    there = {"stack": "model.layers", "attention": "mlp", "mlp": "self_attn", "down": "down_proj"}[key]
    refused(
        f"model.modules.{key}=nowhere leads nowhere in a olmo model; there are: .*{there}",
        lambda: describe(ModelConfig(path=tmp_path, randomize=True, modules=names)),
    )


def test_modules_belong_to_a_folder() -> None:
    with pytest.raises(ValueError, match="model.modules without model.path"):
        ModelConfig(modules=ModuleNames(**OLMO))


def test_the_attention_kernel_is_the_one_that_was_named(folder: Path) -> None:
    for kernel in ("sdpa", "eager"):
        config = ModelConfig(path=folder, attention=kernel)
        assert load_model(config).config._attn_implementation == kernel
        assert random_twin(config, 0).config._attn_implementation == kernel


def test_a_model_is_spread_over_devices_only_where_it_may_be(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ModelConfig(path=folder, device_map="auto")
    assert load_model(config).device.type == "cpu"  # the court reads on the CPU, whatever capture does
    monkeypatch.setattr("raysae.models.load.find_spec", lambda name: None)
    refused("model.device_map=auto; allowed: with the package accelerate", lambda: check_reachable(config))
