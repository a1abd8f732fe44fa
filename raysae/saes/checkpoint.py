"""A finished SAE on disk: `cfg.json` + `sae_weights.safetensors`, which SAELens's `SAE.load_from_disk` opens as is.

SAELens knows the inference of each architecture, not ours by name: ReLU is its `standard`, and BatchTopK, Matryoshka or
not, its `jumprelu` with one threshold for all latents. The bias of a gated SAE's gate is its `b_gate`. Our own name,
`k`, the provenance and the weights' SHA-256 stand in the metadata.
"""

from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import save as save_tensors
from torch import Tensor

from raysae.errors import BadInput
from raysae.saes import ARCHITECTURES, check
from raysae.saes.base import SparseAutoencoder
from raysae.saes.batch_topk import BatchTopK
from raysae.saes.files import Refuse, check_tensor, read_json, read_tensors
from raysae.store import write_atomic, write_json

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
SAELENS_ARCHITECTURE = {
    "relu": "standard",
    "topk": "topk",
    "batch_topk": "jumprelu",
    "jumprelu": "jumprelu",
    "gated": "gated",
    "matryoshka_batch_topk": "jumprelu",
}
SAELENS_TENSOR = {"gated": {"b_enc": "b_gate"}}
"""By architecture, what SAELens calls a tensor of ours."""
SAELENS_VERSION = "6.0.0"
"""The release whose configuration layout this is."""


def save(sae: SparseAutoencoder, folder: Path, provenance: dict[str, Any]) -> None:
    """Write the folder, the configuration last; equal weights give an equal `sae_weights.safetensors`.

    `provenance` is plain JSON; its `hook_name` and `model_name` also go where SAELens looks for them.
    """
    weights = _bytes(sae)
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
        **({"k": sae.k, "rescale_acts_by_decoder_norm": False} if sae.architecture == "topk" else {}),
        "metadata": {
            "sae_lens_version": SAELENS_VERSION,
            "hook_name": provenance.get("hook_name"),
            "model_name": provenance.get("model_name"),
            "raysae": raysae,
        },
    }
    write_atomic(folder / WEIGHTS, weights)
    write_json(folder / CONFIG, config)


def digest(sae: SparseAutoencoder) -> str:
    """SHA-256 of the file of weights that `save` would write."""
    return sha256(_bytes(sae)).hexdigest()


def _bytes(sae: SparseAutoencoder) -> bytes:
    return save_tensors(named_tensors(sae))


class Header(NamedTuple):
    """What is known of an SAE without its weights."""

    architecture: str
    d_in: int
    d_sae: int
    k: int
    weights_sha256: str


def header(folder: Path) -> Header:
    """Of the SAE that `save` wrote; BadInput for anything else."""
    config = read_json(folder / CONFIG, _unusable)
    try:
        ours = config["metadata"]["raysae"]
        sizes = int(config["d_in"]), int(config["d_sae"]), int(ours["k"])
        return Header(ours["architecture"], *sizes, ours["weights_sha256"])
    except (KeyError, TypeError, ValueError) as error:
        raise _unusable(folder / CONFIG, f"has no usable {error}") from error


def load(folder: Path) -> SparseAutoencoder:
    """The SAE that `save` wrote, on the CPU; BadInput for anything else, by what is wrong with it."""
    architecture, d_in, d_sae, k, digest = header(folder)
    check(architecture, d_in, d_sae, k)
    sae = ARCHITECTURES[architecture](d_in, d_sae, k)
    path = folder / WEIGHTS
    tensors, data = read_tensors(path, _unusable)
    for name, expected in named_tensors(sae).items():
        check_tensor(path, name, tuple(expected.shape), expected.dtype, tensors.get(name), _unusable)
    if sha256(data).hexdigest() != digest:
        raise _unusable(path, f"is not the file that {CONFIG} was written with (SHA-256 differs)")
    fill(sae, tensors, path, _unusable)
    return sae


def provenance(folder: Path) -> dict[str, Any]:
    """What `save` was told about the SAE in a folder that `load` accepts."""
    return read_json(folder / CONFIG, _unusable)["metadata"]["raysae"]["provenance"]


def fill(sae: SparseAutoencoder, tensors: dict[str, Tensor], path: Path, refuse: Refuse) -> None:
    """Copy checked tensors, by SAELens's names and shapes, into an SAE of that size."""
    tensors = dict(tensors)
    if isinstance(sae, BatchTopK):
        threshold = tensors.pop("threshold")
        if (threshold != threshold[0]).any():
            raise refuse(path, "has a threshold per latent, where BatchTopK has one")
        sae.threshold.copy_(threshold[0])
    theirs = SAELENS_TENSOR.get(sae.architecture, {})
    for name, parameter in sae.named_parameters():
        parameter.data.copy_(tensors[theirs.get(name, name)])


def tensor_bytes(folder: Path) -> int:
    """Of the numbers in the file of weights, its header aside."""
    path = folder / WEIGHTS
    with path.open("rb") as file:
        return path.stat().st_size - 8 - int.from_bytes(file.read(8), "little")


def named_tensors(sae: SparseAutoencoder) -> dict[str, Tensor]:
    """By SAELens's names and shapes."""
    theirs = SAELENS_TENSOR.get(sae.architecture, {})
    tensors = {theirs.get(n, n): tensor.detach().cpu().contiguous() for n, tensor in sae.named_parameters()}
    if isinstance(sae, BatchTopK):
        tensors["threshold"] = sae.threshold.detach().cpu().expand(sae.d_sae).contiguous()
    return tensors


def _unusable(path: Path, problem: str) -> BadInput:
    return BadInput(
        f"{path} {problem}",
        f"allowed: an SAE folder of raysae, {CONFIG} and {WEIGHTS} as they were written",
        "remove the folder and train it again",
    )
