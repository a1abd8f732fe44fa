"""Dead latents that begin again do so from what is missed most, the same on any number of workers."""

import torch

from raysae.saes import build
from raysae.training import SAETrainer
from raysae.training.resample import due, resample, worst_tokens
from raysae.types.learning import LossConfig, TrainConfig


def test_it_is_due_at_multiples_but_not_at_the_start_nor_in_the_last_third():
    assert [step for step in range(100) if due(step, 90, 20)] == [20, 40]
    assert not any(due(step, 90, 0) for step in range(90))


def test_the_worst_tokens_are_those_with_the_largest_error():
    sae = build("topk", 4, 16, 2, 0).requires_grad_(False)
    x = torch.randn(10, 4, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 11)[:, None]
    error = (sae(x).reconstruction - x).norm(dim=1)
    found = worst_tokens(sae, x, 3)
    assert torch.equal(found, x[error.argsort(descending=True)[:3]] - sae.b_dec)
    assert not worst_tokens(sae, x, 12)[10:].any()


def test_a_resampled_latent_points_at_its_token_and_forgets():
    train = TrainConfig(steps=30, batch_tokens=32, warmup_steps=1)
    trainer = SAETrainer(build("jumprelu", 4, 16, 0, 0), LossConfig(), train, 0, 1.0)
    trainer.step(torch.randn(32, 4, generator=torch.Generator().manual_seed(0)).chunk(2), lambda flat: None)
    sae, optimizer = trainer.sae, trainer._optimizer
    sae.threshold[[3, 7]] = 9.0
    before = sae.W_dec.clone()
    tokens = torch.tensor([[3.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    resample(sae, optimizer, torch.tensor([3, 7]), tokens)
    assert sae.W_dec[3].tolist() == [1, 0, 0, 0]
    assert torch.equal(sae.W_dec[7], before[7])  # no token left for it: it keeps its row
    alive = torch.tensor([i for i in range(16) if i not in (3, 7)])
    torch.testing.assert_close(sae.W_enc[:, 3].norm(), 0.2 * sae.W_enc[:, alive].norm(dim=0).mean())
    assert float(sae.threshold[3]) < 1
    for moment in ("exp_avg", "exp_avg_sq"):
        assert not optimizer.state[sae.W_enc][moment][:, 3].any()
        assert not optimizer.state[sae.W_dec][moment][3].any()
    assert optimizer.state[sae.W_dec]["exp_avg"][0].any()
