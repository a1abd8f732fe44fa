"""Where a model's variables are known to lie, beside its weights: `circuit.safetensors` of a folder made by
`raysae pretrain` from a recipe with a circuit."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor

from raysae.types import HookPoint
from raysae.types.experiment import ModelConfig

FILE = "circuit.safetensors"


@dataclass(frozen=True, eq=False)
class KnownCircuit:
    """Orthogonal subspaces of one hook point."""

    hookpoint: HookPoint
    blocks: Mapping[str, Float[Tensor, "_ d"]]
    """Variable -> orthonormal rows that span its subspace."""

    @property
    def rows(self) -> Float[Tensor, "s d"]:
        """All of them."""
        return torch.cat(list(self.blocks.values()))

    def write(self, folder: Path) -> None:
        blocks = {variable: rows.contiguous() for variable, rows in self.blocks.items()}
        (folder / FILE).write_bytes(safetensors.torch.save(blocks, {"hookpoint": str(self.hookpoint)}))


def known_circuit(config: ModelConfig) -> KnownCircuit | None:
    """That of a model read from a folder; None where the folder has none, and for fresh weights."""
    path = Path(config.path).expanduser() / FILE if config.path is not None else None
    if path is None or config.randomize or not path.is_file():
        return None
    with safetensors.safe_open(path, framework="pt") as file:
        blocks = {variable: file.get_tensor(variable) for variable in file.keys()}  # noqa: SIM118
        return KnownCircuit(HookPoint.parse(file.metadata()["hookpoint"]), blocks)
