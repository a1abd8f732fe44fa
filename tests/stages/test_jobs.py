"""`ray job submit` to a head with a token: log, exit status, strangers, and a job that is stopped and sent again."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raysae.store import Manifest
from tests.conftest import ROOT
from tests.runs import copy_before, environment, hashes, outcomes

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

RAY = str(Path(sys.executable).parent / "ray")
PORTS = {
    "port": 26379,
    "dashboard-port": 28265,
    "ray-client-server-port": 30001,
    "dashboard-agent-listen-port": 25365,
}
ADDRESS = f"http://127.0.0.1:{PORTS['dashboard-port']}"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of who may talk to the head, which has ports of its own."""
    token = tmp_path_factory.mktemp("secret") / "token"
    token.write_text("a-test-token-of-no-value-0123456789abcdef")
    env = {**environment(local=False), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    place = tempfile.mkdtemp(prefix="r")  # short: a socket's path has 107 characters at most
    flags = [f"--{name}={value}" for name, value in {**PORTS, "num-cpus": 4, "temp-dir": place}.items()]
    head = subprocess.Popen(
        [RAY, "start", "--head", "--block", "--include-dashboard=true", "--dashboard-host=127.0.0.1", *flags],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while job("list", env=env).returncode and time.monotonic() < deadline:
            time.sleep(2)
        yield env
    finally:
        os.killpg(head.pid, 15)
        head.wait(timeout=60)
        shutil.rmtree(place, ignore_errors=True)


def job(command: str, *arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    whole = [RAY, "job", command, "--address", ADDRESS, *arguments]
    return subprocess.run(whole, env=env, capture_output=True, text=True, timeout=600)


@pytest.fixture
def entry(tiny_config: Path, tmp_path: Path) -> list[str]:
    """What is submitted."""
    return ["--working-dir", str(ROOT), "--", "python", "jobs/run.py", str(tiny_config), f"out={tmp_path}"]


def test_the_log_is_streamed_the_status_is_0_and_a_stranger_is_turned_away(
    client: dict[str, str], entry: list[str], undisturbed: Path, tmp_path: Path
) -> None:
    copy_before("capture", undisturbed, tmp_path)
    first = job("submit", *entry, env=client)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "done evaluate" in first.stdout
    assert "verdict" in first.stdout
    assert json.loads((tmp_path / "tiny" / "verdict.json").read_text())["criteria"]
    second = job("submit", *entry, env=client)
    assert "nothing to do" in second.stdout
    stranger = job("submit", *entry, env={**client, "RAY_AUTH_MODE": "disabled"})
    assert stranger.returncode != 0


def test_a_job_stopped_in_the_middle_goes_on_when_it_is_sent_again(
    client: dict[str, str], entry: list[str], undisturbed: Path, tmp_path: Path
) -> None:
    folder = copy_before("sweep", undisturbed, tmp_path)
    sent = job("submit", "--no-wait", "--submission-id=first", *entry, env=client)
    assert sent.returncode == 0, sent.stdout + sent.stderr
    deadline = time.monotonic() + 400
    while not (folder / "sae" / "main" / "0.checkpoint.safetensors").is_file():
        assert time.monotonic() < deadline, job("logs", "first", env=client).stdout
        time.sleep(0.01)
    stopped = job("stop", "first", env=client)
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert "'first' was stopped" in job("status", "first", env=client).stdout
    assert not Manifest.exists(folder / "metrics"), "it was stopped too late to test anything"
    again = job("submit", *entry, env=client)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "have sweep" in again.stdout
    assert hashes(folder) == hashes(undisturbed)
    assert outcomes(folder) == outcomes(undisturbed)
