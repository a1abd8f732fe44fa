"""SIGTERM in the middle of training: a checkpoint of its very step, status 143, and the same weights in the end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors import safe_open

from tests.runs import copy_before, environment, hashes, in_process, overrides, raysae


def terminate_when(seen: Path, *arguments: str, local: bool) -> tuple[int, str]:
    """(exit status, stderr) of `raysae`, asked to end once `seen` is there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "raysae", *arguments],
        env=environment(local=local),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 200
    try:
        while process.poll() is None and not seen.is_file() and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
        return process.returncode, said
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def saved_step(path: Path) -> int:
    with safe_open(path, framework="pt") as file:
        import json

        return json.loads(file.metadata()["header"])["trainer"]["step"]


def interrupted(folder: Path, arguments: list[str], local: bool = True) -> Path:
    """The one checkpoint of a training that writes none by itself, after a SIGTERM in its middle."""
    status, said = terminate_when(folder / "sae" / "progress.json", *arguments, local=local)
    assert status == 143, said
    assert "SIGTERM: what was in training is saved to its last step" in said
    # Beside it stands the best, another name of the same, where the signal came after the first point of the curves.
    (checkpoint,) = (folder / "sae").rglob("*.checkpoint.safetensors")
    assert not (folder / "sae" / "halt").exists()
    return checkpoint


@pytest.mark.parametrize("local", [True, pytest.param(False, marks=[pytest.mark.slow, pytest.mark.ray])])
def test_sigterm_saves_a_complete_checkpoint_and_the_same_command_ends_as_if_undisturbed(
    local: bool, undisturbed: Path, tiny_config: Path, tmp_path: Path
) -> None:
    folder = copy_before("train", undisturbed, tmp_path)
    arguments = ["train", str(tiny_config), *overrides(tmp_path), "train.checkpoint_steps=1000"]
    checkpoint = interrupted(folder, arguments, local)
    with safe_open(checkpoint, framework="pt") as file:
        assert 0 < json.loads(file.metadata()["header"])["trainer"]["step"] < 80
    again = in_process(*arguments) if local else raysae(*arguments, local=False)
    assert again.returncode == 0, again.stderr
    assert hashes(folder, "sae") == hashes(undisturbed, "sae")
    assert not list((folder / "sae").rglob("*.checkpoint*"))


def test_half_a_checkpoint_and_one_of_another_sae_end_with_status_2_and_their_name(
    undisturbed: Path, tiny_config: Path, tmp_path: Path
) -> None:
    folder = copy_before("train", undisturbed, tmp_path)
    arguments = ["train", str(tiny_config), *overrides(tmp_path), "train.checkpoint_steps=1000"]
    checkpoint = interrupted(folder, arguments)
    whole = checkpoint.read_bytes()
    assert checkpoint.name.startswith("0."), "the signal came too late to test anything"
    swapped = checkpoint.with_name(checkpoint.name.replace("0", "1", 1))
    for path, data in ((checkpoint, whole[: len(whole) // 2]), (swapped, whole)):
        checkpoint.unlink(missing_ok=True)
        path.write_bytes(data)
        if path == swapped:
            checkpoint.write_bytes(whole)
        refused = in_process(*arguments)
        assert refused.returncode == 2
        assert refused.stderr.count("\n") == 1
        assert str(path) in refused.stderr
