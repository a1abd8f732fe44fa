"""Checkpoints: the newest few and the best, whole or refused."""

from pathlib import Path

import pytest
import torch

from raysae.errors import BadInput
from raysae.store import Checkpoints, load_state


def saved(folder: Path, scores: list[float | None], keep: int = 2) -> Checkpoints:
    checkpoints = Checkpoints(folder / "sae", "mark", keep)
    for step, score in enumerate(scores):
        checkpoints.save({"step": torch.tensor([step])}, {"step": step}, score)
    return checkpoints


def steps(folder: Path) -> dict[str, int]:
    return {path.name: load_state(path, "mark")[1]["step"] for path in folder.iterdir()}


@pytest.mark.parametrize(("keep", "older"), [(1, {}), (2, {"-1": 3}), (3, {"-1": 3, "-2": 2})])
def test_the_newest_few_and_the_best_are_kept(keep, older, tmp_path):
    saved(tmp_path, [0.5, 0.2, 0.4, None, 0.3], keep)
    expected = {"": 4, "-best": 1, **older}
    assert steps(tmp_path) == {f"sae.checkpoint{age}.safetensors": step for age, step in expected.items()}


def test_the_newest_is_loaded_and_the_one_before_where_it_was_removed(tmp_path):
    checkpoints = saved(tmp_path, [None, None, None])
    assert checkpoints.load()[1]["step"] == 2
    checkpoints.path().unlink()
    assert checkpoints.load()[1]["step"] == 1
    checkpoints.remove()
    assert checkpoints.load() is None
    assert list(tmp_path.iterdir()) == []


def test_half_a_checkpoint_and_one_of_another_run_are_refused_with_the_file_named(tmp_path):
    checkpoints = saved(tmp_path, [None])
    with pytest.raises(BadInput, match=r"sae.checkpoint.safetensors is a checkpoint of another configuration"):
        Checkpoints(tmp_path / "sae", "other mark", 2).load()
    data = checkpoints.path().read_bytes()
    for length in (len(data) // 2, len(data) - 1, 5, 0):
        checkpoints.path().write_bytes(data[:length])
        with pytest.raises(BadInput, match=r"sae.checkpoint.safetensors cannot be read .*; remove .* and run again"):
            checkpoints.load()


def test_a_save_that_ended_between_its_two_steps_leaves_no_file_behind(tmp_path, monkeypatch):
    checkpoints = saved(tmp_path, [None])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("raysae.store.state.save_state", ended)
        saved(tmp_path, [None])
    assert steps(tmp_path) == {"sae.checkpoint.safetensors": 0, "sae.checkpoint-1.safetensors": 0}
    checkpoints.save({"step": torch.tensor([1])}, {"step": 1}, None)
    assert steps(tmp_path) == {"sae.checkpoint.safetensors": 1, "sae.checkpoint-1.safetensors": 0}
    checkpoints.remove()
    assert list(tmp_path.iterdir()) == []


def ended(*_: object) -> None:
    raise KeyboardInterrupt


def test_what_a_kill_left_half_written_goes_with_the_checkpoints_of_its_own_sae(tmp_path):
    checkpoints = saved(tmp_path, [None])
    (tmp_path / ".sae.checkpoint.safetensors.0a1b2c3d.tmp").write_bytes(b"half")
    (tmp_path / ".other.checkpoint.safetensors.0a1b2c3d.tmp").write_bytes(b"at work")
    checkpoints.remove()
    assert [path.name for path in tmp_path.iterdir()] == [".other.checkpoint.safetensors.0a1b2c3d.tmp"]
