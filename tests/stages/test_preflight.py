"""What capture will write is told beforehand: never less than it is, not much more, and refused if it cannot fit."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from raysae.stages import capture
from raysae.stages.preflight import block_bytes, check_room
from raysae.store import Manifest, TokenStore
from tests.runs import copy_before, in_process, overrides

WIDTHS = {"layers.1.resid_post": 64, "layers.0.mlp_out": 64}


def room(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))


@pytest.mark.parametrize(("dtype", "size"), [("float16", 2), ("bfloat16", 2), ("float32", 4)])
def test_the_estimate_of_a_large_block_is_its_numbers_and_a_hundredth(dtype: str, size: int) -> None:
    numbers = 2_097_152 * 2 * 1024 * size
    assert 1 < block_bytes(2_097_152, {"a": 1024, "b": 1024}, dtype) / numbers < 1.01


def test_the_estimate_is_never_less_than_what_is_written_nor_much_more(undisturbed: Path) -> None:
    tokens = TokenStore(undisturbed / "tokens").blocks()
    for arm in ("main", "random_model"):
        folder = undisturbed / "activations" / arm
        written = {info.name: info for info in Manifest.read(folder).blocks}
        sizes = [
            (
                written[info.name].bytes + (folder / f"{info.name}.json").stat().st_size,
                block_bytes(info.facts["tokens"], WIDTHS, "float16"),
            )
            for info in tokens
        ]
        assert all(actual <= most for actual, most in sizes)
        total = sum(actual for actual, _ in sizes) + (folder / "manifest.json").stat().st_size
        assert total <= sum(most for _, most in sizes) < 1.5 * total


def test_only_what_is_not_there_yet_must_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room(10_000_000, monkeypatch)
    assert check_room(tmp_path / "new", [100, 200], {"a": 1000, "b": 500}, "float32") == (
        "to write: 300 tokens x 1,500 numbers x 4 bytes = 2.0 MB at most; 10.0 MB free"
    )


def test_capture_that_cannot_fit_is_refused_before_a_model_is_loaded_and_goes_on_once_it_can(
    undisturbed: Path, tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_before("capture", undisturbed, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(capture, "load_model", lambda *_: pytest.fail("a model was loaded"))
        room(1_000_000, patch)
        refused = in_process("capture", str(tiny_config), *overrides(tmp_path))
    assert refused.returncode == 2
    (line,) = refused.stderr.strip().split("\n")
    assert "capture would write" in line
    assert "1.0 MB are free there; make room, type out=" in line
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert after == before
    again = in_process("capture", str(tiny_config), *overrides(tmp_path))
    assert again.returncode == 0
    assert "to write: " in again.stdout
