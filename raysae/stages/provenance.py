"""Where a run comes from: the revision of the code, versions, the machine."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

from raysae import __version__

PACKAGES = ("ray", "torch", "transformers", "datasets", "pyarrow", "numpy", "scipy", "pydantic")


def commit() -> str | None:
    """The checkout's revision, `+dirty` if files differ from it; null where the package is in no checkout."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+dirty" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def versions() -> dict[str, str]:
    """Of everything that can change a number."""
    found = {"raysae": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def device() -> tuple[str, int]:
    """(name, how many) of what computes: GPUs if there are any, else CPU cores."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0), torch.cuda.device_count()
    return platform.processor() or platform.machine(), cores()


def cores() -> int:
    """Of this machine."""
    return os.cpu_count() or 1
