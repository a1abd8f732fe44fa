"""The same experiment through Ray Data, Tune and Train: the same artifacts as in one process, also after a crash."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from raysae.store import Manifest
from tests.conftest import ROOT
from tests.runs import environment, hashes, kill_when, outcomes, overrides, raysae

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def through_ray(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ray")
    done = raysae("run", str(tiny_config), *overrides(out), local=False, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return out / "tiny"


def test_ray_gives_the_rows_weights_and_verdict_of_one_process(through_ray: Path, undisturbed: Path) -> None:
    parts = ("corpus", "tokens", "labels", "activations", "sae", "sweep")
    found, expected = hashes(through_ray, *parts), hashes(undisturbed, *parts)
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []
    assert outcomes(through_ray) == outcomes(undisturbed)


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
    seen: str, unfinished: str, through_ray: Path, tiny_config: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "tiny"
    assert kill_when((folder / seen).is_file, "run", str(tiny_config), *overrides(tmp_path), local=False)
    assert not Manifest.exists(folder / unfinished)
    again = raysae("run", str(tiny_config), *overrides(tmp_path), local=False, timeout=400)
    assert again.returncode == 0, again.stderr
    assert hashes(folder) == hashes(through_ray)


@pytest.mark.slow
def test_a_job_submitted_to_a_head_with_a_token_streams_its_log_and_exits_0(tiny_config: Path, tmp_path: Path) -> None:
    """A head of its own on free ports; the client needs the token, and a second submission finds the run finished."""
    token = tmp_path / "token"
    token.write_text("a-test-token-of-no-value-0123456789abcdef")
    env = {**environment(local=False), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    ports = {
        "port": 26379,
        "dashboard-port": 28265,
        "ray-client-server-port": 30001,
        "dashboard-agent-listen-port": 25365,
    }
    ray = str(Path(sys.executable).parent / "ray")
    shutil.copy(tiny_config, work := tmp_path / "tiny.yaml")
    place = tempfile.mkdtemp(prefix="r")  # short: a socket's path has 107 characters at most
    flags = [f"--{name}={value}" for name, value in {**ports, "num-cpus": 4, "temp-dir": place}.items()]
    head = subprocess.Popen(
        [ray, "start", "--head", "--block", "--include-dashboard=true", "--dashboard-host=127.0.0.1", *flags],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    job = ["python", "jobs/run.py", str(work), f"out={tmp_path / 'runs'}"]
    command = [ray, "job", "submit", "--address", f"http://127.0.0.1:{ports['dashboard-port']}"]

    def submit(env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        whole = [*command, "--working-dir", str(ROOT), "--", *job]
        return subprocess.run(whole, env=env, capture_output=True, text=True, timeout=400)

    try:
        deadline = time.monotonic() + 90
        first = submit(env)
        while "Failed to connect" in first.stdout + first.stderr and time.monotonic() < deadline:
            time.sleep(3)
            first = submit(env)
        assert first.returncode == 0, first.stdout + first.stderr
        assert "done evaluate" in first.stdout
        assert "verdict" in first.stdout
        assert json.loads((tmp_path / "runs" / "tiny" / "verdict.json").read_text())["criteria"]
        second = submit(env)
        assert "nothing to do" in second.stdout
        stranger = submit({**env, "RAY_AUTH_MODE": "disabled"})
        assert stranger.returncode != 0
    finally:
        os.killpg(head.pid, 15)
        head.wait(timeout=60)
        shutil.rmtree(place, ignore_errors=True)
