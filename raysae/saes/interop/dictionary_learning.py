"""dictionary_learning: `config.json` + `ae.pt`, a pickle of tensors.

We never read a pickle, so an import asks for the same tensors as `ae.safetensors` and says how to make it. Writing
one is no risk to anybody: `ae.pt` is a plain dictionary of tensors, which their loader opens in torch's mode that
runs no code; the export holds both files, so that it can come back.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor

from raysae.errors import BadInput
from raysae.saes.base import SparseAutoencoder
from raysae.saes.checkpoint import named_tensors
from raysae.saes.files import read_json, read_tensors
from raysae.saes.interop.form import DTYPES, Imported, assemble, checked, move_b_dec, refuse
from raysae.store import write_atomic, write_json

CONFIG, PICKLE, WEIGHTS = "config.json", "ae.pt", "ae.safetensors"
FILES = (PICKLE, WEIGHTS)
CONVERT = (
    'in an environment you trust it in, type python -c "import torch; from safetensors.torch import save_file as s; '
    "s({n: t.contiguous() for n, t in torch.load('ae.pt', weights_only=True).items()}, 'ae.safetensors')\""
)

Shapes = dict[str, tuple[int, ...]]


class _Class(NamedTuple):
    """One of their dictionary classes."""

    kind: str
    """Of inference, by SAELens's word."""
    ours_named: tuple[str, ...]
    """The architectures of ours that compute this; the first, where the folder does not say which it was."""
    shapes: Callable[[int, int], Shapes]
    """(d_in, d_sae) -> their tensors."""
    ours: Callable[[dict[str, Tensor]], dict[str, Tensor]]
    theirs: Callable[[SparseAutoencoder, dict[str, Tensor]], dict[str, Tensor]] | None
    """Null: read, not written."""


def _linear(d_in: int, d_sae: int) -> Shapes:
    return {"encoder.weight": (d_sae, d_in), "encoder.bias": (d_sae,), "decoder.weight": (d_in, d_sae)}


def _with_k(d_in: int, d_sae: int) -> Shapes:
    return _linear(d_in, d_sae) | {"b_dec": (d_in,), "k": (), "threshold": ()}


def _matrices(d_in: int, d_sae: int) -> Shapes:
    return {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_in), "b_enc": (d_sae,), "b_dec": (d_in,)}


def _from_linear(tensors: dict[str, Tensor], bias: str) -> dict[str, Tensor]:
    return {
        "W_enc": tensors["encoder.weight"].T,
        "b_enc": tensors["encoder.bias"],
        "W_dec": tensors["decoder.weight"].T,
        "b_dec": tensors[bias],
    }


def _to_linear(tensors: dict[str, Tensor], bias: str) -> dict[str, Tensor]:
    return {
        "encoder.weight": tensors["W_enc"].T,
        "encoder.bias": tensors["b_enc"],
        "decoder.weight": tensors["W_dec"].T,
        bias: tensors["b_dec"],
    }


def _one_threshold(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"threshold": tensors["threshold"].expand(len(tensors["encoder.bias"]))}


def _to_with_k(sae: SparseAutoencoder, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A top-k has no threshold of its own: -1, as theirs before one was measured."""
    threshold = tensors["threshold"][0] if "threshold" in tensors else torch.tensor(-1.0)
    return _to_linear(tensors, "b_dec") | {"k": torch.tensor(sae.k, dtype=torch.int32), "threshold": threshold}


def _without_input_bias(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return tensors | {"b_enc": move_b_dec(tensors, +1)}


CLASSES: dict[str, _Class] = {
    "AutoEncoder": _Class(
        "standard",
        ("relu",),
        lambda d_in, d_sae: _linear(d_in, d_sae) | {"bias": (d_in,)},
        lambda tensors: _from_linear(tensors, "bias"),
        lambda sae, tensors: _to_linear(tensors, "bias"),
    ),
    "AutoEncoderNew": _Class(
        "standard",
        ("relu",),
        lambda d_in, d_sae: _linear(d_in, d_sae) | {"decoder.bias": (d_in,)},
        lambda tensors: _without_input_bias(_from_linear(tensors, "decoder.bias")),
        None,
    ),
    "AutoEncoderTopK": _Class("topk", ("topk",), _with_k, lambda tensors: _from_linear(tensors, "b_dec"), _to_with_k),
    "BatchTopKSAE": _Class(
        "jumprelu",
        ("batch_topk", "matryoshka_batch_topk"),
        _with_k,
        lambda tensors: _from_linear(tensors, "b_dec") | _one_threshold(tensors),
        _to_with_k,
    ),
    "MatryoshkaBatchTopKSAE": _Class(
        "jumprelu",
        ("matryoshka_batch_topk",),
        lambda d_in, d_sae: _matrices(d_in, d_sae) | {"k": (), "threshold": ()},
        lambda tensors: {**tensors, "threshold": tensors["threshold"].expand(len(tensors["b_enc"]))},
        None,
    ),
    "GatedAutoEncoder": _Class(
        "gated",
        ("gated",),
        lambda d_in, d_sae: {
            "encoder.weight": (d_sae, d_in),
            "decoder.weight": (d_in, d_sae),
            "decoder_bias": (d_in,),
            **dict.fromkeys(("r_mag", "gate_bias", "mag_bias"), (d_sae,)),
        },
        lambda tensors: {
            "W_enc": tensors["encoder.weight"].T,
            "W_dec": tensors["decoder.weight"].T,
            "b_dec": tensors["decoder_bias"],
            "b_gate": tensors["gate_bias"],
            "b_mag": tensors["mag_bias"],
            "r_mag": tensors["r_mag"],
        },
        lambda sae, tensors: {
            "encoder.weight": tensors["W_enc"].T,
            "decoder.weight": tensors["W_dec"].T,
            "decoder_bias": tensors["b_dec"],
            "gate_bias": tensors["b_gate"],
            "mag_bias": tensors["b_mag"],
            "r_mag": tensors["r_mag"],
        },
    ),
    "JumpReluAutoEncoder": _Class(
        "jumprelu",
        ("jumprelu",),
        lambda d_in, d_sae: _matrices(d_in, d_sae) | {"threshold": (d_sae,)},
        _without_input_bias,
        lambda sae, tensors: tensors | {"b_enc": move_b_dec(tensors, -1)},
    ),
}
"""Their class -> what it is here. A Matryoshka SAE of ours is written as a BatchTopKSAE, which it is at inference:
their own class wants the sizes of training's groups, which are of no consequence then."""


def write(sae: SparseAutoencoder, provenance: dict[str, Any], folder: Path) -> None:
    written = {ours: name for name, row in CLASSES.items() if row.theirs is not None for ours in row.ours_named}
    name = written[sae.architecture]
    to_theirs = CLASSES[name].theirs
    assert to_theirs is not None
    tensors = {key: value.detach().cpu().contiguous() for key, value in to_theirs(sae, named_tensors(sae)).items()}
    config = {
        "trainer": {
            "dict_class": name,
            "trainer_class": "raysae",
            "activation_dim": sae.d_in,
            "dict_size": sae.d_sae,
            "k": sae.k,
            "lm_name": provenance.get("model_name"),
            "submodule_name": provenance.get("hook_name"),
        },
        "raysae": {"architecture": sae.architecture, "provenance": provenance},
    }
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    write_atomic(folder / WEIGHTS, save_tensors(tensors))
    write_atomic(folder / PICKLE, buffer.getvalue())
    write_json(folder / CONFIG, config)


def read(folder: Path) -> Imported:
    weights, path = folder / WEIGHTS, folder / CONFIG
    if not weights.is_file():
        raise BadInput(f"{folder / PICKLE} is a pickle, which is never read", f"allowed: {WEIGHTS} beside it", CONVERT)
    config = read_json(path, refuse)
    trainer = config["trainer"] if isinstance(config.get("trainer"), dict) else {}
    name = trainer.get("dict_class")
    if name not in CLASSES:
        raise refuse(path, f"has trainer.dict_class={name}, where one of {', '.join(CLASSES)} belongs")
    row = CLASSES[name]
    try:
        d_in, d_sae, k = (int(trainer.get(key, 0)) for key in ("activation_dim", "dict_size", "k"))
    except (TypeError, ValueError) as error:
        raise refuse(path, f"has no usable {error}") from error
    found, _ = read_tensors(weights, refuse)
    found.pop("group_sizes", None)
    dtype = next((t.dtype for t in found.values() if t.ndim == 2 and t.dtype in DTYPES.values()), torch.float32)
    tensors = checked(weights, _in_one_dtype(found, dtype), row.shapes(d_in, d_sae), dtype)
    ours = config["raysae"] if isinstance(config.get("raysae"), dict) else {}
    named = ours.get("architecture")
    architecture = named if named in row.ours_named else row.ours_named[0]
    sae = assemble(weights, row.kind, k, row.ours(tensors), architecture=architecture)
    provenance = ours.get("provenance", {})
    names = {"model_name": trainer.get("lm_name"), "hook_name": trainer.get("submodule_name")}
    return Imported(sae, {**names, **provenance, "imported_from": "dictionary_learning", "source": config})


def _in_one_dtype(found: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """The two scalars beside the weights keep types of their own."""
    scalars = {name: found[name].to(dtype) for name in ("k", "threshold") if name in found and found[name].ndim == 0}
    return found | scalars
