"""The temporal term and the label probe against autograd on their definitions, and what each cannot be cheated with."""

import pytest
import torch
from torch import Tensor

from raysae.saes import build
from raysae.saes.selection import LargestOfToken, Listed, Masked
from raysae.training import SAETrainer
from raysae.training.guides import Guides, LinearProbe, label_probe, temporal
from raysae.training.kernels import Bags, Dense, Products
from raysae.training.step import StepSums, differentiate
from raysae.types.learning import LossConfig, TrainConfig

N, D_SAE, CLASSES = 12, 40, 3
FOLLOWING = torch.tensor([1, 2, -1, 4, -1, -1, 7, -1, 9, 10, 11, -1])
LABEL = torch.tensor([0, 1, 2, -1, 0, 0, -1, 2, 1, 1, 0, 2])


def products(prefixes: tuple[int, ...], dense: bool) -> tuple[Products, Tensor]:
    """And the latents as a matrix."""
    pre = torch.randn(N, D_SAE, generator=torch.Generator().manual_seed(0))
    pre[:, :6] += 1.5  # some are active at neighbouring tokens
    chosen = LargestOfToken(4).choose(pre)
    assert isinstance(chosen, Listed)
    full = torch.zeros(N, D_SAE).index_put((chosen.token, chosen.latent), chosen.pre)
    return (Dense(Masked(full, full > 0), prefixes) if dense else Bags(chosen, prefixes, N)), full


def matrix(active: Products, values: Tensor) -> Tensor:
    return (
        values if isinstance(active, Dense) else torch.zeros(N, D_SAE).index_put((active.token, active.which), values)
    )


def naive_temporal(h: Tensor, form: str) -> Tensor:
    pairs = [(t, int(f)) for t, f in enumerate(FOLLOWING) if f >= 0]
    changed = torch.stack([(h[t] - h[f]).square().sum() for t, f in pairs]).mean()
    size = torch.stack([(h[t].square().sum() + h[f].square().sum()) / 2 for t, f in pairs]).mean()
    return changed if form == "literal" else changed / size


@pytest.mark.parametrize("dense", [False, True], ids=["list", "matrix"])
@pytest.mark.parametrize("prefixes", [(D_SAE,), (8, D_SAE)], ids=["one dictionary", "nested"])
@pytest.mark.parametrize("form", ["repaired", "literal"])
def test_the_temporal_gradient_is_that_of_autograd(form, prefixes, dense):
    active, full = products(prefixes, dense)
    found = temporal(active, active.keep(active.pre), FOLLOWING, form)
    h = full.clone().requires_grad_(True)
    expected = naive_temporal(h, form)
    expected.backward()
    torch.testing.assert_close(found.loss, expected.detach())
    torch.testing.assert_close(matrix(active, found.latents) * (full > 0), h.grad * (full > 0), rtol=1e-4, atol=1e-6)
    assert h.grad.abs().max() > 1e-3


def test_shrinking_all_latents_pleases_the_literal_form_and_not_the_repaired_one():
    active, _ = products((D_SAE,), False)
    for form, gain in (("literal", 0.25), ("repaired", 1.0)):
        whole, half = (temporal(active, active.pre * size, FOLLOWING, form).loss for size in (1.0, 0.5))
        assert float(half / whole) == pytest.approx(gain)


def test_without_neighbours_the_temporal_term_is_nothing():
    active, _ = products((D_SAE,), False)
    found = temporal(active, active.pre, torch.full((N,), -1), "repaired")
    assert float(found.loss) == 0
    assert not found.latents.any()


@pytest.mark.parametrize("dense", [False, True], ids=["list", "matrix"])
@pytest.mark.parametrize("prefixes", [(D_SAE,), (8, D_SAE)], ids=["one dictionary", "nested"])
def test_the_probe_gradient_is_that_of_autograd(prefixes, dense):
    active, full = products(prefixes, dense)
    probe = LinearProbe(D_SAE, CLASSES)
    with torch.no_grad():
        for parameter in probe.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(1))
        found = label_probe(active, active.keep(active.pre), probe, LABEL)
    h = full.clone().requires_grad_(True)
    logits, known = h @ probe.rows + probe.bias, LABEL >= 0
    expected = torch.nn.functional.cross_entropy(logits[known], LABEL[known])
    expected.backward()
    torch.testing.assert_close(found.loss, expected.detach())
    torch.testing.assert_close(matrix(active, found.latents) * (full > 0), h.grad * (full > 0), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.rows, probe.rows.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.bias, probe.bias.grad)
    assert float(found.labelled) == 10
    assert float(found.named) == float((logits.argmax(dim=1) == LABEL)[known].sum())


def test_both_terms_reach_the_weights_of_a_step():
    sae = build("batch_topk", 8, D_SAE, 3, 0).requires_grad_(False)
    probe = LinearProbe(D_SAE, CLASSES).requires_grad_(False)
    probe.rows.normal_(generator=torch.Generator().manual_seed(1))
    x, none = torch.randn(N, 8, generator=torch.Generator().manual_seed(2)), torch.zeros(0, dtype=torch.int64)

    def gradient(**weights: float) -> Tensor:
        sums = StepSums(sae, probe)
        guides = Guides(LABEL, FOLLOWING)
        differentiate(sae, x, 3.0, LossConfig(**weights), none, 1, sums, guides=guides, probe=probe)
        return sums.of["W_enc"].clone()

    plain = gradient()
    guided, smoothed = gradient(probe=0.5) - plain, gradient(temporal=0.5) - plain
    assert guided.abs().max() > 1e-4
    assert smoothed.abs().max() > 1e-4
    torch.testing.assert_close(gradient(probe=0.5, temporal=0.5) - plain, guided + smoothed, rtol=1e-4, atol=1e-6)


def planted(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Activations that hold their label along one direction."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 2, (n,), generator=generator)
    x = torch.randn(n, 8, generator=generator) * 0.3
    x[:, 0] += 2.0 * label
    return x, label


def test_the_probe_learns_and_every_log_says_its_leakage_gap():
    train = TrainConfig(steps=60, batch_tokens=128, warmup_steps=1, lr=0.02)
    trainer = SAETrainer(build("batch_topk", 8, 32, 3, 0), LossConfig(probe=0.1), train, 3, 1.0, classes=2)
    noise = torch.randint(0, 2, (500,), generator=torch.Generator().manual_seed(9))
    x, label = planted(500, 1000)
    for step in range(60):
        batch, labels = planted(128, step)
        none = torch.full((64,), -1)
        guides = [Guides(part, none) for part in labels.chunk(2)]
        trainer.step(batch.chunk(2), lambda flat: None, guides)
        if step == 49:
            trainer.metrics()  # the window of the numbers below begins here
    trainer.watch(x, label)
    honest = trainer.metrics()
    assert honest["probe_accuracy"] > 0.95
    assert abs(honest["leakage_gap"]) < 0.05
    trainer.watch(x, noise)
    assert trainer.metrics()["fit_probe_accuracy"] == pytest.approx(0.5, abs=0.1)
    assert 0 < honest["fit_fvu"] < 1
    assert 0 < honest["fit_l0"] < 8
