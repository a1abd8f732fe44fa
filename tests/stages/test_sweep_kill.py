"""SIGKILL of a sweep's driver and of a trial's process: no finished trial is trained again, and the same sweep.json."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.runs import copy_before, hashes, kill_when, overrides, raysae, started
from tests.stages.victims import workers

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(600)]

TPE = (
    "sweep.search=tpe", "sweep.trials=6", "sweep.k=[2,6]", "sweep.lr=[1e-3,1e-2]", "sweep.steps=200",
    "train.checkpoint_steps=20",
)  # fmt: skip
GRID = ("sweep.trials=4", "sweep.expansion=[2,4]", "sweep.k=[3,4]", "sweep.steps=600", "train.checkpoint_steps=20")


def settings(out: Path, name: str) -> list[str]:
    return overrides(out, TPE if name == "tpe" else GRID)


@pytest.fixture(scope="module", params=["tpe", "grid"])
def whole(
    request: pytest.FixtureRequest, tiny_config: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """(kind, run folder) of an undisturbed sweep."""
    out = tmp_path_factory.mktemp(request.param)
    done = raysae("sweep", str(tiny_config), *settings(out, request.param), local=False, timeout=400)
    assert done.returncode == 0, done.stderr
    return request.param, out / "tiny"


def test_a_killed_driver_ends_as_if_undisturbed(whole: tuple[str, Path], tiny_config: Path, tmp_path: Path) -> None:
    kind, undisturbed = whole
    folder = copy_before("sweep", undisturbed, tmp_path)
    seen = "trial-02.json" if kind == "tpe" else "trial-00.checkpoint.safetensors"
    ready = (folder / "sweep" / seen).is_file
    assert kill_when(ready, "sweep", str(tiny_config), *settings(tmp_path, kind), local=False)
    finished = {path: path.stat().st_mtime_ns for path in (folder / "sweep").glob("trial-??.json")}
    again = raysae("sweep", str(tiny_config), *settings(tmp_path, kind), local=False, timeout=400)
    assert again.returncode == 0, again.stderr
    assert hashes(folder, "sweep") == hashes(undisturbed, "sweep")
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in finished.items()), "a finished trial was done again"


def test_a_killed_trial_is_started_again_and_changes_nothing(
    whole: tuple[str, Path], tiny_config: Path, tmp_path: Path
) -> None:
    kind, undisturbed = whole
    folder = copy_before("sweep", undisturbed, tmp_path)
    driver = started("sweep", tiny_config, *settings(tmp_path, kind))
    try:
        deadline, killed = time.monotonic() + 200, None
        while killed is None and driver.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
            if list((folder / "sweep").glob("trial-*.checkpoint.safetensors")):
                killed = next((pid for role, pid in workers(driver.pid) if role == "trial"), None)
        assert killed is not None, "no trial was seen at work"
        os.kill(killed, signal.SIGKILL)
        said, _ = driver.communicate(timeout=400)
    finally:
        if driver.poll() is None:
            os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
    assert driver.returncode == 0, said
    assert hashes(folder, "sweep") == hashes(undisturbed, "sweep")
    assert json.loads((folder / "sweep" / "sweep.json").read_text())["search"] == kind
