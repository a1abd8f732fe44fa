"""Other libraries' folders: what goes out comes back with the same bits, and what cannot be said is refused by name."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from raysae.errors import BadInput
from raysae.saes import ARCHITECTURES, BatchTopK, build, checkpoint
from raysae.saes.interop import LIBRARIES, library, recognise
from raysae.stages.export import bring_in, export
from tests.runs import in_process

PROVENANCE = {"hook_name": "layers.1.mlp_hidden", "model_name": "tiny-cot", "arm": "main", "seed": 4}
HAS_NO = {(architecture, "sparsify") for architecture in ("batch_topk", "matryoshka_batch_topk", "jumprelu", "gated")}
PAIRS = [(a, name) for a in ARCHITECTURES for name in LIBRARIES]


def trained(architecture: str, d_in: int = 6, d_sae: int = 16):
    """Off its initial values, decoder rows of norm 1."""
    sae = build(architecture, d_in, d_sae, 3, 0).requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    sae.W_enc.normal_(generator=generator)
    sae.b_enc.normal_(std=0.3, generator=generator)
    sae.b_dec.normal_(generator=generator)
    if isinstance(sae, BatchTopK):
        sae.threshold.fill_(0.25)
    for name in {"threshold", "r_mag", "b_mag"} & dict(sae.named_parameters()).keys():
        getattr(sae, name).uniform_(0.01, 0.1, generator=generator)
    return sae


def ours(architecture: str, folder: Path) -> Path:
    checkpoint.save(trained(architecture), folder, PROVENANCE)
    return folder


@pytest.mark.parametrize(("architecture", "to"), PAIRS)
def test_an_exported_sae_comes_back_or_is_refused_before_anything_is_written(architecture, to, tmp_path):
    source, out = ours(architecture, tmp_path / "ours"), tmp_path / "out"
    if (architecture, to) in HAS_NO:
        with pytest.raises(BadInput, match=f"a {architecture} SAE has no counterpart in {to}; allowed: (topk|relu), "):
            export(source, to, out)
        assert not out.exists()
        return
    export(source, to, out)
    assert recognise(out) == to
    (out / "ae.pt").unlink(missing_ok=True)
    bring_in(out, tmp_path / "back")
    before, after = checkpoint.load(source), checkpoint.load(tmp_path / "back")
    assert type(after) is type(before)
    for name, tensor in before.state_dict().items():
        if (architecture, to, name) == ("jumprelu", "dictionary_learning", "b_enc"):  # b_dec went into it and out again
            torch.testing.assert_close(after.state_dict()[name], tensor)
        else:
            assert torch.equal(after.state_dict()[name], tensor), name
    assert checkpoint.provenance(tmp_path / "back")["imported_from"] == to


def test_saelens_gets_its_own_hook_name_and_ours_beside_it(tmp_path):
    export(ours("relu", tmp_path / "ours"), "saelens", tmp_path / "out")
    metadata = json.loads((tmp_path / "out" / "cfg.json").read_text())["metadata"]
    assert metadata["hook_name"] == "blocks.1.mlp.hook_post"
    assert metadata["sae_lens_version"] >= "6.0.0"
    assert metadata["raysae"]["provenance"] == PROVENANCE | {
        "hook_name": "blocks.1.mlp.hook_post",
        "hook_point": "layers.1.mlp_hidden",
    }


def test_sparsify_gets_the_encoder_as_rows_of_latents(tmp_path):
    export(ours("relu", tmp_path / "ours"), "sparsify", tmp_path / "out")
    tensors = load_file(tmp_path / "out" / "sae.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        "encoder.weight": (16, 6), "encoder.bias": (16,), "W_dec": (16, 6), "b_dec": (6,),
    }  # fmt: skip
    assert json.loads((tmp_path / "out" / "cfg.json").read_text())["k"] == 16


def foreign(folder: Path, change=lambda tensors: None, **config) -> Path:
    """A jumprelu folder as SAELens writes it, one threshold per latent, decoder norms of 2."""
    generator = torch.Generator().manual_seed(3)
    tensors = {
        "W_enc": torch.randn(6, 16, generator=generator),
        "W_dec": torch.randn(16, 6, generator=generator),
        "b_enc": torch.randn(16, generator=generator),
        "b_dec": torch.randn(6, generator=generator),
    }
    settings = {"architecture": "standard", "d_in": 6, "d_sae": 16, "dtype": "float32", **config}
    change(tensors)
    folder.mkdir()
    save_file(tensors, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize("subtracts", [True, False])
def test_decoder_norms_and_a_missing_input_bias_are_folded_without_changing_the_reconstruction(subtracts, tmp_path):
    folder = foreign(tmp_path / "theirs", apply_b_dec_to_input=subtracts)
    theirs = load_file(folder / "sae_weights.safetensors")
    x = torch.randn(30, 6, generator=torch.Generator().manual_seed(4))
    latents = ((x - theirs["b_dec"] if subtracts else x) @ theirs["W_enc"] + theirs["b_enc"]).relu()
    sae, _ = library("saelens").read(folder)
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(16))
    torch.testing.assert_close(sae(x).latents, latents * theirs["W_dec"].norm(dim=1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sae(x).reconstruction, latents @ theirs["W_dec"] + theirs["b_dec"], rtol=1e-5, atol=1e-5)


def test_half_precision_is_read_as_it_is_declared(tmp_path):
    def halve(tensors):
        tensors.update({name: tensor.bfloat16() for name, tensor in tensors.items()})

    sae, _ = library("saelens").read(foreign(tmp_path / "theirs", halve, dtype="bfloat16"))
    assert {tensor.dtype for tensor in sae.state_dict().values()} == {torch.float32}


DAMAGES = {
    "has no tensor W_dec": lambda tensors: tensors.pop("W_dec"),
    r"has W_enc as float32 \[16, 6\], where float32 \[6, 16\] belongs \(transposed\)": lambda tensors: tensors.update(
        W_enc=tensors["W_enc"].T.contiguous()
    ),
    r"has b_enc as float16 \[16\], where float32 \[16\] belongs": lambda tensors: tensors.update(
        b_enc=tensors["b_enc"].half()
    ),
    "has NaN or infinity in b_dec": lambda tensors: tensors["b_dec"].fill_(float("nan")),
    "has a tensor scaling_factor that this kind of SAE does not know": lambda tensors: tensors.update(
        scaling_factor=torch.ones(16)
    ),
    "has W_dec with 2 rows of norm 0": lambda tensors: tensors["W_dec"][:2].zero_(),
}
SETTINGS = {
    "has architecture=temporal, where one of standard, ": {"architecture": "temporal"},
    "has normalize_activations=layer_norm, where none belongs": {"normalize_activations": "layer_norm"},
    "has dtype=float64": {"dtype": "float64"},
    "has no usable invalid literal": {"d_sae": "many"},
}


@pytest.mark.parametrize("said", [*DAMAGES, *SETTINGS])
def test_a_saelens_folder_with_something_wrong_is_refused_by_name(said, tmp_path):
    folder = foreign(tmp_path / "theirs", DAMAGES.get(said, lambda tensors: None), **SETTINGS.get(said, {}))
    with pytest.raises(BadInput, match=said):
        bring_in(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("setting", "value"), [("activation", "groupmax"), ("skip_connection", True), ("transcode", True)]
)
def test_a_sparsify_folder_that_computes_something_else_is_refused(setting, value, tmp_path):
    export(ours("relu", tmp_path / "ours"), "sparsify", tmp_path / "out")
    path = tmp_path / "out" / "cfg.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {setting: value}))
    with pytest.raises(BadInput, match=f"has {setting}={value}, where"):
        library("sparsify").read(tmp_path / "out")


def test_a_pickle_is_not_read_and_the_cure_is_a_command_that_works(tmp_path, monkeypatch):
    export(ours("batch_topk", tmp_path / "ours"), "dictionary_learning", tmp_path / "out")
    (tmp_path / "out" / "ae.safetensors").unlink()
    with pytest.raises(BadInput, match="ae.pt is a pickle, which is never read; allowed: ae.safetensors") as caught:
        bring_in(tmp_path / "out", tmp_path / "back")
    monkeypatch.chdir(tmp_path / "out")
    exec(str(caught.value).split('python -c "')[1].removesuffix('"'))
    bring_in(tmp_path / "out", tmp_path / "back")
    assert torch.equal(checkpoint.load(tmp_path / "back").W_enc, trained("batch_topk").W_enc)


def test_the_command_line_exports_with_a_card_and_imports_again(tmp_path):
    ours("batch_topk", tmp_path / "run" / "sae" / "main" / "0")
    ours("relu", tmp_path / "run" / "sae" / "main" / "1")
    done = in_process("export", str(tmp_path / "run"), "--to", "saelens", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "out" / "README.md").read_text()
    assert "library_name: saelens" in card
    assert "SAE.load_from_disk" in card
    assert "Nothing has been decided" in card
    again = in_process("import", str(tmp_path / "out"), str(tmp_path / "back"))
    assert again.returncode == 0, again.stderr
    assert checkpoint.load(tmp_path / "back").architecture == "batch_topk"
    other = in_process("export", str(tmp_path / "run"), str(tmp_path / "relu"), "--to", "sparsify", "--seed", "1")
    assert other.returncode == 0, other.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("export", "run", "out", "--to", "onnx"), "--to onnx; allowed: saelens, sparsify, dictionary_learning"),
        (("export", "run", "out", "--seed", "7"), "--arm main --seed 7; there are, as <arm>/<seed>: main/0"),
        (("export", "nowhere", "out"), "nowhere holds no SAE"),
        (("export", "run", "run"), "run is not empty"),
        (("import", "run", "out"), "run holds no SAE; allowed: a folder with one of sae_weights.safetensors"),
    ],
)
def test_bad_arguments_exit_2_with_one_line_and_write_nothing(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ours("relu", tmp_path / "run" / "sae" / "main" / "0")
    done = in_process(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not Path("out").exists()


def test_the_card_of_a_run_says_what_was_decided(undisturbed, tmp_path):
    export(undisturbed, "saelens", tmp_path / "out")
    page = (tmp_path / "out" / "README.md").read_text()
    outcome = json.loads((undisturbed / "verdict.json").read_text())["criteria"]["reconstruction"]["outcome"]
    assert f"| reconstruction | {outcome}" in page
    assert "exploratory, so that it opens no gate" in page
