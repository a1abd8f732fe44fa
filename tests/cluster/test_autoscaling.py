"""A cluster without a node for capture gets some while it is at work, and is rid of them afterwards."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.runs import copy_before, hashes


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_nodes_with_a_gpu_come_for_capture_and_go_when_it_is_done(
    undisturbed: Path, tiny_config: Path, tmp_path: Path
) -> None:
    folder = copy_before("capture", undisturbed, tmp_path)
    figure = tmp_path / "nodes.svg"
    script = [sys.executable, str(ROOT / "cluster" / "autoscaling.py"), str(tiny_config)]
    flags = ["--out", str(tmp_path), "--nodes=2", "--idle-minutes=0.1", "--figure", str(figure)]
    done = subprocess.run([*script, *flags], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = [int(count) for step in re.findall(r"(\d) -> (\d)$", done.stdout, re.MULTILINE) for count in step]
    assert counts[0] == counts[-1] == 0 and 1 <= max(counts) <= 2
    assert hashes(folder, "activations") == hashes(undisturbed, "activations")
    assert "nodes with a GPU" in figure.read_text()
