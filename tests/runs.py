"""Starting `raysae` as a user does, stopping it as a crash does, and comparing run folders."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from raysae.store import Manifest

_TEXT = ("tokens", "labels", "alignment", "quality")
_RUN = ("protocol.json", "activations", "sweep", "sae", "metrics")
AFTER = {
    "ingest": ("quarantine", "corpus", *_TEXT, *_RUN),
    "tokenize": (*_TEXT, *_RUN),
    "seal": _RUN,
    "capture": ("activations", "sweep", "sae", "metrics"),
    "sweep": ("sweep", "sae", "metrics"),
    "train": ("sae", "metrics"),
    "evaluate": ("metrics",),
    "decide": (),
}
"""What a stage and those behind it write, beside verdict, record and report."""


def environment(*, local: bool) -> dict[str, str]:
    return {**os.environ, "RAYSAE_LOCAL": "1" if local else "0", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}


def raysae(*arguments: str, local: bool = True, timeout: float = 280) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "raysae", *arguments]
    return subprocess.run(command, env=environment(local=local), capture_output=True, text=True, timeout=timeout)


def started(stage: str, config: Path, *settings: str, local: bool = False, **env: str) -> subprocess.Popen[str]:
    """`raysae` at work in a session of its own, both its streams in one."""
    return subprocess.Popen(
        [sys.executable, "-m", "raysae", stage, str(config), *settings],
        env=environment(local=local) | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def in_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`raysae` in this process, which spares the import of torch; exit status and output as from outside."""
    from raysae.cli import main

    out, err = io.StringIO(), io.StringIO()
    status = 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setenv("RAYSAE_LOCAL", "1")
        patch.setattr(sys, "argv", ["raysae", *arguments])
        try:
            main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


def kill_when(ready: Callable[[], bool], *arguments: str, local: bool = True, timeout: float = 200) -> bool:
    """Start `raysae`, SIGKILL its process group the moment `ready()`; False if it ended before."""
    process = subprocess.Popen(
        [sys.executable, "-m", "raysae", *arguments],
        env=environment(local=local),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + timeout
    try:
        while process.poll() is None and time.monotonic() < deadline:
            if ready():
                return True
            time.sleep(0.002)
        return False
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def copy_before(stage: str, finished: Path, out: Path) -> Path:
    """The run folder as it was before `stage`."""
    folder = out / finished.name
    shutil.copytree(finished, folder)
    for name in (*AFTER[stage], "verdict.json", "record.json", "report.html"):
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    shutil.copy(finished.parent / "ledger.jsonl", out)
    return folder


def hashes(folder: Path, *parts: str) -> dict[str, str]:
    """SHA-256 of every block of the manifests below `folder`, by path."""
    return {
        f"{path.parent.relative_to(folder)}/{block.file}": block.sha256
        for path in folder.rglob("manifest.json")
        if not parts or path.parent.relative_to(folder).parts[0] in parts
        for block in Manifest.read(path.parent).blocks
    }


def outcomes(folder: Path) -> dict[str, object]:
    verdict = json.loads((folder / "verdict.json").read_text())
    return {name: (row["outcome"], row["value"], row["interval"]) for name, row in verdict["criteria"].items()}


def overrides(out: Path, extra: Sequence[str] = ()) -> list[str]:
    return [f"out={out}", *extra]
