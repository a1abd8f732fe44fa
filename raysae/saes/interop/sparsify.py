"""sparsify: `cfg.json` + `sae.safetensors` with `encoder.weight [d_sae, d_in]` and `W_dec [d_sae, d_in]`.

It knows a top-k per token and nothing else. A ReLU SAE is a top-k of all its latents; a threshold has no counterpart.
(SAELens's own loader of these folders transposes W_dec and drops the top-k, so it proves nothing about them.)
"""

from pathlib import Path
from typing import Any

from safetensors.torch import save as save_tensors

from raysae.errors import BadInput
from raysae.saes.base import SparseAutoencoder
from raysae.saes.files import read_json, read_tensors
from raysae.saes.interop.form import DTYPES, Imported, assemble, checked, refuse
from raysae.store import write_atomic, write_json

CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"
FILES = (WEIGHTS,)
NO_COUNTERPART = {"activation": "topk", "skip_connection": False, "transcode": False}
"""Options of theirs that change what is computed, with the value an SAE of ours has."""


def write(sae: SparseAutoencoder, provenance: dict[str, Any], folder: Path) -> None:
    if sae.architecture not in ("topk", "relu"):
        raise BadInput(
            f"a {sae.architecture} SAE has no counterpart in sparsify",
            "allowed: topk, and relu as a top-k of all its latents",
            "type --to saelens, which has all",
        )
    tensors = {
        "encoder.weight": sae.W_enc.T,
        "encoder.bias": sae.b_enc,
        "W_dec": sae.W_dec,
        "b_dec": sae.b_dec,
    }
    config = {
        **NO_COUNTERPART,
        "d_in": sae.d_in,
        "num_latents": sae.d_sae,
        "expansion_factor": max(1, sae.d_sae // sae.d_in),
        "k": sae.k if sae.architecture == "topk" else sae.d_sae,
        "multi_topk": False,
        "normalize_decoder": True,
        "raysae": {"architecture": sae.architecture, "provenance": provenance},
    }
    data = save_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    write_atomic(folder / WEIGHTS, data)
    write_json(folder / CONFIG, config)


def read(folder: Path) -> Imported:
    path = folder / CONFIG
    config = read_json(path, refuse)
    for name, value in NO_COUNTERPART.items():
        if config.get(name, value) != value:
            raise refuse(path, f"has {name}={config[name]}, where {value} belongs")
    try:
        d_in, k = int(config["d_in"]), int(config["k"])
        d_sae = int(config.get("num_latents") or d_in * int(config["expansion_factor"]))
    except (KeyError, TypeError, ValueError) as error:
        raise refuse(path, f"has no usable {error}") from error
    weights = folder / WEIGHTS
    found, _ = read_tensors(weights, refuse)
    shapes = {"encoder.weight": (d_sae, d_in), "encoder.bias": (d_sae,), "W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    dtype = next((tensor.dtype for tensor in found.values() if tensor.dtype in DTYPES.values()), DTYPES["float32"])
    theirs = checked(weights, found, shapes, dtype)
    tensors = {
        "W_enc": theirs["encoder.weight"].T,
        "b_enc": theirs["encoder.bias"],
        "W_dec": theirs["W_dec"],
        "b_dec": theirs["b_dec"],
    }
    kind = "standard" if k == d_sae else "topk"
    ours = config.get("raysae")
    provenance = ours.get("provenance", {}) if isinstance(ours, dict) else {}
    sae = assemble(weights, kind, k if kind == "topk" else 0, tensors)
    return Imported(
        sae, {**provenance, "imported_from": "sparsify", "source": {"folder": folder.name, "config": config}}
    )
