"""Documents of its own for every seed: what stability asks for, and what it needs."""

import json
from pathlib import Path
from typing import Any

import pytest

from raysae.stages.jobs import plan
from raysae.types.loading import load
from tests.runs import in_process

OWN = ["train.documents=own", "sweep.trials=0", "protocol.criteria=[stability]", "protocol.nulls=[]"]
OWN += ["protocol.observations=[]", "train.steps=20", "train.seeds=4", "tokenizer.block_tokens=500"]


@pytest.fixture(scope="module")
def own(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The arguments of a finished run of four seeds."""
    how = [str(tiny_config), f"out={tmp_path_factory.mktemp('own')}", *OWN]
    assert in_process("decide", *how).returncode in (3, 4)
    return how


def gates(how: list[str]) -> dict[str, Any]:
    folder = load(Path(how[0]), how[1:]).folder
    metrics = json.loads((folder / "metrics" / "metrics.json").read_text())
    return {gate["name"]: gate for gate in metrics["criteria"]["stability"]["gates"]}


def test_seeds_that_share_no_document_pass_the_gate(own: list[str]) -> None:
    gate = gates(own)["own data"]
    assert gate["passed"] and gate["detail"] == "0 of 4 seeds repeat a data order, 0 a document shard"


def test_each_seed_has_a_shard_and_its_nulls_the_same_one(own: list[str]) -> None:
    experiment = load(Path(own[0]), [*own[1:], "protocol.nulls=[frozen_decoder]"])
    jobs = plan(experiment, experiment.folder / "activations", experiment.folder / "sae")
    assert [(job.arm, job.seed, job.shard) for job in jobs] == [
        (arm, seed, (seed, 4)) for arm in ("main", "frozen_decoder") for seed in range(4)
    ]
    shared = load(Path(own[0]), [*own[1:], "train.documents=shared"])
    assert all(job.shard is None for job in plan(shared, shared.folder / "activations", shared.folder / "sae"))


def test_too_few_blocks_for_the_seeds_is_bad_input_before_anything_is_captured(
    tiny_config: Path, tmp_path: Path
) -> None:
    how = [str(tiny_config), f"out={tmp_path}", *OWN, "tokenizer.block_tokens=50000"]
    found = in_process("seal", *how)
    assert found.returncode == 2 and found.stderr.count("\n") == 1
    assert "one gets 0 tokens; allowed: 256 (train.batch_tokens) for each; type tokenizer.block_tokens=" in found.stderr
