"""The hand-written step against autograd, and what each step leaves true."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from raysae.saes import ARCHITECTURES, build
from raysae.saes.jumprelu import BANDWIDTH
from raysae.saes.selection import Listed, Masked
from raysae.training import SAETrainer
from raysae.training.dead_latents import DeadLatents
from raysae.training.kernels import encode
from raysae.training.losses import aux_k, chance_cosine, decorrelation
from raysae.training.optim import adam, k_at, lr_at, threshold_weight_at
from raysae.training.step import STATISTICS, TERMS, StepSums, differentiate, update
from raysae.types.learning import LossConfig, RivalConfig, TrainConfig

D_IN, D_SAE, K, TOKENS = 8, 40, 3, 32
CPU = torch.device("cpu")
THRESHOLDED = ("relu", "jumprelu", "gated")
"""Architectures without a budget: how dense they are is up to their biases."""


def off_initial(architecture: str, shift: float = 0.0, k: int = K):
    sae = build(architecture, D_IN, D_SAE, k, 0).requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for parameter in sae.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    sae.W_dec.div_(sae.W_dec.norm(dim=1, keepdim=True))
    sae.b_enc.add_(shift)
    sae.project()
    return sae


def batch(n: int = TOKENS, seed: int = 2) -> Tensor:
    return torch.randn(n, D_IN, generator=torch.Generator().manual_seed(seed)) + 0.5


class Step(torch.autograd.Function):
    """Heaviside of (pre - threshold) with the pseudo-derivative of arXiv 2407.14435, equation 12."""

    @staticmethod
    def forward(context, pre, threshold):
        context.save_for_backward(pre, threshold)
        return (pre > threshold).float()

    @staticmethod
    def backward(context, *slopes):
        pre, threshold = context.saved_tensors
        rectangle = ((pre - threshold).abs() < BANDWIDTH / 2).float()
        return None, (-rectangle / BANDWIDTH * slopes[0]).sum(dim=0)


def naive_latents(sae, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Latents and pre-activations from the papers' equations, on every latent of every token."""
    pre = (x - sae.b_dec) @ sae.W_enc + sae.b_enc
    if sae.architecture == "topk":
        largest = pre.topk(k, dim=1)
        return torch.zeros_like(pre).scatter(1, largest.indices, largest.values.relu()), pre
    if sae.needs_k:
        cut = pre.detach().flatten().sort(descending=True).values[k * len(x) - 1]
        return pre.relu() * (pre >= cut), pre
    if sae.architecture == "jumprelu":  # equation 11: the derivative of h by its threshold is that of threshold * Step
        jump = Step.apply(pre, sae.threshold)
        return pre * jump.detach() + sae.threshold.detach() * (jump - jump.detach()), pre
    if sae.architecture == "gated":
        strength = sae.r_mag.exp() * ((x - sae.b_dec) @ sae.W_enc) + sae.b_mag
        return (pre > 0) * strength.relu(), pre
    return pre.relu(), pre


def naive_loss(sae, x: Tensor, loss: LossConfig, dead: Tensor, k: int = K) -> Tensor:
    """The loss of `losses.py` as it reads there, with autograd."""
    latents, pre = naive_latents(sae, x, k)
    total, penalised = torch.zeros(()), latents
    for width in sae.prefixes:
        error = latents[:, :width] @ sae.W_dec[:width] + sae.b_dec - x
        total = total + error.square().mean()
    if sae.architecture == "gated":
        penalised = pre.relu()
        total = total + (penalised @ sae.W_dec.detach() + sae.b_dec.detach() - x).square().mean()
    total = total + loss.l1 * penalised.sum(dim=1).mean()
    if sae.architecture == "jumprelu":
        total = total + loss.l0 * Step.apply(pre, sae.threshold).sum(dim=1).mean()
    if len(dead):
        budget = min(D_IN // 2, len(dead))
        values, which = pre[:, dead].relu().topk(budget, dim=1)
        found = torch.einsum("n j, n j d -> n d", values, sae.W_dec[dead][which])
        total = total + loss.aux * (found + error.detach()).square().mean()
    return total


def assert_the_gradient_of(sae, x: Tensor, loss: LossConfig, dead: Tensor, k: int = K) -> StepSums:
    sums = StepSums(sae)
    differentiate(sae, x, float(k), loss, dead, 1, sums)
    expected = naive_loss(sae.requires_grad_(True), x, loss, dead, k)
    expected.backward()
    for name, parameter in sae.named_parameters():
        torch.testing.assert_close(
            sums.of[name], parameter.grad, rtol=1e-5, atol=1e-7, msg=lambda m, n=name: f"{n}: {m}"
        )
        assert parameter.grad.abs().max() > 1e-4
    l0 = sums.statistics[STATISTICS.index("l0_loss")] if sae.architecture != "jumprelu" else 0
    torch.testing.assert_close(sums.statistics[: len(TERMS)].sum() - l0, expected.detach(), rtol=1e-5, atol=1e-7)
    return sums


@pytest.mark.parametrize("dead", [[], [3, 17], list(range(0, D_SAE, 2))], ids=["none dead", "few dead", "half dead"])
@pytest.mark.parametrize("penalty", [0.0, 0.2])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dense", [False, True], ids=["list", "matrix"])
def test_the_gradient_is_that_of_autograd(architecture, penalty, dead, dense):
    k = 8 if dense else K
    sae = off_initial(architecture, -0.9 if architecture in THRESHOLDED and not dense else 0.0, k)
    chosen = encode(sae, batch() - sae.b_dec, sae.rule(float(k), TOKENS))
    assert isinstance(chosen, Masked if dense else Listed)
    loss = LossConfig(l1=penalty, l0=penalty if architecture == "jumprelu" else 0, aux=0.5)
    assert_the_gradient_of(sae, batch(), loss, torch.tensor(dead).long(), k)


def test_a_step_in_which_nothing_fires_moves_the_output_bias_alone():
    sae = off_initial("relu", -100.0)
    sums = StepSums(sae)
    differentiate(sae, batch(), float(K), LossConfig(), torch.zeros(0, dtype=torch.int64), 1, sums)
    assert not sums.W_dec.any()
    assert not sums.of["W_enc"].any()
    torch.testing.assert_close(sums.b_dec, 2 * (sae.b_dec - batch().mean(dim=0)) / D_IN)


def test_aux_k_gives_each_token_its_largest_dead_latents_within_the_budget():
    sae, x = off_initial("relu"), batch()
    pre, dead = sae.pre_activations(x), torch.arange(0, D_SAE, 2)
    error = sae.decode(pre.relu()) - x
    aux = aux_k(sae, x - sae.b_dec, error, dead, 2.0)
    top = pre[:, dead].relu().topk(D_IN // 2, dim=1)
    kept = torch.zeros(len(x), len(dead)).scatter(1, top.indices, top.values)
    torch.testing.assert_close(aux.loss, (kept @ sae.W_dec[dead] + error).square().sum())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_shards_add_up_to_the_mean_over_shards(architecture):
    sae, x, listed = off_initial(architecture), batch(), torch.zeros(0, dtype=torch.int64)
    loss = LossConfig(l1=0.1)
    parts = [StepSums(sae) for _ in range(2)]
    for part, shard in zip(parts, x.chunk(2), strict=True):
        differentiate(sae, shard, float(K), loss, listed, 2, part)
    shards = [naive_loss(sae.requires_grad_(True), shard, loss, listed) for shard in x.chunk(2)]
    (sum(shards, torch.zeros(())) / 2).backward()
    for name, parameter in sae.named_parameters():
        torch.testing.assert_close(parts[0].of[name] + parts[1].of[name], parameter.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("form", ["repaired", "literal"])
def test_the_decorrelation_gradient_is_that_of_autograd_on_cosines(form):
    W_dec = off_initial("relu").W_dec.clone().requires_grad_(True)
    value, gradient = decorrelation(W_dec.detach(), 0, form, tau_c=0.2)
    unit = W_dec / W_dec.norm(dim=1, keepdim=True)
    cosine = unit @ unit.T
    off = ~torch.eye(D_SAE, dtype=torch.bool)
    naive = (cosine.abs() - 0.2).relu().square()[off].mean() if form == "repaired" else cosine[off].sum() / 2
    naive.backward()
    tangential = gradient - W_dec.detach() * (gradient * W_dec.detach()).sum(dim=1, keepdim=True)
    torch.testing.assert_close(value, naive.detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(tangential, W_dec.grad, rtol=1e-4, atol=1e-6)


def test_decorrelation_by_windows_of_rows_has_the_whole_as_its_mean():
    W_dec = off_initial("relu").W_dec
    whole, gradient = decorrelation(W_dec, tau_c=0.2)
    parts = [decorrelation(W_dec, step, tau_c=0.2, rows=D_SAE // 4) for step in range(4)]
    torch.testing.assert_close(sum(value for value, _ in parts) / 4, whole)
    torch.testing.assert_close(sum(slope for _, slope in parts) / 4, gradient)


def test_opposite_duplicates_please_the_literal_form_and_not_the_repaired_one():
    rows = torch.eye(D_IN)[:1].repeat(D_SAE, 1)
    cheat = torch.cat([rows[: D_SAE // 2], -rows[: D_SAE // 2]])
    honest = build("relu", D_IN, D_SAE, K, 0).W_dec.detach()
    assert decorrelation(cheat, form="literal")[0] <= decorrelation(honest, form="literal")[0]
    assert decorrelation(cheat)[0] > 10 * decorrelation(honest)[0]


def test_random_rows_pay_almost_nothing_for_decorrelation():
    W_dec = build("relu", 64, 512, 8, 0).W_dec.detach()
    cosine = (W_dec @ W_dec.T).fill_diagonal_(0).abs()
    assert float(cosine.amax(dim=1).mean()) < chance_cosine(512, 64) < float(cosine.max()) + 0.1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_decoder_rows_have_unit_norm_after_every_step(architecture):
    train = TrainConfig(steps=12, batch_tokens=TOKENS, lr=0.05, warmup_steps=1, dead_after_tokens=64)
    trainer = SAETrainer(off_initial(architecture), LossConfig(l1=0.1, decorrelation=1.0), train, K, 1.0)
    for step in range(12):
        trainer.step(batch(seed=step).chunk(2), lambda flat: None)
        torch.testing.assert_close(trainer.sae.W_dec.norm(dim=1), torch.ones(D_SAE), rtol=1e-6, atol=1e-6)


def test_update_clips_the_whole_gradient_and_drops_the_decoders_radial_part():
    sae = off_initial("relu")
    sums = StepSums(sae)
    generator = torch.Generator().manual_seed(3)
    for gradient in sums.of.values():
        gradient.normal_(generator=generator)
    update(sae, adam(sae.parameters(), 0.0), sums, 0.0)
    assert float(sums.gradients.norm()) == pytest.approx(1.0, rel=1e-5)
    torch.testing.assert_close((sums.W_dec * sae.W_dec).sum(dim=1), torch.zeros(D_SAE), rtol=0, atol=1e-6)


def test_dead_counters_count_tokens_since_the_last_firing():
    dead = DeadLatents(3, dead_after_tokens=20, device=CPU)
    for fired in ([1, 0, 0], [0, 2, 0], [5, 0, 0]):
        dead.update(torch.tensor(fired).float(), 10)
    assert dead.silent_tokens.tolist() == [0, 10, 30]
    assert float(dead.fraction()) == pytest.approx(1 / 3)
    assert dead.refresh(7).tolist() == []  # not a refreshing step
    assert dead.refresh(20).tolist() == [2]


def test_the_trainer_counts_the_tokens_of_all_shards():
    train = TrainConfig(steps=5, batch_tokens=TOKENS, warmup_steps=1, k_anneal_fraction=0)
    trainer = SAETrainer(off_initial("relu"), LossConfig(), train, K, 1.0)
    trainer.sae.b_enc[4] = -1e6
    for step in range(3):
        trainer.step(batch(seed=step).chunk(2), lambda flat: None)
    assert int(trainer.dead.silent_tokens[4]) == 3 * TOKENS
    assert int(trainer.dead.silent_tokens.min()) == 0


def test_the_learning_rate_warms_up_stays_and_falls_to_nearly_zero():
    train = TrainConfig(steps=100, lr=1.0, warmup_steps=10, decay_fraction=0.2)
    rates = [lr_at(step, train) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[10:81] == [1.0] * 71
    assert rates[80:] == pytest.approx([1 - i / 20 for i in range(20)])
    assert lr_at(100, train) == 0
    assert lr_at(99, TrainConfig(steps=100, lr=1.0, warmup_steps=0, decay_fraction=0)) == 1.0


def test_k_falls_from_four_times_to_once_its_value():
    train = TrainConfig(steps=100, k_anneal_fraction=0.5)
    assert [k_at(step, 8, train) for step in (0, 25, 50, 99)] == [32, 20, 8, 8]
    assert k_at(0, 8, TrainConfig(steps=100, k_anneal_fraction=0)) == 8


def test_the_threshold_follows_annealing_and_then_averages():
    train = TrainConfig(steps=1000, k_anneal_fraction=0.5)
    weights = [threshold_weight_at(step, train) for step in (0, 499, 500, 501, 502, 999)]
    assert weights == pytest.approx([1, 1, 1, 1 / 2, 1 / 3, 1 / 100])


@pytest.mark.parametrize(("steps", "share"), [(7, 0.5), (101, 0.5), (10, 0.33), (100, 0.5), (9, 0.0), (11, 0.9)])
def test_only_steps_at_k_itself_make_the_final_threshold(steps, share):
    train = TrainConfig(steps=steps, k_anneal_fraction=share)
    counts = np.zeros(steps)
    for step in range(steps):
        weight = threshold_weight_at(step, train)
        counts *= 1 - weight
        counts[step] += weight
    at_k = np.array([k_at(step, 8, train) == 8 for step in range(steps)])
    assert counts[at_k].sum() == pytest.approx(1)


@pytest.mark.parametrize("recipe", [TrainConfig, RivalConfig])
def test_annealing_that_never_ends_is_refused(recipe):
    with pytest.raises(ValidationError, match="k_anneal_fraction"):
        recipe(k_anneal_fraction=1.0)
