"""An error that only rank 0 can meet: it ends every rank of a group at once, rank 0 with what the user reads."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stages.ranks import LATE

pytestmark = pytest.mark.slow

OTHER = "RaysaeError: rank 0 could not write what training leaves"


@pytest.fixture(scope="module")
def ends(undisturbed: Path, tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """How each scene ended, by rank."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "tests.stages.ranks", str(tiny_config), str(undisturbed / "activations")]
    ranks = [subprocess.Popen([*command, str(folder), str(rank)]) for rank in range(2)]
    assert [process.wait(timeout=250) for process in ranks] == [0, 0]
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize(
    ("scene", "said"),
    [
        ("no numbers at a checkpoint", "Diverged: main/0: training diverged: loss=nan at step 3"),
        ("no numbers at a halt", "Diverged: training diverged: loss=nan at step 3"),
        ("no room for a checkpoint", "NoRoom: the disk is full"),
        ("no room for a finished SAE", "NoRoom: the disk is full"),
        ("no room for the board", "NoRoom: the disk is full"),
    ],
)
def test_both_ranks_end_before_one_gives_the_other_up(scene: str, said: str, ends: list[dict]) -> None:
    assert ends[0][scene]["said"].startswith(said)
    assert ends[1][scene]["said"] == OTHER


def test_a_halt_waits_for_room_to_say_after_which_step(ends: list[dict]) -> None:
    scene = "no room for the answer to a halt"
    assert [rank[scene]["said"] for rank in ends] == ["in peace", "in peace"]
    assert ends[0][scene]["left"] == ["0.checkpoint.safetensors"]


def test_a_rank_that_comes_late_to_what_only_lacks_its_finish_finds_what_the_first_found(ends: list[dict]) -> None:
    assert [rank[LATE]["said"] for rank in ends] == ["in peace, then in peace"] * 2
    assert ends[0][LATE]["left"] == ["sae_weights.safetensors"]
