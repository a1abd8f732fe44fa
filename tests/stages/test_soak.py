"""Twenty SIGKILLs at random moments over driver, actors, trials and training workers: the undisturbed result."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from raysae.stages.verify import verify
from tests.runs import environment, hashes, outcomes, overrides
from tests.stages.victims import DRIVER, ROLES, victims

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(3600)]

KILLS = 20
PATIENCE_S = 1.5
"""Mean time between two kills, where there is somebody to kill."""
HEAVY = ("ingest", "tokenize", "capture", "sweep", "train", "evaluate")
"""The stages that have processes of their own."""


def test_twenty_kills_end_as_if_undisturbed(undisturbed: Path, tiny_config: Path, tmp_path: Path) -> None:
    chance = random.Random(0)
    killed: Counter[str] = Counter()
    log = tmp_path / "log"
    starts = 0
    while True:
        starts += 1
        assert starts <= 2 * KILLS, log.read_text()
        with log.open("a") as said:
            driver = subprocess.Popen(
                [sys.executable, "-m", "raysae", "run", str(tiny_config), *overrides(tmp_path)],
                env=environment(local=False),
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            status = suffer(driver, killed, chance, log)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(driver.pid, signal.SIGKILL)
        if status == 0:
            break
        if status != -signal.SIGKILL:
            line = log.read_text().rstrip().rpartition("\n")[2]
            assert line.startswith("raysae: "), log.read_text()
    assert killed.total() == KILLS, f"{dict(killed)}: the run was too fast"
    assert all(killed[role] for role in (DRIVER, *ROLES.values())), killed
    assert verify(tmp_path / "tiny") == []
    assert hashes(tmp_path / "tiny") == hashes(undisturbed)
    assert outcomes(tmp_path / "tiny") == outcomes(undisturbed)


def suffer(driver: subprocess.Popen[bytes], killed: Counter[str], chance: random.Random, log: Path) -> int:
    """Kill one process after the other until the driver is gone; its exit status. Every stage has its share of the
    kills, and those that the stages before it escaped."""
    while killed.total() < KILLS:
        deadline = time.monotonic() + chance.expovariate(1 / PATIENCE_S)
        while time.monotonic() < deadline or killed.total() >= due(log) or len(victims(driver.pid)) == 1:
            if driver.poll() is not None:
                return driver.returncode
            time.sleep(0.1)
        role, pid = chance.choice(victims(driver.pid))
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed[role] += 1
        if role == DRIVER:
            break
    return driver.wait()


def due(log: Path) -> int:
    """How many kills may have been made by the end of the stage that is at work."""
    begun = re.findall(r"^(\w+) \.\.\.$", log.read_text(), re.MULTILINE)
    return KILLS * (HEAVY.index(begun[-1]) + 1) // len(HEAVY) if begun and begun[-1] in HEAVY else 0
