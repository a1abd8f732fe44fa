"""One process of a training group of two over gloo: every scene in turn, and how each ended here, as JSON."""

import json
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from raysae.errors import NoRoom, RaysaeError
from raysae.stages.cotrain import Place
from raysae.stages.halt import Halt
from raysae.stages.jobs import SAEJob, plan
from raysae.stages.train import train_all
from raysae.store import ActivationStore
from raysae.training.reduce import pairwise_sum
from raysae.types.loading import load

STEPS = 30
PATIENCE_S = 30
"""How long a rank waits for the other; a user's error must end both before."""


def no_room(path: Path, *_: Any) -> None:
    raise NoRoom(path)


def _poison(patch: pytest.MonkeyPatch, rank: int) -> None:
    """The fourth batch holds no numbers, which nobody reads before a checkpoint or the curves."""
    batches = ActivationStore.batches

    def poisoned(*arguments: Any, **options: Any) -> Any:
        for step, batch in enumerate(batches(*arguments, **options)):
            yield batch * (float("nan") if step == 3 else 1)

    patch.setattr(ActivationStore, "batches", poisoned)


def _ask_to_halt(patch: pytest.MonkeyPatch, rank: int, steps: int = 5) -> None:
    now = Halt.now

    def asked_after_steps(halt: Halt) -> bool:
        if rank == 0 and halt.rounds == steps:
            halt.asked.touch()
        return now(halt)

    patch.setattr(Halt, "now", asked_after_steps)


def _poison_and_ask(patch: pytest.MonkeyPatch, rank: int) -> None:
    _poison(patch, rank)
    _ask_to_halt(patch, rank)


def _ask_without_room(patch: pytest.MonkeyPatch, rank: int) -> None:
    """For the answer at its first attempt; the second finds some."""
    from raysae.stages import halt

    write, refused = halt.write_atomic, []

    def once(path: Path, data: bytes) -> None:
        if not refused:
            refused.append(path)
            raise NoRoom(path)
        write(path, data)

    patch.setattr("raysae.stages.halt.write_atomic", once)
    _ask_to_halt(patch, rank)


def _without_room(name: str) -> Callable[[pytest.MonkeyPatch, int], None]:
    return lambda patch, rank: patch.setattr(name, no_room)


def _halt_at_the_last_step(patch: pytest.MonkeyPatch, rank: int) -> None:
    _ask_to_halt(patch, rank, STEPS - 2)


LATE = "halted at the last step"
"""After this scene a second group begins, whose rank 1 comes late."""
SCENES: dict[str, tuple[int, Callable[[pytest.MonkeyPatch, int], None]]] = {
    # name: (steps between checkpoints, what is done to a process beforehand)
    "no numbers at a checkpoint": (10, _poison),
    "no numbers at a halt": (1000, _poison_and_ask),
    "no room for a checkpoint": (10, _without_room("raysae.store.state.save_state")),
    "no room for a finished SAE": (1000, _without_room("raysae.stages.train._save")),
    "no room for the board": (1000, _without_room("raysae.stages.train.write_json")),
    "no room for the answer to a halt": (1000, _ask_without_room),
    LATE: (1000, _halt_at_the_last_step),
}


def ended(jobs: list[SAEJob], folder: Path, place: Place) -> str:
    try:
        train_all(jobs, folder / "progress.json", place)
    except RaysaeError as error:
        return f"{type(error).__name__}: {error}"
    except RuntimeError as error:
        return f"gloo gave up: {error}"
    return "in peace"


def main(config: Path, activations: Path, folder: Path, rank: int) -> None:
    torch.set_num_threads(1)
    found = {}
    for scene, (steps, prepare) in SCENES.items():
        out = folder / scene
        out.mkdir(exist_ok=True)
        experiment = load(config, [f"train.steps={STEPS}", "train.seeds=1", f"train.checkpoint_steps={steps}"])
        meeting, patience = f"file://{out}/meeting", timedelta(seconds=PATIENCE_S)
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2, timeout=patience)
        jobs = plan(experiment, activations, out)[:1]
        place = Place(rank, 2, pairwise_sum, lambda tensor: dist.broadcast(tensor, 0))
        with pytest.MonkeyPatch.context() as patch:
            prepare(patch, rank)
            said = ended(jobs, out, place)
        if scene == LATE:
            time.sleep(2 * rank)
            said += f", then {ended(jobs, out, place)}"
        left = [path.name for path in out.rglob("*.safetensors")]
        found[scene] = {"said": said, "left": left}
        dist.destroy_process_group()
    (folder / f"rank-{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), rank=int(sys.argv[4]))
