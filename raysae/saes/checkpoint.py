"""A finished SAE on disk: `cfg.json` + `sae_weights.safetensors`, which SAELens's `SAE.load_from_disk` opens as is.

SAELens knows the inference of each architecture, not ours by name: ReLU is its `standard`, and BatchTopK its `jumprelu`
with one threshold for all latents. Our own name, `k`, the provenance and the weights' SHA-256 stand in the metadata.
"""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from raysae.errors import BadInput
from raysae.saes import ARCHITECTURES, check
from raysae.saes.base import SparseAutoencoder
from raysae.saes.batch_topk import BatchTopK
from raysae.store import write_atomic, write_json

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
SAELENS_ARCHITECTURE = {"relu": "standard", "batch_topk": "jumprelu"}
SAELENS_VERSION = "6.0.0"
"""The release whose configuration layout this is."""


def save(sae: SparseAutoencoder, folder: Path, provenance: dict[str, Any]) -> None:
    """Write the folder, the configuration last; equal weights give an equal `sae_weights.safetensors`.

    `provenance` is plain JSON; its `hook_name` and `model_name` also go where SAELens looks for them.
    """
    weights = save_tensors(_tensors(sae))
    raysae = {
        "architecture": sae.architecture,
        "k": sae.k,
        "weights_sha256": sha256(weights).hexdigest(),
        "provenance": provenance,
    }
    config = {
        "architecture": SAELENS_ARCHITECTURE[sae.architecture],
        "d_in": sae.d_in,
        "d_sae": sae.d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {
            "sae_lens_version": SAELENS_VERSION,
            "hook_name": provenance.get("hook_name"),
            "model_name": provenance.get("model_name"),
            "raysae": raysae,
        },
    }
    write_atomic(folder / WEIGHTS, weights)
    write_json(folder / CONFIG, config)


def load(folder: Path) -> SparseAutoencoder:
    """The SAE that `save` wrote, on the CPU; BadInput for anything else, by what is wrong with it."""
    config = _read_config(folder)
    try:
        ours = config["metadata"]["raysae"]
        architecture, k, digest = ours["architecture"], int(ours["k"]), ours["weights_sha256"]
        d_in, d_sae = int(config["d_in"]), int(config["d_sae"])
    except (KeyError, TypeError, ValueError) as error:
        raise _unusable(folder / CONFIG, f"has no usable {error}") from error
    check(architecture, d_in, d_sae, k)
    sae = ARCHITECTURES[architecture](d_in, d_sae, k)
    path = folder / WEIGHTS
    try:
        data = path.read_bytes()
        tensors = load_tensors(data)
    except (OSError, SafetensorError) as error:
        raise _unusable(path, f"cannot be read ({error})") from error
    for name, expected in _tensors(sae).items():
        _check_tensor(path, name, expected, tensors.get(name))
    if sha256(data).hexdigest() != digest:
        raise _unusable(path, f"is not the file that {CONFIG} was written with (SHA-256 differs)")
    if isinstance(sae, BatchTopK):
        threshold = tensors.pop("threshold")
        if (threshold != threshold[0]).any():
            raise _unusable(path, "has a threshold per latent, where BatchTopK has one")
        sae.threshold.copy_(threshold[0])
    sae.load_state_dict(tensors, strict=False)
    return sae


def _tensors(sae: SparseAutoencoder) -> dict[str, Tensor]:
    """By SAELens's names and shapes."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sae.named_parameters()}
    if isinstance(sae, BatchTopK):
        tensors["threshold"] = sae.threshold.detach().cpu().expand(sae.d_sae).contiguous()
    return tensors


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unusable(path, f"cannot be read ({error})") from error
    if not isinstance(config, dict):
        raise _unusable(path, f"holds a {type(config).__name__}")
    return config


def _check_tensor(path: Path, name: str, expected: Tensor, found: Tensor | None) -> None:
    if found is None:
        raise _unusable(path, f"has no tensor {name}")
    if found.shape != expected.shape or found.dtype != expected.dtype:
        raise _unusable(
            path, f"has {name} as {_describe(found)}, where {_describe(expected)} belongs{_transposed(found, expected)}"
        )
    if not torch.isfinite(found).all():
        raise _unusable(path, f"has NaN or infinity in {name}")


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _transposed(found: Tensor, expected: Tensor) -> str:
    return " (transposed)" if found.ndim == 2 and found.T.shape == expected.shape else ""


def _unusable(path: Path, problem: str) -> BadInput:
    return BadInput(
        f"{path} {problem}",
        f"allowed: an SAE folder of raysae, {CONFIG} and {WEIGHTS} as they were written",
        "remove the folder and train it again",
    )
