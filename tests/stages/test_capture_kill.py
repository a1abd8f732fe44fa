"""Capture under Ray, killed at every moment of its commit: an actor, a node, the driver, and two drivers at once.

`sabotage/sitecustomize.py` kills the process that comes to the moment, once. Afterwards every row is there once, the
bytes are those of an undisturbed run, and no more was done again than what was in flight.
"""

import os
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from raysae.store import Manifest, TokenStore
from tests.runs import copy_before, hashes, overrides, started

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(600)]

SABOTAGE = Path(__file__).parent / "sabotage"
ACTORS = 2
AN_ACTOR = ("before the write", "during the write", "before the rename", "before the receipt", "after the receipt")
THE_DRIVER = ("before the manifest", "after the manifest")


@pytest.fixture
def folder(undisturbed: Path, tmp_path: Path) -> Path:
    """The run folder as it was before `capture`."""
    (tmp_path / "notes").mkdir()
    return copy_before("capture", undisturbed, tmp_path)


def start(config: Path, out: Path, moment: str = "none", *, local: bool = False, **env: str) -> subprocess.Popen[str]:
    """`raysae capture`, sabotaged at `moment`."""
    env |= {"PYTHONPATH": str(SABOTAGE), "SABOTAGE": moment, "SABOTAGE_NOTES": str(out / "notes")}
    return started("capture", config, *overrides(out), local=local, **env)


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit status and output."""
    try:
        said, _ = process.communicate(timeout=300)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, said


def check(folder: Path, undisturbed: Path, again: int) -> None:
    """The undisturbed run's bytes, every token once, at most `again` blocks begun twice, and nothing left lying."""
    assert hashes(folder, "activations") == hashes(undisturbed, "activations")
    expected = [
        (record, position)
        for block in TokenStore(folder / "tokens").blocks()
        for record, ids, _ in TokenStore(folder / "tokens").documents(block)
        for position in range(len(ids))
    ]
    assert len(set(expected)) == len(expected)
    begun = Counter(line.rsplit(".", 2)[0] for line in (folder.parent / "notes" / "begun").read_text().splitlines())
    for arm in ("main", "random_model"):
        manifest = Manifest.read(folder / "activations" / arm)
        assert manifest.problems(folder / "activations" / arm) == []
        tables = [pq.read_table(folder / "activations" / arm / block.file) for block in manifest.blocks]
        rows = [pair for t in tables for pair in zip(t["record"].to_pylist(), t["position"].to_pylist(), strict=True)]
        assert rows == expected
        files = {name for block in manifest.blocks for name in (block.file, f"{block.name}.json")} | {"manifest.json"}
        assert {path.name for path in (folder / "activations" / arm).iterdir()} == files
    assert sum(begun.values()) - len(begun) <= again, begun


@pytest.mark.parametrize("moment", AN_ACTOR)
def test_a_killed_actor_is_replaced_and_only_its_block_is_done_again(
    moment: str, folder: Path, undisturbed: Path, tiny_config: Path
) -> None:
    status, said = end(start(tiny_config, folder.parent, moment))
    assert status == 0, said
    assert (folder.parent / "notes" / moment).exists(), "nothing was killed"
    check(folder, undisturbed, again=1)


@pytest.mark.parametrize("moment", THE_DRIVER)
def test_a_driver_killed_around_its_manifest_is_finished_by_the_same_command(
    moment: str, folder: Path, undisturbed: Path, tiny_config: Path
) -> None:
    status, said = end(start(tiny_config, folder.parent, moment))
    assert status == -signal.SIGKILL, said
    assert Manifest.exists(folder / "activations" / "main") == (moment == "after the manifest")
    status, said = end(start(tiny_config, folder.parent))
    assert status == 0, said
    check(folder, undisturbed, again=0)


def test_a_driver_killed_alone_is_followed_by_the_same_command_while_its_actors_still_write(
    folder: Path, undisturbed: Path, tiny_config: Path
) -> None:
    first = start(tiny_config, folder.parent)
    begun = folder.parent / "notes" / "begun"
    wait_for(lambda: begun.exists() and len(begun.read_text().splitlines()) > ACTORS, first)
    first.kill()
    second = start(tiny_config, folder.parent)
    status, said = end(second)
    end(first)
    assert status == 0, said
    check(folder, undisturbed, again=2 * ACTORS)


def test_two_drivers_at_once_end_with_one_manifest(folder: Path, undisturbed: Path, tiny_config: Path) -> None:
    both = [start(tiny_config, folder.parent) for _ in range(2)]
    for status, said in map(end, both):
        assert status == 0, said
    check(folder, undisturbed, again=len(hashes(folder, "activations")))


def test_a_lost_node_takes_no_row_with_it(
    folder: Path, undisturbed: Path, tiny_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The actor of the second node has begun a block and stands still when the node goes."""
    notes = folder.parent / "notes"
    moment = "during the write"
    for name, value in {
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": str(SABOTAGE),
        "SABOTAGE": "none",
        "SABOTAGE_NOTES": str(notes),
    }.items():
        monkeypatch.setenv(name, value)
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory(prefix="r") as place:  # short: a socket's path has 107 characters at most
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "temp_dir": place})
        try:
            with monkeypatch.context() as there:
                there.setenv("SABOTAGE", moment)
                there.setenv("SABOTAGE_HOLD", "1")
                node = cluster.add_node(num_cpus=2)
            driver = start(tiny_config, folder.parent, RAY_ADDRESS=cluster.address)
            wait_for((notes / moment).exists, driver)
            cluster.remove_node(node, allow_graceful=False)
            status, said = end(driver)
        finally:
            cluster.shutdown()
    assert status == 0, said
    check(folder, undisturbed, again=ACTORS)


def wait_for(ready: Callable[[], bool], process: subprocess.Popen[str], timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not ready():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)
