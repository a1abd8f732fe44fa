"""SIGKILL in the middle of every stage, the same command again: the same rows, the same weights, the same verdict.

The stages run in one process here, so a kill ends driver and worker at once; `test_ray.py` kills them under Ray.
"""

import shutil
from pathlib import Path

import pytest

from raysae.store import Manifest
from tests.runs import copy_before, hashes, kill_when, outcomes, overrides, raysae

IN_THE_MIDDLE = {
    # stage: (a file that appears while the stage works, the manifest that must not be there yet)
    "ingest": ("corpus/arithmetic_cot-00000200.json", "corpus"),
    "tokenize": ("tokens/arithmetic_cot-00000200-test-00000-000.json", "tokens"),
    "seal": ("tokens/manifest.json", "metrics"),
    "capture": ("activations/main/arithmetic_cot-00000100-fit-00000-000.json", "activations/random_model"),
    "sweep": ("sweep/trial-00.json", "sweep"),
    "train": ("sae/main/1.checkpoint.safetensors", "sae/main/1"),
    "evaluate": ("metrics/main-0.json", "metrics"),
    "decide": ("verdict.json", "nowhere"),
}


@pytest.mark.parametrize("stage", IN_THE_MIDDLE)
def test_a_killed_stage_ends_as_if_undisturbed(
    stage: str, undisturbed: Path, tiny_config: Path, tmp_path: Path
) -> None:
    folder = copy_before(stage, undisturbed, tmp_path)
    seen, unfinished = IN_THE_MIDDLE[stage]
    killed = kill_when((folder / seen).is_file, "run", str(tiny_config), *overrides(tmp_path))
    assert killed, f"{stage} was over before it could be killed"
    assert not Manifest.exists(folder / unfinished), "the kill came too late to test anything"

    again = raysae("run", str(tiny_config), *overrides(tmp_path))

    assert again.returncode == 0, again.stderr
    assert hashes(folder) == hashes(undisturbed)
    assert outcomes(folder) == outcomes(undisturbed)
    assert (folder / "report.html").is_file()
    assert not [path for path in folder.rglob("*.tmp") if "metrics" not in path.parts], (
        "a rerun leaves no half-written file in use"
    )


def test_what_was_finished_is_not_done_again(undisturbed: Path, tiny_config: Path, tmp_path: Path) -> None:
    folder = copy_before("capture", undisturbed, tmp_path)
    done = folder / "activations" / "main" / "arithmetic_cot-00000100-fit-00000-000.json"
    assert kill_when(done.is_file, "run", str(tiny_config), *overrides(tmp_path))
    stamps = {path: path.stat().st_mtime_ns for path in (folder / "activations").rglob("*.parquet")}
    assert stamps
    assert raysae("capture", str(tiny_config), *overrides(tmp_path)).returncode == 0
    receipts = {path.with_suffix(".json") for path in stamps}
    redone = [path for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp]
    assert len(redone) <= 1, "more than what was in flight was done again"
    assert all(receipt.is_file() for receipt in receipts)
    shutil.rmtree(folder)
