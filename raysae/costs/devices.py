"""What devices can do at most, from their makers' data sheets."""

from collections.abc import Mapping
from typing import NamedTuple


class Device(NamedTuple):
    """One, or for a CPU one of its cores."""

    tflops_16: float
    """Dense products of 16-bit numbers, summed in 32 bits."""
    tflops_32: float
    gb_per_s: float
    """Of its memory."""
    gb: float
    """Of memory."""


DEVICES: Mapping[str, Device] = {
    "H200": Device(989, 67, 4800, 141),
    "H100 PCIe": Device(756, 51, 2000, 80),
    "H100": Device(989, 67, 3350, 80),
    "A100": Device(312, 19.5, 2039, 80),
    "L40S": Device(362, 91.6, 864, 48),
    "L4": Device(121, 30.3, 300, 24),
    "A10": Device(125, 31.2, 600, 24),
    "T4": Device(65, 8.1, 320, 16),
    "RTX 4090": Device(165, 82.6, 1008, 24),
    "RTX 3090": Device(71, 35.6, 936, 24),
    "cpu": Device(0.05, 0.05, 10, 4),
}
"""By what a device's name holds, the more special name first. A core of a CPU with two 256-bit units at 3 GHz."""

CPU = "cpu"
REFERENCE = "RTX 4090"
"""An RTX-equivalent hour is one of this."""


def known(name: str) -> str | None:
    """The row of a device by its full name, as the driver says it."""
    return next((row for row in DEVICES if row in name), None)


def rtx_hours(device: str, hours: float) -> float:
    """Hours of the reference that could do as much, by the 16-bit peaks."""
    return hours * DEVICES[device].tflops_16 / DEVICES[REFERENCE].tflops_16
