"""Workers, nodes, memory and disks that fail under Ray: the undisturbed result, or one line and everything finished."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from raysae.stages.train import LOSSES
from tests.runs import copy_before, hashes, outcomes, overrides, raysae, started
from tests.stages.nodes import cluster, raylet
from tests.stages.test_capture_kill import SABOTAGE, end, wait_for
from tests.stages.victims import workers

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(900)]

SMALLEST_STORE = 80 * 2**20
"""Bytes; Ray takes no less than 75 MB."""


def start(stage: str, config: Path, out: Path, *settings: str, **env: str) -> subprocess.Popen[str]:
    return started(stage, config, *overrides(out), *settings, **env)


def of_role(role: str, ancestor: int) -> list[int]:
    return [pid for found, pid in workers(ancestor) if found == role]


def in_the_middle(folder: Path) -> Callable[[], bool]:
    """Of training: a checkpoint is there."""
    return (folder / "sae" / "main" / "0.checkpoint.safetensors").is_file


def test_a_killed_training_worker_is_replaced_with_its_group(
    undisturbed: Path, tiny_config: Path, tmp_path: Path
) -> None:
    folder = copy_before("train", undisturbed, tmp_path)
    driver = start("train", tiny_config, tmp_path, "train.workers=2")
    wait_for(in_the_middle(folder), driver)
    first = of_role("training worker", driver.pid)
    assert len(first) == 2
    os.kill(first[0], signal.SIGKILL)
    status, said = end(driver)
    assert status == 0, said
    assert hashes(folder, "sae") == hashes(undisturbed, "sae")


def test_workers_that_die_again_and_again_end_in_one_line(undisturbed: Path, tiny_config: Path, tmp_path: Path) -> None:
    folder = copy_before("train", undisturbed, tmp_path)
    driver = start("train", tiny_config, tmp_path, "train.workers=1", "train.checkpoint_steps=1000")
    board = folder / "sae" / "progress.json"
    while driver.poll() is None:
        if board.is_file():  # a worker that dies before it trains is made again without being counted
            board.unlink()
            for pid in of_role("training worker", driver.pid):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    status, said = end(driver)
    assert status == 1
    line = said.strip().split("\n")[-1]
    assert line.startswith(
        f"raysae: a training worker was lost {LOSSES + 1} times; what was finished before is complete"
    )
    again = raysae("train", str(tiny_config), *overrides(tmp_path))
    assert again.returncode == 0, again.stderr
    assert hashes(folder, "sae") == hashes(undisturbed, "sae")


def test_a_killed_trial_is_tried_again(undisturbed: Path, tiny_config: Path, tmp_path: Path) -> None:
    folder = copy_before("sweep", undisturbed, tmp_path)
    driver = start("sweep", tiny_config, tmp_path)
    while not (found := of_role("trial", driver.pid)):
        assert driver.poll() is None, driver.communicate()[0]
        time.sleep(0.2)
    os.kill(found[0], signal.SIGKILL)
    status, said = end(driver)
    assert status == 0, said
    assert hashes(folder, "sweep") == hashes(undisturbed, "sweep")


def test_a_node_lost_in_training_takes_no_step_with_it(
    undisturbed: Path, tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers on two nodes of three."""
    folder = copy_before("train", undisturbed, tmp_path)
    with cluster(monkeypatch, [{"num_cpus": 1}] * 3) as (whole, nodes):
        driver = start("train", tiny_config, tmp_path, "train.workers=2", RAY_ADDRESS=whole.address)
        wait_for(in_the_middle(folder), driver)
        busy = [node for node in nodes if of_role("training worker", raylet(node))]
        assert len(busy) == 2
        whole.remove_node(busy[0], allow_graceful=False)
        status, said = end(driver)
    assert status == 0, said
    assert hashes(folder, "sae") == hashes(undisturbed, "sae")


def test_three_nodes_find_what_one_process_finds(
    undisturbed: Path, tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Capture, sweep and training by two workers, each on more than one node."""
    folder = copy_before("capture", undisturbed, tmp_path)
    seen: dict[str, set[int]] = {}
    with cluster(monkeypatch, [{"num_cpus": 1}] * 3) as (whole, nodes):
        driver = start("run", tiny_config, tmp_path, "train.workers=2", RAY_ADDRESS=whole.address)

        while driver.poll() is None:
            for number, node in enumerate(nodes):
                for role, _ in workers(raylet(node)):
                    seen.setdefault(role, set()).add(number)
            time.sleep(0.5)
        status, said = end(driver)
    assert status == 0, said
    assert {role: len(places) > 1 for role, places in seen.items()} == {
        "actor": True,
        "trial": True,
        "training worker": True,
    }
    assert hashes(folder) == hashes(undisturbed)
    assert outcomes(folder) == outcomes(undisturbed)


@pytest.mark.parametrize("mode", ["cache", "stream"])
def test_an_object_store_that_somebody_else_has_filled(
    mode: str, undisturbed: Path, tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray moves what does not fit to the disk."""
    import numpy as np
    import ray

    with cluster(monkeypatch, [], num_cpus=4, object_store_memory=SMALLEST_STORE) as (whole, _):
        ray.init(address=whole.address, log_to_driver=False, logging_level="ERROR")
        try:
            held = [ray.put(np.zeros(2**20, np.uint8)) for _ in range(2 * SMALLEST_STORE // 2**20)]
            ends = []
            for place, env in (("alone", {"RAYSAE_LOCAL": "1"}), ("full", {"RAY_ADDRESS": whole.address})):
                folder = copy_before("capture", undisturbed, tmp_path / place)
                driver = start("train", tiny_config, folder.parent, f"activations.mode={mode}", **env)
                status, said = end(driver)
                assert status == 0, said
                ends.append(hashes(folder))
            assert all(not ray.get(one).any() for one in held)
        finally:
            ray.shutdown()
    assert ends[0] == ends[1]


def test_a_slow_disk_only_takes_time(undisturbed: Path, tiny_config: Path, tmp_path: Path) -> None:
    """A tenth of a second for each file that is opened, renamed or removed in the run folder."""
    folder = copy_before("capture", undisturbed, tmp_path)
    slow = {"PYTHONPATH": str(SABOTAGE), "SABOTAGE": "a slow disk", "SABOTAGE_NOTES": str(tmp_path)}
    status, said = end(start("evaluate", tiny_config, tmp_path, **slow))
    assert status == 0, said
    assert (tmp_path / "a slow disk").exists()
    assert hashes(folder) == hashes(undisturbed)
