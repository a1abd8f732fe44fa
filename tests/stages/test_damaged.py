"""Files of a run folder that are not what its stages wrote: refused in one line before a model is loaded, nothing is
touched, and what the line says to type makes the folder whole."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from raysae.saes import build, checkpoint
from raysae.stages import capture
from raysae.store import Manifest
from tests.runs import copy_before, hashes, in_process, overrides

BLOCK = "activations/main/train-00000.parquet"


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def foreign(path: Path) -> None:
    shutil.copy(path.parents[2] / "tokens" / path.name, path)


def gone(path: Path) -> None:
    path.unlink()


def of_another_run(folder: Path) -> None:
    manifest = Manifest.read(folder).model_copy(update={"fingerprint": "0" * 64})
    (folder / "manifest.json").write_text(manifest.model_dump_json())


def state(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def refuse(stage: str, config: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The line with which `stage` ends; nothing was loaded or changed."""
    before = state(folder)
    with monkeypatch.context() as patch:
        for name in ("capture.make_forward", "court.load_model", "court.random_twin"):
            patch.setattr(f"raysae.stages.{name}", lambda *_, **__: pytest.fail("a model was loaded"))
        result = in_process(stage, str(config), *overrides(folder.parent))
    assert result.returncode == 2, result.stderr
    (line,) = result.stderr.strip().split("\n")
    assert line.count("; ") == 2
    assert state(folder) == before
    return line


@pytest.mark.parametrize("damage", [cut_short, foreign, gone])
def test_a_damaged_block_stops_training_and_is_made_again_alone(
    damage: Callable[[Path], None],
    undisturbed: Path,
    tiny_config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = copy_before("train", undisturbed, tmp_path)
    damage(folder / BLOCK)
    line = refuse("train", tiny_config, folder, monkeypatch)
    assert f"{folder / BLOCK} has " in line
    manifest = folder / "activations" / "main" / "manifest.json"
    assert f"remove {manifest} and run again" in line
    before = state(folder / "activations")
    manifest.unlink()
    again = in_process("capture", str(tiny_config), *overrides(tmp_path))
    assert again.returncode == 0, again.stderr
    assert hashes(folder, "activations") == hashes(undisturbed, "activations")
    after = state(folder / "activations")
    changed = {Path(path).stem for path in after if after[path] != before.get(path)}
    assert changed == {"train-00000", "manifest"}


@pytest.mark.parametrize("damage", [cut_short, foreign])
def test_a_damaged_block_of_an_unfinished_capture_is_made_again(
    damage: Callable[[Path], None], undisturbed: Path, tiny_config: Path, tmp_path: Path
) -> None:
    folder = copy_before("sweep", undisturbed, tmp_path)
    damage(folder / BLOCK)
    (folder / "activations" / "main" / "manifest.json").unlink()
    assert in_process("capture", str(tiny_config), *overrides(tmp_path)).returncode == 0
    assert hashes(folder, "activations") == hashes(undisturbed, "activations")


@pytest.mark.parametrize(
    ("part", "stage"),
    [
        ("corpus", "tokenize"),
        ("labels", "tokenize"),
        ("quality", "quality"),
        ("activations/main", "capture"),
        ("activations/random_model", "capture"),
        ("sae/main/1", "train"),
    ],
)
def test_a_manifest_of_another_configuration_is_refused(
    part: str, stage: str, undisturbed: Path, tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(undisturbed.parent, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / undisturbed.name
    (folder / "report.html").unlink()
    of_another_run(folder / part)
    line = refuse(stage, tiny_config, folder, monkeypatch)
    assert f"{folder / part}/manifest.json is of another configuration (0000000000000000..., this one is " in line
    assert f"move {folder / part} away and run again" in line


def test_an_sae_of_another_width_is_refused_by_both_numbers(
    undisturbed: Path, tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_before("evaluate", undisturbed, tmp_path)
    checkpoint.save(build("batch_topk", 48, 192, 4, 0), folder / "sae" / "main" / "0", {})
    line = refuse("evaluate", tiny_config, folder, monkeypatch)
    assert "sae/main/0 holds an SAE of d_in 48; layers.1.resid_post in " in line
    assert "activations/main has 64; move" in line


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("model: {name: tiny-cot}\n")
    other = Path(capture.__file__).parents[1] / "models" / "bundled" / "tiny-gsm8k"
    result = in_process("capture", str(tmp_path / "x.yaml"), f"tokenizer.path={other}", f"out={tmp_path / 'runs'}")
    assert result.returncode == 2, result.stderr
    (line,) = result.stderr.strip().split("\n")
    assert "the tokenizer gives ids up to 4095, but tiny-cot knows 81 tokens" in line
    assert not (tmp_path / "runs").exists()


def test_records_that_are_gone_are_made_again_though_their_source_is_noted_as_done(
    undisturbed: Path, tiny_config: Path, tmp_path: Path
) -> None:
    folder = tmp_path / undisturbed.name
    shutil.copytree(undisturbed, folder)
    shutil.rmtree(folder / "corpus")
    (folder / "report.html").unlink()
    again = in_process("ingest", str(tiny_config), *overrides(tmp_path))
    assert again.returncode == 0, again.stderr
    assert hashes(folder, "corpus") == hashes(undisturbed, "corpus")
