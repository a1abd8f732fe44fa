"""Dead latents that begin again do so from what is missed most, the same on any number of workers."""

import pytest
import torch

from raysae.saes import ARCHITECTURES, build
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


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_resampled_latent_points_at_its_token_and_forgets(architecture):
    dead, k = torch.tensor([3, 7]), 16
    train = TrainConfig(steps=30, batch_tokens=32, warmup_steps=1, k_anneal_fraction=0)
    trainer = SAETrainer(build(architecture, 4, 16, k, 0), LossConfig(l0=0.01), train, k, 1.0)
    trainer.step(torch.randn(32, 4, generator=torch.Generator().manual_seed(0)).chunk(2), lambda flat: None)
    sae, moments = trainer.sae, trainer._optimizer.state
    own = dict(sae.named_parameters()).keys() - {"W_enc", "W_dec", "b_dec"}
    for name in own:
        sae.get_parameter(name)[dead] = 9.0 if name == "threshold" else -9.0  # silent for good
        for moment in ("exp_avg", "exp_avg_sq"):
            moments[sae.get_parameter(name)][moment][:] = 1.0
    before = {name: tensor.clone() for name, tensor in sae.state_dict().items()}
    tokens = torch.tensor([[3.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    resample(sae, trainer._optimizer, dead, tokens)

    assert sae.W_dec[3].tolist() == [1, 0, 0, 0]
    assert torch.equal(sae.W_dec[7], before["W_dec"][7])  # no token left for it: it keeps its row
    alive = torch.tensor([i for i in range(16) if i not in (3, 7)])
    torch.testing.assert_close(sae.W_enc[:, 3].norm(), 0.2 * sae.W_enc[:, alive].norm(dim=0).mean())
    assert float(sae(sae.b_dec + tokens[:1]).latents[0, 3]) > 0
    fresh = build(architecture, 4, 16, k, 0)
    for name in own:
        assert torch.equal(sae.get_parameter(name)[dead], fresh.get_parameter(name)[dead]), name
        assert torch.equal(sae.get_parameter(name)[alive], before[name][alive]), name
    for name in own | {"W_enc", "W_dec"}:
        for moment in ("exp_avg", "exp_avg_sq"):
            of_latent = moments[sae.get_parameter(name)][moment]
            of_latent = of_latent.T if name == "W_enc" else of_latent
            assert not of_latent[dead].any(), (name, moment)
            assert of_latent[alive].any(), (name, moment)
    assert moments[sae.b_dec]["exp_avg"].all()


def test_a_latent_that_came_alive_since_the_last_refresh_is_left_alone_and_resuming_agrees():
    lr, revived, dead = 1e-4, 5, 6
    train = TrainConfig(
        steps=100, batch_tokens=64, warmup_steps=1, resample_steps=15, dead_after_tokens=256, lr=lr, decay_fraction=0
    )

    def fresh() -> SAETrainer:
        return SAETrainer(build("relu", 8, 32, 0, 0), LossConfig(aux=0), train, 0, 1.0)

    def step(trainer: SAETrainer) -> None:
        x = torch.randn(64, 8, generator=torch.Generator().manual_seed(trainer.steps_done))
        trainer.step(x.chunk(2), lambda flat: None)

    whole, resumed = fresh(), fresh()
    whole.sae.b_enc[[revived, dead]] = -100.0
    while whole.steps_done < 15:
        if whole.steps_done == 12:
            whole.sae.b_enc[revived] = 0.5  # what AuxK does to it
        step(whole)
    assert whole.dead.listed.tolist() == [revived, dead]  # as of step 10
    resumed.restore(*whole.state())
    before = whole.sae.W_dec.detach().clone()
    for trainer in (whole, resumed):
        step(trainer)
    moved = (whole.sae.W_dec - before).abs().amax(dim=1)
    assert float(moved[revived]) < 3 * lr  # a step of Adam and no more
    assert float(moved[dead]) > 0.1
    for name, tensor in whole.state()[0].items():
        assert torch.equal(tensor, resumed.state()[0][name]), name
