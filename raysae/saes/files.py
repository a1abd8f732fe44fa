"""Reading what somebody else may have written: JSON and safetensors files, each problem named with its file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor

from raysae.errors import BadInput

Refuse = Callable[[Path, str], BadInput]
"""(file, what is wrong with it) -> the error that also says what was allowed and what to do."""


def read_json(path: Path, refuse: Refuse) -> dict[str, Any]:
    """The mapping in `path`."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise refuse(path, f"cannot be read ({error})") from error
    if not isinstance(config, dict):
        raise refuse(path, f"holds a {type(config).__name__}")
    return config


def read_tensors(path: Path, refuse: Refuse) -> tuple[dict[str, Tensor], bytes]:
    """(tensors by name, the bytes they were read from)."""
    try:
        data = path.read_bytes()
        return load_tensors(data), data
    except (OSError, SafetensorError) as error:
        raise refuse(path, f"cannot be read ({error})") from error


def check_tensor(
    path: Path, name: str, shape: tuple[int, ...], dtype: torch.dtype, found: Tensor | None, refuse: Refuse
) -> Tensor:
    """`found`, if it is what belongs under `name`: there, of this shape and dtype, finite."""
    if found is None:
        raise refuse(path, f"has no tensor {name}")
    if found.shape != shape or found.dtype != dtype:
        transposed = " (transposed)" if found.ndim == 2 and found.T.shape == shape else ""
        wanted, arrived = _describe(dtype, shape), _describe(found.dtype, tuple(found.shape))
        raise refuse(path, f"has {name} as {arrived}, where {wanted} belongs{transposed}")
    if not torch.isfinite(found).all():
        raise refuse(path, f"has NaN or infinity in {name}")
    return found


def _describe(dtype: torch.dtype, shape: tuple[int, ...]) -> str:
    return f"{str(dtype).removeprefix('torch.')} {list(shape)}"
