"""Work, devices, prices and what was timed -> a plan: what each stage takes, keeps and costs, and whether the budget
allows it."""

from collections.abc import Mapping
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from raysae.costs.devices import CPU, DEVICES, REFERENCE, rtx_hours
from raysae.costs.prices import Prices
from raysae.costs.work import Work
from raysae.errors import BadInput
from raysae.types.budget import BudgetConfig

_UNITS = (("hours", 3600), ("minutes", 60), ("seconds", 1))
"""A time is told in the largest of which it has two."""


class Speed(NamedTuple):
    """Seconds of a stage: `fixed_s + unit_s * units`."""

    fixed_s: float
    unit_s: float


class Machine(NamedTuple):
    """What the stages run on."""

    device: str
    """A row of DEVICES: its GPUs, where a stage asks for one."""
    cores: int


class Line(BaseModel):
    """One stage."""

    model_config = ConfigDict(frozen=True)

    tokens: int
    numbers_bytes: int
    """Of activations or weights, before compression."""
    disk_bytes: int
    """At most."""
    read_bytes: int
    """Of earlier stages' numbers."""
    flops: float
    wall_s: float | None
    """None where nothing is known."""
    device: str
    device_hours: float | None
    """Of GPUs, or of the cores of the machine."""
    cost: float | None


class Plan(BaseModel):
    """The stages in their order."""

    model_config = ConfigDict(frozen=True)

    mode: str
    """Of `activations`."""
    counted_by: str
    exact: bool
    """Whether tokens and bytes of numbers are what they will be."""
    timed_by: str
    stages: dict[str, Line]
    currency: str | None
    storage_cost: float | None
    """Of a month on disk."""

    @property
    def wall_s(self) -> float:
        return sum(line.wall_s or 0 for line in self.stages.values())

    @property
    def disk_bytes(self) -> int:
        return sum(line.disk_bytes for line in self.stages.values())

    @property
    def device_hours(self) -> dict[str, float]:
        """By device."""
        hours: dict[str, float] = {}
        for line in self.stages.values():
            if line.device_hours is not None:
                hours[line.device] = hours.get(line.device, 0.0) + line.device_hours
        return hours

    @property
    def rtx_hours(self) -> float:
        return sum(rtx_hours(device, hours) for device, hours in self.device_hours.items())

    @property
    def cost(self) -> float | None:
        """Of the devices and a month of storage; None where a stage has no price."""
        costs = [line.cost for line in self.stages.values() if line.wall_s is not None]
        if self.storage_cost is None or None in costs:
            return None
        return self.storage_cost + sum(cost for cost in costs if cost is not None)

    @property
    def summary(self) -> str:
        """One line."""
        unit, size = next((unit, size) for unit, size in _UNITS if self.wall_s >= 2 * size or size == 1)
        timed = [stage for stage in self.stages if stage not in self.untimed]
        parts = [
            f"{self.wall_s / size:,.3g} {unit}" + (f" for {' and '.join(timed)}" if self.untimed and timed else ""),
            *(f"{hours:,.3g} hours of {device}" for device, hours in self.device_hours.items()),
            f"{self.disk_bytes / 1e9:,.3g} GB on disk at most",
        ]
        if self.cost is not None:
            parts.append(f"{self.cost:,.2f} {self.currency}")
        if self.untimed:
            parts.append(f"not timed: {', '.join(self.untimed)}")
        return ", ".join(parts)

    @property
    def untimed(self) -> tuple[str, ...]:
        return tuple(stage for stage, line in self.stages.items() if line.wall_s is None)


def plan(
    mode: str,
    work: Mapping[str, Work],
    machine: Machine,
    budget: BudgetConfig,
    *,
    prices: Prices | None,
    speeds: Mapping[str, Speed],
    counted_by: str,
    exact: bool,
) -> Plan:
    """A stage in `speeds` takes the time that was measured; another one what its operations take at `budget.mfu` of the
    peak, where it has any."""
    lines = {stage: _line(one, machine, budget, prices, speeds.get(stage)) for stage, one in work.items()}
    device = DEVICES[machine.device]
    assumed = (
        f"{budget.mfu:g} of the peak of {machine.device} ({device.tflops_16:g} TFLOP/s in 16 bits, "
        f"{device.tflops_32:g} in 32) is assumed; raysae plan --calibrate measures"
    )
    disk = sum(line.disk_bytes for line in lines.values())
    return Plan(
        mode=mode,
        counted_by=counted_by,
        exact=exact,
        timed_by="timed by a rehearsal on this machine" if speeds else assumed,
        stages=lines,
        currency=prices and prices.currency,
        storage_cost=prices and prices.gb_month * disk / 1e9,
    )


def _line(one: Work, machine: Machine, budget: BudgetConfig, prices: Prices | None, speed: Speed | None) -> Line:
    gpu = one.gpus > 0 and machine.device != CPU
    name = machine.device if gpu else CPU
    device, count = DEVICES[name], one.gpus if gpu else min(one.workers, machine.cores)
    wall: float | None = None
    if speed is not None:
        wall = speed.fixed_s + speed.unit_s * one.units
    elif one.flops or one.moved:
        peak = 1e12 * (device.tflops_16 if one.half else device.tflops_32)
        wall = (one.flops / (peak * budget.mfu) + one.moved / (1e9 * device.gb_per_s)) / count
    hours = None if wall is None else wall * (one.gpus if gpu else machine.cores) / 3600
    return Line(
        tokens=one.tokens,
        numbers_bytes=one.numbers,
        disk_bytes=one.disk,
        read_bytes=one.reads,
        flops=one.flops,
        wall_s=wall,
        device=name,
        device_hours=hours,
        cost=None if prices is None or hours is None else prices.hours(name, hours),
    )


def check_budget(plan: Plan, budget: BudgetConfig) -> None:
    """BadInput for a plan beyond the budget."""
    hours, gigabytes = plan.rtx_hours, plan.disk_bytes / 1e9
    over = [
        (f"{value:,.3g} {unit}", f"budget.{key}={limit:g}", f"budget.{key}={_above(value)}")
        for key, value, limit, unit in (
            ("rtx_hours", hours, budget.rtx_hours, f"hours of an {REFERENCE}"),
            ("gb", gigabytes, budget.gb, "GB on disk"),
        )
        if value > limit
    ]
    if over:
        needs, allowed, cures = (" and ".join(parts) for parts in zip(*over, strict=True))
        raise BadInput(
            f"the plan needs {needs}",
            f"allowed: {allowed}",
            f"type {cures.replace(' and ', ' ')} to go on, or ask for less with corpus.records=, train.steps= or "
            "activations.mode=stream; raysae plan shows where it goes",
        )


def _above(value: float) -> str:
    """The next number of two digits, so that typing it is enough."""
    size = 10 ** max(len(f"{value:.0f}") - 2, 0)
    return f"{(int(value / size) + 1) * size:d}"
