"""Bytes and operations, against the files that are written and against torch's own count."""

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from raysae.costs import work as costs
from raysae.costs.work import Arms, Sizes, Work
from raysae.models.load import describe, load_model
from raysae.saes import ARCHITECTURES, build, checkpoint
from raysae.types import Experiment

TEXT = Sizes(records=100, tokens=10_000, context=40.0, captured=10_000, kept=10_000, disk=123)
ALONE = Arms(models=1, saes=1, streams=1, points=())


def experiment(**parts: object) -> Experiment:
    return Experiment.model_validate({"name": "x", **parts})


def counted(text: Sizes = TEXT, needs: Arms = ALONE, **parts: object) -> dict[str, Work]:
    made = experiment(**parts)
    return costs.work(made, describe(made.model), text, needs)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bytes_of_an_sae_are_those_of_the_tensors_it_is_saved_as(architecture: str, tmp_path: Path) -> None:
    checkpoint.save(build(architecture, 24, 96, 5, seed=0), tmp_path, {})
    assert costs.sae_bytes(architecture, 24, 96, 5) == checkpoint.tensor_bytes(tmp_path)


def test_operations_of_a_forward_pass_are_those_torch_counts_but_for_the_last_product() -> None:
    made, length = experiment(model={"attention": "eager"}), 48  # torch does not count a fused attention on a CPU
    model, row = load_model(made.model), describe(made.model)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.arange(length)[None], attention_mask=torch.ones(1, length))
    unembedding = 2 * length * row.d_model * row.vocab_size
    assert length * costs.forward_flops(made, row, context=length) == counter.get_total_flops() - unembedding


def test_only_the_blocks_before_the_last_hook_point_are_counted() -> None:
    row = describe(experiment().model)
    whole, first, none = (
        costs.forward_flops(experiment(capture={"hookpoints": [point]}), row, context=10)
        for point in ("layers.1.resid_post", "layers.1.resid_pre", "layers.0.resid_pre")
    )
    assert (first, none) == (whole / 2, 0)


def test_cached_activations_are_written_once_for_each_arm_and_read_once_for_each_stream() -> None:
    train = {"steps": 10, "batch_tokens": 1000, "seeds": 3}
    points = ["layers.1.resid_post", "layers.1.mlp_hidden"]
    needs = Arms(models=2, saes=3, streams=2, points=())
    found = counted(TEXT, needs, train=train, capture={"hookpoints": points, "dtype": "float32"})
    capture, training = found["capture"], found["train"]
    assert capture.numbers == 2 * 10_000 * (64 + 256) * 4
    assert (capture.tokens, capture.disk) == (20_000, 246)
    assert training.reads == 3 * 2 * 10 * 1000 * 64 * 4
    assert training.tokens == 3 * 3 * 10 * 1000
    assert training.numbers == 9 * costs.sae_bytes("batch_topk", 64, 512, 8)
    assert "sweep" not in found


def test_streaming_reads_nothing_and_runs_the_model_for_what_training_shows() -> None:
    short = Sizes(records=100, tokens=10_000, context=40.0, captured=3000, kept=1000, disk=50)
    train = {"steps": 10, "batch_tokens": 1000, "seeds": 2}
    cached, streamed = counted(train=train), counted(short, train=train, activations={"mode": "stream"})
    row = describe(experiment().model)
    assert streamed["train"].reads == 0
    more = streamed["train"].flops - cached["train"].flops
    assert more == 2 * 10 * 1000 * costs.forward_flops(experiment(), row, context=40.0)
    assert streamed["capture"].numbers == 1000 * 64 * 2


def test_a_sparse_step_is_cheaper_than_a_dense_one_and_every_trial_of_a_sweep_is_counted() -> None:
    assert costs.sae_flops(experiment(sae={"k": 4}), 64, 512) == 2 * 64 * 512 + 8 * 64 * 4
    assert costs.sae_flops(experiment(sae={"architecture": "relu"}), 64, 512) == 10 * 64 * 512
    needs = Arms(models=1, saes=1, streams=1, points=((4, 4), (8, 16)))
    sweep = counted(TEXT, needs, sweep={"trials": 2, "steps": 7}, train={"batch_tokens": 100})["sweep"]
    each = [2 * 64 * 256 + 8 * 64 * 4, 2 * 64 * 512 + 8 * 64 * 16]
    assert sweep.flops == 7 * 100 * sum(each) and sweep.tokens == 2 * 7 * 100
