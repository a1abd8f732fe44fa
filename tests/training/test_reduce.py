"""Real worker groups of 1, 2 and 4 over gloo: one and the same SAE, to the bit."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

WORKER = """
import sys, time, torch, torch.distributed as dist
from safetensors.torch import save_file
from raysae.saes import build
from raysae.training import SAETrainer
from raysae.training.reduce import pairwise_sum
from raysae.types.learning import LossConfig, TrainConfig
folder, rank, count, architecture = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting-{count}", rank=rank, world_size=count)
part = torch.randn(1001, generator=torch.Generator().manual_seed(rank))
summed, ring = part.clone(), part.clone()
pairwise_sum(summed)
dist.all_reduce(ring)
train = TrainConfig(steps=100, batch_tokens=256, dead_after_tokens=1024, lr=0.01, shards=4)
trainer = SAETrainer(build(architecture, 32, 256, 4, 0), LossConfig(l1=0.01), train, 4, 1.5)
for step in range(100):
    x = torch.randn(256, 32, generator=torch.Generator().manual_seed(step))
    trainer.step(x.chunk(4)[rank * 4 // count : (rank + 1) * 4 // count], pairwise_sum)
save_file({**trainer.state()[0], "test.sum": summed, "test.ring": ring}, f"{folder}/state-{count}-{rank}.safetensors")
dist.destroy_process_group()
"""


def run(count: int, architecture: str, folder: Path) -> list[dict[str, torch.Tensor]]:
    """The state every rank ends with."""
    command = [sys.executable, "-c", WORKER, str(folder)]
    ranks = [subprocess.Popen([*command, str(rank), str(count), architecture]) for rank in range(count)]
    assert [process.wait(timeout=280) for process in ranks] == [0] * count
    return [load_file(folder / f"state-{count}-{rank}.safetensors") for rank in range(count)]


@pytest.mark.parametrize("architecture", ["relu", "batch_topk"])
def test_one_two_and_four_workers_give_the_same_weights_threshold_and_dead_counts(architecture, tmp_path):
    (single,) = run(1, architecture, tmp_path)
    for count in (2, 4):
        for state in run(count, architecture, tmp_path):
            for name, tensor in single.items():
                if not name.startswith("test."):
                    assert torch.equal(state[name], tensor), (count, name)
    assert "sae.threshold" in single or architecture == "relu"
    assert {"dead.silent_tokens", "window"} <= single.keys()


def test_the_sum_is_that_of_pairs_where_a_ring_has_another_order(tmp_path):
    parts = [torch.randn(1001, generator=torch.Generator().manual_seed(rank)) for rank in range(4)]
    pairs = (parts[0] + parts[1]) + (parts[2] + parts[3])
    states = run(4, "relu", tmp_path)
    assert all(torch.equal(state["test.sum"], pairs) for state in states)
    assert not torch.equal(states[0]["test.ring"], pairs)
    torch.testing.assert_close(states[0]["test.ring"], pairs)
