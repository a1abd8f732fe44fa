"""The benchmarks that need nothing but the package still run, at sizes where their numbers mean nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SMALL = {
    "memory": ["--d-in", "16", "--expansion", "4", "--batch", "64", "--steps", "3"],
    "cotrain": ["--skip-runs", "--rounds", "1"],
    "loader": ["--rows", "32768", "--width", "16", "--rounds", "1"],
}
KEYS = {"memory": "peak", "cotrain": "steps", "loader": "of_pyarrow"}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_runs_and_says_what_it_found(name: str, tmp_path: Path) -> None:
    command = [sys.executable, f"benchmarks/{name}.py", *SMALL[name], "--json", str(tmp_path / "found.json")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=600)
    assert json.loads((tmp_path / "found.json").read_text())[KEYS[name]]
