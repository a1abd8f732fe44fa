"""What a run may cost, and by which numbers that is reckoned."""

from pathlib import Path

from pydantic import Field

from raysae.types.part import Part


class BudgetConfig(Part):
    """A run whose plan goes beyond stops before anything is captured; `raysae plan` shows the plan."""

    rtx_hours: float = Field(default=100.0, ge=0)
    """Hours of an RTX 4090, or as much of another device by its peak (`raysae.costs.devices`)."""
    gb: float = Field(default=100.0, ge=0)
    """Decimal gigabytes on disk."""
    prices: Path | None = None
    """A YAML of prices, `cluster/prices.yaml` for one to edit; null: cost is not reckoned."""
    device: str | None = None
    """A row of `raysae.costs.devices.DEVICES` to plan for; null: what this machine has."""
    mfu: float = Field(default=0.3, gt=0, le=1)
    """Share of a device's peak that is assumed where nothing was timed."""
