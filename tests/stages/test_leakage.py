"""A guided run: what is trained beside the real SAEs, and what the exhibits make of it."""

from pathlib import Path

import numpy as np
import torch

from raysae.stages.dictionaries import CONTROLLED, TWIN_UNGUIDED, UNGUIDED
from raysae.stages.jobs import groups, make_trainer, plan
from raysae.store import ActivationStore
from raysae.types.loading import load

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
