"""The arithmetic of a worker's memory, on a hand-worked size and beside what a step takes."""

import subprocess
import sys

import pytest
import torch

from raysae.saes import build
from raysae.training import SAETrainer
from raysae.training.memory import estimate, step_matrices
from raysae.types.learning import LossConfig, SAEConfig, TrainConfig

PARAMETERS = 2 * 4 * 16 + 2 * 16 + 4
PEAK = """
import resource, sys, torch
from raysae.saes import build
from raysae.training import SAETrainer
from raysae.types.learning import LossConfig, TrainConfig

torch.set_num_threads(1)
architecture, d_in, d_sae, tokens = sys.argv[1], *map(int, sys.argv[2:])

def step(d_sae, tokens):
    train = TrainConfig(batch_tokens=tokens, shards=1, workers=1)
    trainer = SAETrainer(build(architecture, d_in, d_sae, 8, 0), LossConfig(l1=0.01), train, 8, 1.0)
    trainer.step([torch.randn(tokens, d_in)], lambda flat: None)

step(16, 8)  # what libraries take once
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
step(d_sae, tokens)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.parametrize(
    ("shards", "workers", "saes", "gradients"), [(1, 1, 1, 1), (2, 1, 1, 2), (4, 1, 3, 3), (2, 2, 1, 2), (8, 2, 1, 4)]
)
def test_weights_moments_gradients_one_checkpoint_and_matrices_of_latents(shards, workers, saes, gradients):
    found = estimate(4, 16, 80, shards, workers, saes, 7)
    each, checkpoint, latents = PARAMETERS * (1 + 2 + gradients), PARAMETERS * 3, 7 * (80 // shards) * 16
    assert found.bytes == 4 * (saes * each + checkpoint + latents)
    assert f"{saes} x {PARAMETERS:,} parameters" in found.text
    assert f"7 matrices of {80 // shards} tokens x 16 latents x 4 B" in found.text


@pytest.mark.parametrize("shards", range(1, 9))
def test_as_many_buffers_of_gradients_are_counted_as_a_step_makes(shards):
    train = TrainConfig(batch_tokens=16 * shards, shards=shards, workers=1)
    trainer = SAETrainer(build("batch_topk", 8, 32, 2, 0), LossConfig(), train, 2, 1.0)
    trainer.step(torch.randn(16 * shards, 8).chunk(shards), lambda flat: None)
    assert f"{len(trainer._free)} gradients" in estimate(8, 32, 16 * shards, shards, 1, 1, 4).text


def test_a_step_takes_more_where_latents_are_a_matrix_and_where_auxk_is_at_work():
    def matrices(architecture: str, k: int = 8, aux: float = 0.0, anneal: float = 0.5) -> int:
        train = TrainConfig(k_anneal_fraction=anneal)
        return step_matrices(SAEConfig(architecture=architecture, k=k), LossConfig(aux=aux), train, 64)

    assert [matrices(name) for name in ("batch_topk", "relu", "jumprelu", "gated")] == [4, 7, 9, 13]
    assert [matrices(name, aux=0.1) for name in ("batch_topk", "relu")] == [4, 10]
    assert matrices("topk", k=50) == 9  # 4 k of 512 latents while k still falls
    assert matrices("topk", k=50, anneal=0.0) == 4


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["relu", "gated"])
def test_a_dense_step_takes_about_what_was_said(architecture):
    d_in, expansion, tokens = 16, 512, 1024
    arguments = [architecture, *map(str, (d_in, d_in * expansion, tokens))]
    process = subprocess.run([sys.executable, "-c", PEAK, *arguments], capture_output=True, text=True, check=True)
    sae = SAEConfig(architecture=architecture, expansion=expansion)
    matrices = step_matrices(sae, LossConfig(aux=0), TrainConfig(), d_in)
    said = estimate(d_in, d_in * expansion, tokens, 1, 1, 1, matrices).bytes
    assert 0.9 * int(process.stdout) <= said <= 1.5 * int(process.stdout)
