"""The same experiment through Ray Data, Tune and Train: the same artifacts as in one process, also after a crash."""

import json
from pathlib import Path

import pytest

from raysae.pipeline import run
from raysae.stages.progress import Reporter
from raysae.stages.resources import disconnect
from raysae.store import Manifest
from raysae.types.loading import load
from tests.runs import copy_before, hashes, kill_when, outcomes, overrides, raysae

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def through_ray(undisturbed: Path, tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """From capture on: the first stage where an actor holds a model. Nobody waits for more processes than it takes to
    have two of a kind where they share something."""
    folder = copy_before("capture", undisturbed, tmp_path_factory.mktemp("ray"))
    fewer = ["sweep.concurrent=1", "protocol.actors=1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYSAE_LOCAL", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")
        try:
            run(load(tiny_config, [f"out={folder.parent}", *fewer]), Reporter())
        finally:
            disconnect()
    return folder


def test_ray_gives_the_rows_weights_and_verdict_of_one_process(through_ray: Path, undisturbed: Path) -> None:
    check_same(through_ray, undisturbed)


def check_same(folder: Path, undisturbed: Path) -> None:
    found, expected = hashes(folder), hashes(undisturbed)
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []
    assert outcomes(folder) == outcomes(undisturbed)


@pytest.mark.slow
def test_from_text_to_report_by_the_command_line(undisturbed: Path, tiny_config: Path, tmp_path: Path) -> None:
    done = raysae("run", str(tiny_config), *overrides(tmp_path), local=False, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    check_same(tmp_path / "tiny", undisturbed)


def test_what_the_workers_use_stands_in_the_ledger(through_ray: Path) -> None:
    stages = json.loads((through_ray / "resources.json").read_text())["stages"]
    for stage in ("capture", "sweep", "train", "evaluate"):
        # importing torch alone takes a worker a second of a core and a tenth of a gigabyte
        assert stages[stage]["cpu_hours"] * 3600 > 1 and stages[stage]["peak_bytes"] > 1e8, stage
    assert stages["capture"]["written_bytes"] > stages["capture"]["disk_bytes"]
    assert not list(through_ray.rglob("used"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seen", "unfinished"),
    [
        ("activations/main/fit-00000.json", "activations/random_model"),
        ("sweep/trial-00.json", "sweep"),
        ("sae/main/0.checkpoint.safetensors", "sae/main/0"),
        ("metrics/main-0.json", "metrics"),
    ],
)
def test_a_driver_killed_under_ray_ends_as_if_undisturbed(
    seen: str, unfinished: str, undisturbed: Path, tiny_config: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "tiny"
    assert kill_when((folder / seen).is_file, "run", str(tiny_config), *overrides(tmp_path), local=False)
    assert not Manifest.exists(folder / unfinished)
    again = raysae("run", str(tiny_config), *overrides(tmp_path), local=False, timeout=400)
    assert again.returncode == 0, again.stderr
    check_same(folder, undisturbed)
