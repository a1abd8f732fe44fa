"""A disk that fills up while a stage writes to it: one line, status 1, and room is all that the same command needs."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from raysae.errors import NoRoom
from raysae.store import Manifest, save_state, sha256_file
from tests.runs import copy_before, hashes, in_process, overrides, started
from tests.stages.test_capture_kill import end, start, wait_for

MEGABYTE = 1_000_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Of 20 MB: preflight asks for 13.2, the undisturbed run's activations take 9."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={20 * MEGABYTE}", "tmpfs", str(disk)]
    if shutil.which("mount") is None or (made := subprocess.run(mount, capture_output=True, text=True)).returncode:
        pytest.skip(f"a small disk needs the right to mount a tmpfs ({made.stderr.strip()})")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path, rest: int) -> Path:
    """Somebody else's file, which leaves `rest` bytes."""
    ballast = disk / "ballast"
    ballast.write_bytes(b"\0" * (shutil.disk_usage(disk).free - rest))
    return ballast


def check_full(folder: Path, status: int, line: str) -> dict[Path, str]:
    """Status, line and what was finished before: path -> hash."""
    assert status == 1, line
    assert line.startswith("raysae: the disk is full, ")
    assert line.endswith("what was finished before is complete; make room and type the same command again")
    main = folder / "activations" / "main"
    assert not Manifest.exists(main)
    return {path: sha256_file(path) for path in main.glob("*.parquet")}


def temporary(folder: Path) -> list[Path]:
    return list((folder / "activations" / "main").glob(".*"))


def test_a_checkpoint_that_finds_no_room_says_so_and_leaves_the_one_before(small_disk: Path) -> None:
    path = small_disk / "sae.checkpoint.safetensors"
    save_state(path, {"weights": torch.zeros(MEGABYTE)}, {}, "mark")
    before = sha256_file(path)
    with pytest.raises(NoRoom, match=r"sae\.checkpoint\.safetensors was not written"):
        save_state(path, {"weights": torch.ones(5 * MEGABYTE)}, {}, "mark")
    assert [*small_disk.iterdir()] == [path]
    assert sha256_file(path) == before


def test_a_full_disk_stops_capture_in_one_line_and_room_lets_it_go_on(
    undisturbed: Path, tiny_config: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_before("capture", undisturbed, small_disk)
    ballast = fill(small_disk, 2 * MEGABYTE)
    with monkeypatch.context() as patch:  # when capture looked, there was room
        patch.setattr("raysae.stages.preflight.shutil.disk_usage", lambda _: SimpleNamespace(free=10**12))
        result = in_process("capture", str(tiny_config), *overrides(small_disk))
    (line,) = result.stderr.strip().split("\n")
    finished = check_full(folder, result.returncode, line)
    assert finished
    assert not temporary(folder)
    stamps = {path: path.stat().st_mtime_ns for path in finished}
    ballast.unlink()
    again = in_process("capture", str(tiny_config), *overrides(small_disk))
    assert again.returncode == 0, again.stderr
    assert hashes(folder, "activations") == hashes(undisturbed, "activations")
    assert {path: path.stat().st_mtime_ns for path in finished} == stamps


@pytest.mark.slow
@pytest.mark.ray
def test_a_disk_that_fills_up_under_ray_stops_capture_in_one_line_too(
    undisturbed: Path, tiny_config: Path, small_disk: Path
) -> None:
    folder = copy_before("capture", undisturbed, small_disk)
    (small_disk / "notes").mkdir()
    driver = start(tiny_config, small_disk, "during the write", SABOTAGE_HOLD="1")
    wait_for((small_disk / "notes" / "during the write").exists, driver)
    ballast = fill(small_disk, MEGABYTE // 4)
    status, said = end(driver)
    check_full(folder, status, said.strip().split("\n")[-1])
    ballast.unlink()
    status, said = end(start(tiny_config, small_disk))
    assert status == 0, said
    assert hashes(folder, "activations") == hashes(undisturbed, "activations")
    assert not temporary(folder), "what another actor had begun when the driver ended is still there"


@pytest.mark.slow
@pytest.mark.ray
def test_training_by_two_workers_on_a_disk_without_a_byte_ends_in_one_line(
    undisturbed: Path, tiny_config: Path, small_disk: Path
) -> None:
    """Neither the checkpoint nor a word about it can be written, and only the first worker writes."""
    folder = copy_before("train", undisturbed, small_disk)
    settings = [*overrides(small_disk), "train.workers=2", "train.checkpoint_steps=1"]
    driver = started("train", tiny_config, *settings)
    wait_for((folder / "sae" / "main" / "0.checkpoint.safetensors").is_file, driver)
    with (small_disk / "ballast").open("ab", buffering=0) as ballast:
        while driver.poll() is None:  # whatever becomes free: a checkpoint leaves room for the next
            try:
                ballast.write(b"\0" * 4096)
            except OSError:
                time.sleep(0.001)
    status, said = end(driver)
    assert status == 1, said
    line = said.strip().split("\n")[-1]
    assert line.startswith("raysae: the disk is full, "), said
    assert said.count("the disk is full") == 1
    assert "rank 0 could not" not in said
    (small_disk / "ballast").unlink()
    again = in_process("train", str(tiny_config), *settings)
    assert again.returncode == 0, again.stderr
    assert hashes(folder, "sae") == hashes(undisturbed, "sae")
    assert not list((folder / "sae").rglob("*.checkpoint*"))
