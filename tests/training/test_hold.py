"""A null dictionary keeps what it is told to keep of its random beginning, and learns the rest."""

import pytest
import torch

from raysae.saes import build
from raysae.training import SAETrainer
from raysae.training.hold import HOLDS, SOFT_COSINE, within
from raysae.training.step import differentiate
from raysae.types.learning import LossConfig, TrainConfig

TRAIN = TrainConfig(steps=60, lr=0.03, batch_tokens=128, warmup_steps=5, shards=1, workers=1, dead_after_tokens=2000)


def alone(buffer: torch.Tensor) -> None:
    """One worker: nothing to sum."""


def trainer(hold, steps: int = 60):
    generator = torch.Generator().manual_seed(0)
    true = torch.randn(24, 12, generator=generator)
    held = SAETrainer(build("batch_topk", 12, 48, 4, 0), LossConfig(), TRAIN, 4, 1.0, hold=hold)
    for step in range(steps):
        generator.manual_seed(step)
        on = torch.rand(128, 24, generator=generator) < 0.1
        held.step([(on * torch.rand(128, 24, generator=generator)) @ true], alone)
    return held


@pytest.mark.parametrize("hold", HOLDS)
def test_what_is_held_stays_and_the_rest_learns(hold):
    first, held = build("batch_topk", 12, 48, 4, 0), trainer(hold)
    sae = held.sae
    if hold == "frozen_encoder":
        assert torch.equal(sae.W_enc, first.W_enc)
        assert not torch.equal(sae.W_dec, first.W_dec)
    elif hold == "frozen_decoder":
        assert torch.equal(sae.W_dec, first.W_dec)
        assert not torch.equal(sae.W_enc, first.W_enc)
    else:
        cosines = (sae.W_dec * first.W_dec).sum(dim=1).detach()
        assert float(cosines.min()) >= SOFT_COSINE - 1e-5
        assert float(cosines.min()) < SOFT_COSINE + 1e-3, "no row reached the edge: the test shows nothing"
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(48))
    assert held.metrics()["fvu"] < 1


def test_a_free_sae_leaves_the_cone():
    first, free = build("batch_topk", 12, 48, 4, 0), trainer(None)
    assert float((free.sae.W_dec * first.W_dec).sum(dim=1).min().detach()) < SOFT_COSINE


@pytest.mark.parametrize("hold", HOLDS)
def test_a_resumed_null_is_bound_to_the_same_beginning(hold):
    whole = trainer(hold)
    half = trainer(hold, steps=30)
    resumed = SAETrainer(build("batch_topk", 12, 48, 4, 0), LossConfig(), TRAIN, 4, 1.0, hold=hold)
    resumed.restore(*half.state())
    generator = torch.Generator().manual_seed(0)
    true = torch.randn(24, 12, generator=generator)
    for step in range(30, 60):
        generator.manual_seed(step)
        on = torch.rand(128, 24, generator=generator) < 0.1
        resumed.step([(on * torch.rand(128, 24, generator=generator)) @ true], alone)
    for name, tensor in whole.sae.state_dict().items():
        assert torch.equal(tensor, resumed.sae.state_dict()[name]), name


@pytest.mark.parametrize("hold", HOLDS)
def test_a_held_latent_begins_again_at_its_own_beginning(hold, monkeypatch):
    train = TRAIN.model_copy(update={"lr": 1e-3, "resample_steps": 20, "shards": 2})
    first, dead = build("batch_topk", 12, 48, 4, 0), torch.arange(10)
    held = SAETrainer(build("batch_topk", 12, 48, 4, 0), LossConfig(aux=0), train, 4, 1.0, hold=hold)
    held.sae.b_enc[dead] = -5.0
    seen = []

    def spy(sae, *rest):
        seen.append({name: tensor.clone() for name, tensor in sae.state_dict().items()})
        return differentiate(sae, *rest)

    monkeypatch.setattr("raysae.training.trainer.differentiate", spy)
    batches = [torch.randn(128, 12, generator=torch.Generator().manual_seed(step)).chunk(2) for step in range(21)]
    for batch in batches[:20]:
        held.step(batch, alone)
    before = held.sae.W_dec.detach().clone()
    held.step(batches[20], alone)
    for weights in seen:
        if hold == "frozen_encoder":
            assert torch.equal(weights["W_enc"], first.W_enc)
        elif hold == "frozen_decoder":
            assert torch.equal(weights["W_dec"], first.W_dec)
    assert torch.equal(seen[-1]["W_dec"], before)  # no row is moved to a token, be it inside the cone
    cosine = torch.nn.functional.cosine_similarity(seen[-1]["W_enc"].T, seen[-1]["W_dec"], dim=1)[dead]
    if hold == "frozen_encoder":
        assert (seen[-1]["b_enc"][dead] < -4).all()
    else:
        torch.testing.assert_close(cosine, torch.ones(10))
        assert not seen[-1]["b_enc"][dead].any()
        tied = torch.nn.functional.cosine_similarity(held.sae.W_enc.T, held.sae.W_dec, dim=1)[dead]
        assert float(tied.min()) > 0.99  # a step of Adam away


def test_the_nearest_point_of_the_cone_agrees_with_a_search():
    rows, first = torch.nn.functional.normalize(torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1)), dim=2)
    found = within(rows, first, 0.8)
    for row, axis, near in zip(rows, first, found, strict=True):
        points = torch.nn.functional.normalize(
            torch.randn(200_000, 3, generator=torch.Generator().manual_seed(2)), dim=1
        )
        inside = points[points @ axis >= 0.8]
        assert float(near @ row) >= float((inside @ row).max()) - 1e-3
        assert float(near @ axis) >= 0.8 - 1e-5
