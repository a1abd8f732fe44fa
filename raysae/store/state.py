"""A checkpoint: one safetensors file with a JSON header, written atomically, so that half of one never exists."""

import json
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysae.errors import BadInput

if TYPE_CHECKING:  # torch is loaded when a checkpoint is, not when a finished run is looked up
    from torch import Tensor


def save_state(path: Path, tensors: "dict[str, Tensor]", header: dict[str, Any], fingerprint: str) -> None:
    """Replace the checkpoint at `path`."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    save_file(tensors, temporary, metadata={"fingerprint": fingerprint, "header": json.dumps(header)})
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def load_state(path: Path, fingerprint: str) -> "tuple[dict[str, Tensor], dict[str, Any]]":
    """(tensors, header); BadInput for a file cut short, foreign, or of another configuration."""
    from safetensors import SafetensorError, safe_open

    cure = f"remove {path} and run again"
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise BadInput(f"{path} cannot be read ({error})", "allowed: a whole checkpoint", cure) from error
    if metadata.get("fingerprint") != fingerprint:
        raise BadInput(f"{path} is a checkpoint of another configuration", "allowed: one of this run", cure)
    return tensors, json.loads(metadata["header"])
