"""A guided run: what is trained beside the real SAEs, and what the exhibits make of it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from raysae.falsification.metrics import leakage
from raysae.saes import checkpoint
from raysae.stages.dictionaries import CONTROLLED, TWIN_UNGUIDED, UNGUIDED
from raysae.stages.jobs import groups, make_trainer, plan
from raysae.stages.pretrain import pretrain
from raysae.store import ActivationStore
from raysae.types.loading import load
from tests.runs import in_process

GUIDED = ["protocol.criteria=[leakage]", "loss.probe=1", "loss.probe_label=step_type", "train.steps=60"]


def test_the_unguided_sae_differs_from_the_guided_one_in_guidance_alone(
    undisturbed: Path, tiny_config: Path, tmp_path: Path
) -> None:
    jobs = {job.name: job for job in plan(load(tiny_config, GUIDED), undisturbed / "activations", tmp_path)}
    guided, unguided = jobs["main/0"], jobs[f"{UNGUIDED}/0"]
    assert (guided.loss.probe, unguided.loss.probe) == (1.0, 0.0)
    assert guided.stream == unguided.stream
    together = [{job.name for job in group} for group in groups(list(jobs.values()), 8)]
    assert any({guided.name, unguided.name} <= names for names in together)
    store = ActivationStore(guided.activations)
    one, other = (make_trainer(job, store, "cpu").sae.state_dict() for job in (guided, unguided))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert jobs[f"{TWIN_UNGUIDED}/0"].stream == jobs["random_model/0"].stream
    assert jobs[f"{TWIN_UNGUIDED}/0"].activations.name == "random_model"


def test_control_labels_are_told_by_the_token_alone(undisturbed: Path, tiny_config: Path, tmp_path: Path) -> None:
    jobs = {job.name: job for job in plan(load(tiny_config, GUIDED), undisturbed / "activations", tmp_path)}
    guided, controlled = jobs["main/0"], jobs[f"{CONTROLLED}/0"]
    assert guided.controls is None and controlled.controls is not None
    assert (guided.stream.order, guided.loss) == (controlled.stream.order, controlled.loss)
    store = ActivationStore(guided.activations)
    real, control = (next(job.stream.batches(store, 0, 1)) for job in (guided, controlled))
    assert np.array_equal(real[:, :-2], control[:, :-2])
    assert np.array_equal(real[:, -2] < 0, control[:, -2] < 0)
    assert not np.array_equal(real[:, -2], control[:, -2])
    assert set(control[:, -2]) - {-1} <= set(controlled.controls)


CONTROLLED_COT = """
corpus: {name: controlled_cot, records: 520, block_records: 130, splits: {fit: 0.25, test: 0.2}}
tokenizer: {block_tokens: 16384}
model: {path: MODEL}
capture: {hookpoints: [layers.1.resid_post]}
sae: {architecture: batch_topk, expansion: 1, k: 8}
loss: {probe: 1.0, probe_label: step_end}
train: {steps: 60, batch_tokens: 512, seeds: 2}
protocol:
  {criteria: [leakage], nulls: [random_model, permuted_labels], observations: [candidates, verification],
   permutations: 20, bootstrap: 200, test_tokens: 100000}
"""


@pytest.mark.slow
def test_a_run_on_controlled_text_measures_every_channel(tmp_path: Path) -> None:
    config = tmp_path / "controlled.yaml"
    model = pretrain("tiny-controlled", tmp_path / "model", steps=20)
    config.write_text(CONTROLLED_COT.replace("MODEL", str(model)))
    assert in_process("run", str(config), f"out={tmp_path}").returncode == 0
    folder = tmp_path / "controlled"
    metrics = json.loads((folder / "metrics" / "metrics.json").read_text())
    found = metrics["criteria"]["leakage"]
    assert found["not_run"] is None
    assert {gate["name"] for gate in found["gates"]} >= {"surface model", "permuted labels", "identical texts"}
    for channel in (*leakage.CHANNELS, "benefit", "alt_b_residual", "alt_a_difference"):
        assert found["also"][channel] is not None, channel
    gates = {gate["name"]: gate for gate in found["gates"]}
    assert gates["identical texts"]["passed"] and gates["position-coded weights"]["passed"]
    assert metrics["observations"]["candidates"]["n"] == 12  # 3 latents of 2 types in 2 seeds
    verification = metrics["observations"]["verification"]
    # After 20 steps the model says the same of every result, so there may be no error that it finds.
    assert (verification["n"], set(verification["nulls"])) == (
        20,
        {"matched_latents", "random_direction", UNGUIDED},
    )
    guided, unguided = (checkpoint.load(folder / "sae" / arm / "0") for arm in ("main", UNGUIDED))
    assert not torch.equal(guided.W_enc, unguided.W_enc)
    assert "leakage" in (folder / "report.html").read_text()
