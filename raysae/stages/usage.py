"""What processes use, and how the driver learns it of its workers.

The kernel counts for each process: time on the cores, resident memory, bytes through read and write calls (files that
are mapped, such as weights, pass by them). Ray's own processes are not counted, and a worker that was killed counts up
to its last word.
"""

import json
import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

_FORGET, _STATUS, _IO = (Path("/proc/self") / name for name in ("clear_refs", "status", "io"))
"""Of Linux; elsewhere memory and bytes are 0, which the report shows as not known."""
NAME = uuid.uuid4().hex
"""Of this process."""
FOLDER = "used"
"""Below the folder of a stage: a file per process that has no other way to the driver."""


class Used(NamedTuple):
    """Since the process started, or as a difference of two such."""

    cpu_s: float = 0.0
    peak_bytes: int = 0
    """Resident memory of the largest process at its highest."""
    read_bytes: int = 0
    written_bytes: int = 0
    gpu_s: float = 0.0
    """Seconds that GPUs, or shares of one, were held."""
    gpu_peak_bytes: int = 0
    gpu: str = ""
    """Name of the GPU."""

    def plus(self, other: "Used") -> "Used":
        """Of both: sums, and the higher of the peaks."""
        return Used(
            self.cpu_s + other.cpu_s,
            max(self.peak_bytes, other.peak_bytes),
            self.read_bytes + other.read_bytes,
            self.written_bytes + other.written_bytes,
            self.gpu_s + other.gpu_s,
            max(self.gpu_peak_bytes, other.gpu_peak_bytes),
            self.gpu or other.gpu,
        )

    def since(self, before: "Used") -> "Used":
        """What was added to `before`; the peaks as they are."""
        return self._replace(
            cpu_s=self.cpu_s - before.cpu_s,
            read_bytes=self.read_bytes - before.read_bytes,
            written_bytes=self.written_bytes - before.written_bytes,
        )


class Process:
    """This process as one that uses something; `gpus` is its share of the GPUs."""

    def __init__(self, gpus: float = 0.0) -> None:
        self.name, self.gpus, self.started = NAME, gpus, time.monotonic()

    def used(self) -> Used:
        """Until now. A process that was given no GPU holds one from the moment it uses it."""
        gpu, gpu_peak = _gpu()
        held = self.gpus or float(bool(gpu))
        read, written = _bytes()
        seconds = held * (time.monotonic() - self.started)
        return Used(time.process_time(), resident_peak(), read, written, seconds, gpu_peak, gpu)

    def leave(self, folder: Path) -> None:
        """For `collect`; again and again, since a process may be ended without a word."""
        path = folder / FOLDER / f"{self.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        written = path.with_suffix(".new")
        written.write_text(json.dumps(self.used()))
        os.replace(written, path)  # without a flush to the disk: a word lost with the machine is no loss


class Tally:
    """Of the processes of one stage, by name: the last that each said."""

    def __init__(self) -> None:
        self.by_process: dict[str, Used] = {}

    def total(self) -> Used:
        total = Used()
        for used in self.by_process.values():
            total = total.plus(used)
        return total


_OPEN: ContextVar[Tally | None] = ContextVar("tally", default=None)


@contextmanager
def counting() -> Iterator[Tally]:
    """Whatever this process uses inside, and what workers say of themselves in that time."""
    tally, process = Tally(), Process()
    forget_resident_peak()
    forget_gpu_peaks()
    before, token = process.used(), _OPEN.set(tally)
    try:
        yield tally
    finally:
        _OPEN.reset(token)
        tally.by_process[process.name] = process.used().since(before)


def hear(process: str, used: Used) -> None:
    """A worker's word of itself."""
    if (tally := _OPEN.get()) is not None:
        tally.by_process[process] = used


def collect(folder: Path) -> None:
    """Hear what was left in a folder, and remove it."""
    left = folder / FOLDER
    for path in sorted(left.glob("*.json")):
        hear(path.stem, Used(*json.loads(path.read_text())))
    shutil.rmtree(left, ignore_errors=True)


def forget_resident_peak() -> bool:
    """From here on `resident_peak` is of what comes; False where the system cannot."""
    if not _FORGET.exists():
        return False
    _FORGET.write_text("5")
    return True


def resident_peak() -> int:
    """Bytes of this process's resident memory at their highest."""
    found = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text()) if _STATUS.exists() else None
    return 1024 * int(found.group(1)) if found else 0


def _bytes() -> tuple[int, int]:
    if not _IO.exists():
        return 0, 0
    counts = dict(line.split(": ") for line in _IO.read_text().splitlines())
    return int(counts["rchar"]), int(counts["wchar"])


def _gpu() -> tuple[str, int]:
    """Name and highest memory of the GPUs that this process has begun to use."""
    if (cuda := _cuda()) is None:
        return "", 0
    return cuda.get_device_name(0), sum(cuda.max_memory_allocated(number) for number in range(cuda.device_count()))


def forget_gpu_peaks() -> None:
    """The same of the GPUs that this process has begun to use."""
    if (cuda := _cuda()) is not None:
        for number in range(cuda.device_count()):
            cuda.reset_peak_memory_stats(number)


def _cuda() -> Any:
    """torch.cuda of a process that has begun to use it; torch is not imported for this."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None
