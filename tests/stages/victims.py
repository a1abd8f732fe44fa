"""The processes of a `raysae` that runs under Ray, by what they do, to be killed by a test."""

from contextlib import suppress
from pathlib import Path

ROLES = {"MapWorker": "actor", "RayTrainWorker": "training worker", "ImplicitFunc": "trial"}
"""What a title holds -> what the process does."""
DRIVER = "driver"


def victims(driver: int) -> list[tuple[str, int]]:
    """(role, process id): the driver, and what it started that works for a stage."""
    return [(DRIVER, driver), *workers(driver)]


def workers(ancestor: int) -> list[tuple[str, int]]:
    """(role, process id) of what works for a stage below a driver, or below the raylet of a node."""
    parents, titles = dict[int, int](), dict[int, str]()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            pid = int(folder.name)
            parents[pid] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            titles[pid] = (folder / "cmdline").read_text()
    return [
        (role, pid)
        for pid, title in titles.items()
        for name, role in ROLES.items()
        if f"ray::{name}" in title and ancestor in _ancestors(pid, parents)
    ]


def _ancestors(pid: int, parents: dict[int, int]) -> list[int]:
    found = []
    while pid := parents.get(pid, 0):
        found.append(pid)
    return found
