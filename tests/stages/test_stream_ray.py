"""Streaming through Ray Data: the rows of one process, bounded memory, errors as they were raised."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from ray._private.internal_api import memory_summary

from raysae.errors import BadInput
from raysae.models.load import load_model
from raysae.stages.stream import source
from raysae.store import TokenStore
from raysae.store.order import Group, row_groups
from raysae.types import Experiment, HookPoint
from raysae.types.experiment import ModelConfig
from raysae.types.loading import load
from tests.runs import copy_before, hashes, overrides, raysae

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

HIDDEN = HookPoint(layer=1, site="mlp_hidden")


@pytest.fixture
def small_cluster() -> Iterator[None]:
    """With an object store of 80 MB."""
    ray.init(num_cpus=4, object_store_memory=80 * 2**20, include_dashboard=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture
def experiment(undisturbed: Path, tiny_config: Path, tmp_path: Path) -> Experiment:
    copy_before("capture", undisturbed, tmp_path)
    return load(tiny_config, [f"out={tmp_path}"])


def groups_of(experiment: Experiment) -> list[Group]:
    blocks = TokenStore(experiment.folder / "tokens").blocks()
    return row_groups([block.model_copy(update={"rows": block.facts["tokens"]}) for block in blocks])


@pytest.mark.parametrize("workers", [1, 2])
def test_streamed_through_ray_as_in_one_process(
    workers: int, undisturbed: Path, tiny_config: Path, tmp_path: Path
) -> None:
    found = []
    for local in (True, False):
        folder = copy_before("capture", undisturbed, tmp_path / str(local))
        settings = ["activations.mode=stream", f"train.workers={workers}"]
        command = ["train", str(tiny_config), *overrides(folder.parent), *settings]
        done = raysae(*command, local=local, timeout=400)
        assert done.returncode == 0, done.stdout + done.stderr
        found.append(hashes(folder, "activations", "sweep", "sae"))
    assert found[0] == found[1]
    assert sum(name.endswith(".safetensors") for name in found[0]) >= 2


@pytest.mark.usefixtures("small_cluster")
def test_far_more_rows_than_the_object_store_holds_and_nothing_spilled(experiment: Experiment) -> None:
    made_by = source(experiment, "main")
    group = groups_of(experiment)[0]
    wanted = [group] * (400 * 2**20 // (group.rows * 256 * 2))  # 400 MB
    rows = made_by.rows(HIDDEN, iter(wanted))
    first = next(rows)
    time.sleep(10)  # the actors would be through
    for array in rows:
        assert np.array_equal(array, first)
    assert "Spilled" not in memory_summary(stats_only=True)


@pytest.mark.usefixtures("small_cluster")
def test_an_actor_that_is_killed_is_made_again_and_no_row_is_lost_or_shown_twice(experiment: Experiment) -> None:
    groups = groups_of(experiment)
    expected = list(source(experiment, "main").rows(HIDDEN, iter(groups)))
    rows = source(experiment, "main").rows(HIDDEN, iter(groups * 20))
    found = [next(rows)]
    victim, *_ = map_workers()
    os.kill(victim, signal.SIGKILL)
    found += rows
    assert len(found) == 20 * len(groups)
    for place, array in enumerate(found):
        assert np.array_equal(array, expected[place % len(groups)])


def map_workers() -> list[int]:
    """Process ids of the actors of this process's own cluster."""

    def parent(pid: int) -> int:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if "MapWorker" in (folder / "cmdline").read_text() and parent(parent(int(folder.name))) == os.getpid():
                found.append(int(folder.name))
    return found


@pytest.mark.usefixtures("small_cluster")
def test_an_error_of_an_actor_arrives_as_it_was_raised(experiment: Experiment, tmp_path: Path) -> None:
    model = load_model(experiment.model)
    with torch.no_grad():
        model.transformer.wte.weight *= 1e6
    model.save_pretrained(tmp_path / "large")
    made_by = source(experiment, "main")
    large = replace(made_by.job, model=ModelConfig(path=tmp_path / "large"))
    with pytest.raises(
        BadInput, match=r"layers.0.resid_post, token \d+ of .* overflows float16.*capture.dtype=bfloat16"
    ):
        next(replace(made_by, job=large).rows(HookPoint(layer=0, site="resid_post"), iter(groups_of(experiment))))
