"""Prices, from a YAML that the user edits."""

from collections.abc import Mapping
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from raysae.costs.devices import CPU
from raysae.errors import BadInput


class Prices(BaseModel):
    """In one currency."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    currency: str
    device_hour: Mapping[str, float] = Field(min_length=1)
    """By what a device's name holds, the first that fits; `cpu` is one core."""
    gb_month: float = Field(default=0.0, ge=0)
    """Of a decimal gigabyte on disk for a month."""

    def hours(self, device: str, hours: float) -> float | None:
        """Of so many hours of a device; None where it has no price."""
        price = next((price for name, price in self.device_hour.items() if name in device), None)
        return None if price is None else hours * price


def read(path: Path | None) -> Prices | None:
    """None without a path. BadInput for a file that is missing or holds something else."""
    if path is None:
        return None
    cure = f"type budget.prices=cluster/prices.yaml, and edit it; a core is called {CPU}"
    if not path.is_file():
        raise BadInput(f"budget.prices={path}: no such file", "allowed: a YAML of prices", cure)
    try:
        return Prices.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: {' '.join(str(error).split())}", "allowed: a YAML of prices", cure) from error
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "the file"
        raise BadInput(
            f"{path}: {where}: {problem['msg']}", "allowed: currency, device_hour, gb_month", cure
        ) from error
