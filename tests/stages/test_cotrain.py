"""Many SAEs on one stream: the bits each has alone, resumed from wherever each was."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from raysae.errors import NoRoom, RaysaeError
from raysae.stages.cotrain import Course, Place, of_rank_0, train_together
from raysae.stages.halt import Halt
from raysae.stages.jobs import SAEJob, groups, plan
from raysae.types.learning import LossConfig
from raysae.types.loading import load


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def jobs(undisturbed: Path, tiny_config: Path, tmp_path: Path) -> list[SAEJob]:
    """Another width, k, architecture, loss, seed of the initialisation, number of steps and arm, on one stream."""
    first = plan(load(tiny_config, ["train.steps=60"]), undisturbed / "activations", tmp_path)[0]
    changes = [
        {},
        {"sae": first.sae.model_copy(update={"expansion": 2, "k": 7})},
        {"sae": first.sae.model_copy(update={"architecture": "relu"}), "loss": LossConfig(l1=0.03, decorrelation=1.0)},
        {"seed": 5},
        {"train": first.train.model_copy(update={"steps": 35})},
        {"arm": "frozen_decoder"},
    ]
    return [replace(first, **change, out=tmp_path / str(i)) for i, change in enumerate(changes)]


def trained(jobs: list[SAEJob], folder: Path, stop_after: int | None = None) -> dict[Path, dict[str, Tensor]]:
    """The finished weights, the history and the origin of each; none where a halt came first."""
    found: dict[Path, dict[str, Tensor]] = {}

    def finish(course: Course) -> None:
        origin = torch.tensor([int(course.origin[name][:15], 16) for name in ("init", "order", "shard")])
        curve = torch.tensor(course.history["fvu"])
        found[course.job.out] = course.trainer.state()[0] | {"fvu": curve, "origin": origin}

    class After(Halt):
        def now(self) -> bool:
            if self.rounds + 1 == stop_after:
                self.asked.touch()
            return super().now()

    for _ in train_together(jobs, Place(), After(folder), finish):
        pass
    (folder / "halt").unlink(missing_ok=True)
    return found


def check_same(found: dict[Path, dict[str, Tensor]], expected: dict[Path, dict[str, Tensor]]) -> None:
    assert found.keys() == expected.keys()
    for out, tensors in expected.items():
        for name, tensor in tensors.items():
            assert torch.equal(found[out][name], tensor), f"{out.name}: {name}"


def test_together_each_has_the_bits_it_has_alone(jobs, tmp_path):
    alone = {out: tensors for job in jobs for out, tensors in trained([job], tmp_path).items()}
    check_same(trained(jobs, tmp_path), alone)
    assert len({float(tensors["fvu"][-1]) for tensors in alone.values()}) == len(jobs)
    assert not list(tmp_path.glob("*.checkpoint*"))


def test_after_a_halt_the_ones_behind_catch_up_and_all_end_the_same(jobs, tmp_path):
    whole = trained(jobs, tmp_path)
    assert trained(jobs[:2], tmp_path, stop_after=33) == {}
    assert trained(jobs[2:], tmp_path, stop_after=21) == {}
    assert len(list(tmp_path.glob("?.checkpoint.safetensors"))) == len(jobs)
    check_same(trained(jobs, tmp_path), whole)


def test_only_equal_streams_go_together_and_no_more_than_allowed(jobs, undisturbed, tiny_config, tmp_path):
    assert [len(group) for group in groups(jobs, 8)] == [6]
    assert [len(group) for group in groups(jobs, 4)] == [4, 2]
    nulls = "protocol.nulls=[random_model,frozen_decoder,frozen_encoder,gaussian]"
    every = plan(load(tiny_config, [nulls]), undisturbed / "activations", tmp_path)
    names = [[job.name for job in group] for group in groups(every, 8)]
    assert names == [
        ["main/0", "frozen_decoder/0", "frozen_encoder/0"],
        ["main/1", "frozen_decoder/1", "frozen_encoder/1"],
        ["random_model/0"],
        ["random_model/1"],
        ["gaussian/0"],
        ["gaussian/1"],
    ]


def test_a_stream_is_read_once_however_many_learn_from_it(jobs, tmp_path, monkeypatch):
    from raysae.store import ActivationStore

    read: list[int] = []
    batches = ActivationStore.batches

    def counted(*arguments, **options):
        for batch in batches(*arguments, **options):
            read.append(len(batch))
            yield batch

    monkeypatch.setattr("raysae.store.ActivationStore.batches", counted)
    trained(jobs, tmp_path)
    assert len(read) == 60


def test_divergence_names_the_sae_the_step_and_the_last_good_checkpoint(jobs, tmp_path, monkeypatch):
    from raysae.store import ActivationStore
    from raysae.training import Diverged

    batches = ActivationStore.batches

    def poisoned(*arguments, **options):
        for step, batch in enumerate(batches(*arguments, **options)):
            yield batch * (float("nan") if step == 30 else 1)

    monkeypatch.setattr("raysae.store.ActivationStore.batches", poisoned)
    with pytest.raises(Diverged, match=r"main/0: .*loss=nan at step 30; .*last good checkpoint: .*0.checkpoint.safe"):
        trained(jobs[:1], tmp_path)


def test_what_fails_for_rank_0_alone_fails_for_every_rank():
    heard: list[float] = []

    def full() -> None:
        raise NoRoom("a checkpoint")

    cpu = torch.device("cpu")
    with pytest.raises(NoRoom, match="a checkpoint was not written"):
        of_rank_0(Place(0, 2, broadcast=lambda word: heard.append(word.item())), cpu, full)
    assert heard == [1.0], "the others wait for a word that never came"
    of_rank_0(Place(1, 2), cpu, full)
    with pytest.raises(RaysaeError, match="rank 0 could not write"):
        of_rank_0(Place(1, 2, broadcast=lambda word: word.fill_(heard[0])), cpu, list)


def test_ranks_agree_on_the_step_after_which_they_stop(tmp_path):
    ranks = [Halt(tmp_path, rank, 3) for rank in range(3)]
    assert [rank.now() for rank in ranks] == [False] * 3
    assert ranks[2].now() is False  # ahead of rank 0, which is asked before its next look
    (tmp_path / "halt").touch()
    assert [ranks[0].now(), ranks[1].now()] == [False, False]
    assert [rank.now() for rank in ranks] == [True] * 3
