"""SIGKILL in the middle of every stage, the same command again: the same rows, the same weights, the same verdict.

The stages run in one process here, so a kill ends driver and worker at once; `test_ray.py` kills them under Ray.
"""

from pathlib import Path

import pytest

from raysae.stages.verify import verify
from raysae.store import Manifest
from tests.runs import copy_before, hashes, in_process, kill_when, outcomes, overrides, raysae

IN_THE_MIDDLE = {
    # stage: (a file that appears while the stage works, the manifest that must not be there yet)
    "ingest": ("quarantine/arithmetic_cot-00000200.json", "corpus"),
    "tokenize": ("tokens/test-00001.json", "tokens"),
    "capture": ("activations/main/fit-00000.json", "activations/random_model"),
    "sweep": ("sweep/trial-00.json", "sweep"),
    "train": ("sae/main/1.checkpoint.safetensors", "sae/main/1"),
    "evaluate": ("metrics/main-0.json", "metrics"),
    "decide": ("verdict.json", "nowhere"),
}


OWN = {
    "ingest": ("corpus",),
    "tokenize": ("tokens", "labels"),
    "capture": ("activations",),
    "sweep": ("sweep",),
    "train": ("sae",),
    "evaluate": ("metrics",),
}
"""What a stage writes, to be compared."""


@pytest.mark.parametrize(
    "stage", ["capture", *(pytest.param(s, marks=pytest.mark.slow) for s in IN_THE_MIDDLE if s != "capture")]
)
def test_a_killed_stage_ends_as_if_undisturbed(
    stage: str, undisturbed: Path, tiny_config: Path, tmp_path: Path
) -> None:
    folder = copy_before(stage, undisturbed, tmp_path)
    seen, unfinished = IN_THE_MIDDLE[stage]
    assert kill_when((folder / seen).is_file, stage, str(tiny_config), *overrides(tmp_path)), f"{stage} was too fast"
    assert not Manifest.exists(folder / unfinished), "the kill came too late to test anything"
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}

    again = in_process(stage, str(tiny_config), *overrides(tmp_path))

    if stage == "decide":
        assert again.returncode in (3, 4), again.stderr
        assert outcomes(folder) == outcomes(undisturbed)
        assert verify(folder) == []
        return
    assert again.returncode == 0, again.stderr
    assert hashes(folder, *OWN[stage]) == hashes(undisturbed, *OWN[stage])
    redone = [path for path, stamp in times.items() if path.stat().st_mtime_ns != stamp]
    assert len(redone) <= 2, "more than what was in flight was done again"


@pytest.mark.slow
@pytest.mark.parametrize("stage", IN_THE_MIDDLE)
def test_a_killed_run_ends_with_the_same_verdict(
    stage: str, undisturbed: Path, tiny_config: Path, tmp_path: Path
) -> None:
    folder = copy_before(stage, undisturbed, tmp_path)
    seen, _ = IN_THE_MIDDLE[stage]
    assert kill_when((folder / seen).is_file, "run", str(tiny_config), *overrides(tmp_path))
    again = raysae("run", str(tiny_config), *overrides(tmp_path))
    assert again.returncode == 0, again.stderr
    assert hashes(folder) == hashes(undisturbed)
    assert outcomes(folder) == outcomes(undisturbed)
    assert (folder / "report.html").is_file()
