"""The SAE folder: what is written is what is read, and anything else is refused by name."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from raysae.errors import BadInput
from raysae.saes import ARCHITECTURES, BatchTopK, build
from raysae.saes.checkpoint import load, save

WEIGHTS = "sae_weights.safetensors"


def folder_of(architecture: str, tmp_path, threshold: float = 0.25):
    sae = build(architecture, 5, 12, 3, 0).requires_grad_(False)
    sae.b_enc.normal_(generator=torch.Generator().manual_seed(1))
    if isinstance(sae, BatchTopK):
        sae.threshold.fill_(threshold)
    for name in {"threshold", "r_mag", "b_mag"} & dict(sae.named_parameters()).keys():
        getattr(sae, name).uniform_(0.01, 0.1, generator=torch.Generator().manual_seed(2))
    save(sae, tmp_path / "sae", {"hook_name": "layers.1.resid_post", "model_name": "tiny-cot", "seed": 4})
    return sae, tmp_path / "sae"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_saved_sae_loads_with_the_same_bits(architecture, tmp_path):
    sae, folder = folder_of(architecture, tmp_path)
    loaded = load(folder)
    assert (type(loaded), loaded.k) == (type(sae), sae.k)
    for name, tensor in sae.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    assert sorted(path.name for path in folder.iterdir()) == ["cfg.json", WEIGHTS]


FOUR = {"W_enc": (5, 12), "W_dec": (12, 5), "b_enc": (12,), "b_dec": (5,)}
PER_LATENT = (12,)
THEIRS = {
    "relu": ("standard", FOUR),
    "topk": ("topk", FOUR),
    "batch_topk": ("jumprelu", FOUR | {"threshold": PER_LATENT}),
    "jumprelu": ("jumprelu", FOUR | {"threshold": PER_LATENT}),
    "matryoshka_batch_topk": ("jumprelu", FOUR | {"threshold": PER_LATENT}),
    "gated": (
        "gated",
        {"W_enc": (5, 12), "W_dec": (12, 5), "b_dec": (5,)} | dict.fromkeys(("b_gate", "r_mag", "b_mag"), PER_LATENT),
    ),
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_configuration_is_the_one_saelens_reads(architecture, tmp_path):
    _, folder = folder_of(architecture, tmp_path)
    config = json.loads((folder / "cfg.json").read_text())
    metadata = config.pop("metadata")
    theirs, tensors = THEIRS[architecture]
    assert config == {
        "architecture": theirs,
        "d_in": 5,
        "d_sae": 12,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        **({"k": 3, "rescale_acts_by_decoder_norm": False} if architecture == "topk" else {}),
    }
    assert metadata["sae_lens_version"] >= "6.0.0"
    assert (metadata["hook_name"], metadata["model_name"]) == ("layers.1.resid_post", "tiny-cot")
    assert metadata["raysae"]["provenance"]["seed"] == 4
    assert {name: tuple(tensor.shape) for name, tensor in load_file(folder / WEIGHTS).items()} == tensors


def test_saving_again_replaces_the_weights(tmp_path):
    folder_of("batch_topk", tmp_path)
    sae, folder = folder_of("batch_topk", tmp_path, threshold=0.5)
    assert float(load(folder).threshold) == float(sae.threshold) == 0.5


def _rewrite(folder, change):
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


DAMAGES = {
    "has no tensor b_enc": lambda tensors: tensors.pop("b_enc"),
    r"has W_enc as float32 \[12, 5\], where float32 \[5, 12\] belongs \(transposed\)": lambda tensors: tensors.update(
        W_enc=tensors["W_enc"].T.contiguous()
    ),
    r"has W_dec as float32 \[11, 5\]": lambda tensors: tensors.update(W_dec=tensors["W_dec"][1:].contiguous()),
    r"has b_dec as float16 \[5\]": lambda tensors: tensors.update(b_dec=tensors["b_dec"].half()),
    "has NaN or infinity in W_dec": lambda tensors: tensors["W_dec"][0].fill_(float("nan")),
    "SHA-256 differs": lambda tensors: tensors["b_dec"].add_(1),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_a_damaged_tensor_is_refused_by_name(message, tmp_path):
    _, folder = folder_of("batch_topk", tmp_path)
    _rewrite(folder, DAMAGES[message])
    with pytest.raises(BadInput, match=message):
        load(folder)


def test_half_a_file_is_refused(tmp_path):
    _, folder = folder_of("relu", tmp_path)
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])
    with pytest.raises(BadInput, match="sae_weights.safetensors cannot be read"):
        load(folder)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(BadInput, match="cfg.json cannot be read"):
        load(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("architecture", "vanilla", "sae.architecture=vanilla; allowed: relu, topk, batch_topk"),
        ("k", 13, "sae.k=13 with d_sae=12"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(key, value, message, tmp_path):
    _, folder = folder_of("batch_topk", tmp_path)
    config = json.loads((folder / "cfg.json").read_text())
    config["metadata"]["raysae"][key] = value
    (folder / "cfg.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match=message):
        load(folder)


def test_a_configuration_without_our_metadata_is_refused(tmp_path):
    _, folder = folder_of("relu", tmp_path)
    config = json.loads((folder / "cfg.json").read_text())
    del config["metadata"]["raysae"]
    (folder / "cfg.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match="cfg.json has no usable 'raysae'"):
        load(folder)
