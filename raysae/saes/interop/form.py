"""The form between two libraries: what an SAE computes at inference, by SAELens's names for kinds and tensors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from raysae.errors import BadInput
from raysae.saes import ARCHITECTURES, check
from raysae.saes.base import SparseAutoencoder
from raysae.saes.checkpoint import fill
from raysae.saes.files import check_tensor

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
UNIT_TOLERANCE = 1e-5
"""Decoder norms this close to 1 are rounding: the weights keep their bits."""

OURS = {"standard": "relu", "topk": "topk", "jumprelu": "jumprelu", "gated": "gated"}
"""Kind of inference -> the architecture of ours that computes it."""


class Imported(NamedTuple):
    """An SAE of ours, and where it comes from as plain JSON."""

    sae: SparseAutoencoder
    provenance: dict[str, Any]


def refuse(path: Path, problem: str) -> BadInput:
    return BadInput(
        f"{path} {problem}",
        "allowed: the folder of one SAE as SAELens, sparsify or dictionary_learning writes it",
        "export it again from there",
    )


def tensor_shapes(kind: str, d_in: int, d_sae: int) -> dict[str, tuple[int, ...]]:
    """What an SAE of this kind consists of."""
    shapes: dict[str, tuple[int, ...]] = {
        "W_enc": (d_in, d_sae),
        "W_dec": (d_sae, d_in),
        "b_enc": (d_sae,),
        "b_dec": (d_in,),
    }
    if kind == "gated":
        del shapes["b_enc"]
        return shapes | dict.fromkeys(("b_gate", "r_mag", "b_mag"), (d_sae,))
    return shapes | ({"threshold": (d_sae,)} if kind == "jumprelu" else {})


def checked(
    path: Path, found: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype
) -> dict[str, Tensor]:
    """Exactly these tensors, as float32."""
    for name in found.keys() - shapes.keys():
        raise refuse(path, f"has a tensor {name} that this kind of SAE does not know")
    return {
        name: check_tensor(path, name, shape, dtype, found.get(name), refuse).float() for name, shape in shapes.items()
    }


def assemble(
    path: Path, kind: str, k: int, tensors: dict[str, Tensor], rescaled: bool = False, architecture: str | None = None
) -> SparseAutoencoder:
    """An SAE of ours from tensors of `tensor_shapes`; decoder norms that are not 1 move to the encoder.

    A top-k chooses among pre-activations, so moving norms would choose others, unless they were compared times the
    decoder's norms to begin with (`rescaled`). `architecture` is the one of ours to build where `kind` has several.
    """
    d_in, d_sae = tensors["W_enc"].shape
    norms = tensors["W_dec"].norm(dim=1)
    if not bool((norms > 0).all()):
        raise refuse(path, f"has W_dec with {int((norms == 0).sum())} rows of norm 0")
    if float((norms - 1).abs().max()) > UNIT_TOLERANCE:
        if kind == "topk" and not rescaled:
            raise refuse(path, "has a top-k over latents whose decoder norms are not 1, which no SAE of ours computes")
        grown = ("W_enc", "b_enc", "threshold", "b_gate", "b_mag")
        tensors = tensors | {name: tensors[name] * norms for name in grown if name in tensors}
        tensors["W_dec"] = tensors["W_dec"] / norms[:, None]
        if "threshold" in tensors:
            architecture = None  # one threshold has become many
    architecture = architecture or OURS[kind]
    check(architecture, d_in, d_sae, k)
    sae = ARCHITECTURES[architecture](d_in, d_sae, k).requires_grad_(False)
    fill(sae, {name: tensor.contiguous() for name, tensor in tensors.items()}, path, refuse)
    return sae


def move_b_dec(tensors: Mapping[str, Tensor], sign: int) -> Tensor:
    """b_enc + sign * b_dec @ W_enc: +1 for a library that does not subtract b_dec from its input, -1 towards one."""
    moved = tensors["b_dec"].double() @ tensors["W_enc"].double()
    return (tensors["b_enc"].double() + sign * moved).float()
