"""SAELens: `cfg.json` + `sae_weights.safetensors`, which is how our own SAE folders are kept (checkpoint.py).

BatchTopK and its kin are its `jumprelu` with one threshold; our architecture and `k` stand in the metadata, so that an
SAE that comes back is what it was.
"""

from pathlib import Path
from typing import Any

from raysae.saes import ARCHITECTURES, checkpoint
from raysae.saes.base import SparseAutoencoder
from raysae.saes.checkpoint import CONFIG, SAELENS_ARCHITECTURE, WEIGHTS
from raysae.saes.files import read_json, read_tensors
from raysae.saes.interop.form import DTYPES, OURS, Imported, assemble, checked, move_b_dec, refuse, tensor_shapes
from raysae.types import HookPoint

FILES = (WEIGHTS,)
HOOKS = {
    "resid_post": "hook_resid_post",
    "mlp_hidden": "mlp.hook_post",
    "mlp_out": "hook_mlp_out",
    "resid_pre": "hook_resid_pre",
    "attn_out": "hook_attn_out",
}
"""Our sites by the names of the models SAELens runs on."""


def write(sae: SparseAutoencoder, provenance: dict[str, Any], folder: Path) -> None:
    """The hook point goes under the name SAELens's users look for; ours stays beside it."""
    name = provenance.get("hook_name")
    known = {"hook_name": _hook(name), "hook_point": name} if name else {}
    checkpoint.save(sae, folder, provenance | known)


def _hook(name: str) -> str:
    try:
        point = HookPoint.parse(name)
    except ValueError:
        return name  # of an imported SAE: already theirs
    return f"blocks.{point.layer}.{HOOKS[point.site]}"


def read(folder: Path) -> Imported:
    """Any inference SAE of theirs that reads its activations as they are."""
    path = folder / CONFIG
    config = read_json(path, refuse)
    kind = config.get("architecture")
    if kind not in OURS:
        raise refuse(path, f"has architecture={kind}, where one of {', '.join(OURS)} belongs")
    for name in ("normalize_activations", "reshape_activations"):
        if config.get(name, "none") != "none":
            raise refuse(path, f"has {name}={config[name]}, where none belongs: fold it into the weights first")
    dtype = config.get("dtype")
    if dtype not in DTYPES:
        raise refuse(path, f"has dtype={dtype}, where one of {', '.join(DTYPES)} belongs")
    try:
        d_in, d_sae, k = int(config["d_in"]), int(config["d_sae"]), int(config.get("k", 0))
    except (KeyError, TypeError, ValueError) as error:
        raise refuse(path, f"has no usable {error}") from error
    weights = folder / WEIGHTS
    found, _ = read_tensors(weights, refuse)
    tensors = checked(weights, found, tensor_shapes(kind, d_in, d_sae), DTYPES[dtype])
    if not config.get("apply_b_dec_to_input", True):
        if kind == "gated":
            raise refuse(path, "has a gated SAE with apply_b_dec_to_input=false, where true belongs")
        tensors["b_enc"] = move_b_dec(tensors, +1)
    metadata = config["metadata"] if isinstance(config.get("metadata"), dict) else {}
    architecture, k = _ours(metadata, kind, k)
    sae = assemble(weights, kind, k, tensors, bool(config.get("rescale_acts_by_decoder_norm")), architecture)
    names = {name: metadata.get(name) for name in ("hook_name", "model_name")}
    return Imported(sae, {**names, "imported_from": "saelens", "source": metadata})


def _ours(metadata: dict[str, Any], kind: str, k: int) -> tuple[str, int]:
    """(architecture, k): what our own metadata says of a folder that came from us, if it fits the kind."""
    ours = metadata.get("raysae")
    if isinstance(ours, dict) and ours.get("architecture") in ARCHITECTURES:
        name = ours["architecture"]
        if SAELENS_ARCHITECTURE[name] == kind and isinstance(ours.get("k"), int):
            return name, ours["k"]
    return OURS[kind], k
