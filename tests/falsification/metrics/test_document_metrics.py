"""Reconstruction, sparsity and fidelity: columns per document against loops, and what the summaries refuse to say."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from raysae.falsification.metrics import fidelity, reconstruction, sparsity
from raysae.types import Metric, Reason

BOOT = {"bootstrap": 200, "seed": 0}


def documents_of(n: int, documents: int) -> Tensor:
    return torch.arange(n) * documents // n


def errors(x: Tensor, x_hat: Tensor, documents: int = 20, l0: int = 3) -> dict[str, np.ndarray]:
    n = len(x)
    return reconstruction.document_errors(
        x, x_hat, x.mean(0), documents_of(n, documents), documents, torch.full((n,), l0)
    )


def test_document_errors_agree_with_a_loop_over_documents():
    torch.manual_seed(0)
    x, x_hat, mean, document = torch.randn(50, 4), torch.randn(50, 4), torch.randn(4), torch.randint(0, 7, (50,))
    found = reconstruction.document_errors(x, x_hat, mean, document, 8, torch.arange(50))
    for d in range(8):
        rows = document == d
        a, b = x[rows].double(), x_hat[rows].double()
        expected = {
            "sse": ((a - b) ** 2).sum(),
            "sst": ((a - mean) ** 2).sum(),
            "zero": (a**2).sum(),
            "cosine": torch.cosine_similarity(a, b).sum(),
            "shrinkage": (b.norm(dim=1) / a.norm(dim=1)).sum(),
            "l0": torch.arange(50)[rows].sum(),
            "tokens": rows.sum(),
        }
        for name, value in expected.items():
            assert found[name][d] == pytest.approx(float(value), rel=1e-5, abs=1e-6), name


def test_fvu_is_the_ratio_of_sums_and_stands_beside_its_nulls():
    torch.manual_seed(1)
    x = torch.randn(2000, 8) + 5
    good, bad = errors(x, x + 0.2 * torch.randn_like(x)), errors(x, torch.randn_like(x))
    found = reconstruction.summarise({"main": [good, good], "random_dictionary": [bad, bad]}, l0_cap=3.0, **BOOT)
    assert found.value == pytest.approx(good["sse"].sum() / good["sst"].sum()) == pytest.approx(0.04, abs=0.004)
    assert found.interval is not None and found.interval[0] < 0.04 < found.interval[1]
    assert found.also["fvu_zero"] is not None and found.also["fvu_zero"] < 0.004  # The mean flatters it.
    assert found.nulls["random_dictionary"].mean is not None and found.nulls["random_dictionary"].mean > 1
    assert (found.n, found.seeds, found.gates[0].passed) == (20, 2, True)


def test_beside_the_error_of_the_same_seeds_without_a_term_stands_how_much_more_it_is():
    torch.manual_seed(1)
    x, noise = torch.randn(2000, 8) + 5, torch.randn(2000, 8)
    seeds, plain = ([errors(x, x + size * noise) for size in sizes] for sizes in ((0.22, 0.2), (0.2, 0.2)))
    found = reconstruction.summarise({"main": seeds}, l0_cap=3.0, baselines={"without_guidance": plain}, **BOOT)
    assert found.also["error_above_without_guidance"] == pytest.approx((1.21 + 1) / 2 - 1, abs=1e-3)
    assert "without_guidance" not in found.nulls
    perfect = reconstruction.summarise({"main": seeds}, l0_cap=3.0, baselines={"plain": [errors(x, x)] * 2}, **BOOT)
    assert perfect.also["error_above_plain"] is None


def test_half_precision_gives_the_same_fvu():
    torch.manual_seed(1)
    x = torch.randn(500, 8)
    x_hat = x + 0.3 * torch.randn_like(x)
    whole, half = (
        reconstruction.summarise({"main": [errors(a, b)]}, l0_cap=9.0, **BOOT)
        for a, b in ((x, x_hat), (x.half(), x_hat.half()))
    )
    assert half.value == pytest.approx(whole.value, rel=2e-3)


def test_fvu_is_seen_by_position_on_a_scale_of_doublings():
    torch.manual_seed(2)
    x = torch.randn(600, 4)
    position = torch.arange(600) % 20
    x_hat = x + torch.where(position == 0, 1.0, 0.1)[:, None] * torch.randn_like(x)
    columns = reconstruction.position_errors(x, x_hat, x.mean(0), position)
    for b, (first, last) in enumerate([(0, 0), (1, 2), (3, 6), (7, 14), (15, 19)]):
        rows = (position >= first) & (position <= last)
        assert columns["sse"][b] == pytest.approx(float((x - x_hat)[rows].square().sum()), rel=1e-5)
        assert columns["sst"][b] == pytest.approx(float((x - x.mean(0))[rows].square().sum()), rel=1e-5)
    found = reconstruction.summarise_positions({"main": [columns, columns], "random_model": [columns]})
    assert found.value == found.also["from_position_0"] == pytest.approx(1, abs=0.3)
    assert found.also["from_position_15"] == pytest.approx(0.01, abs=0.004)
    assert found.nulls["random_model"].mean is None  # One seed has no interval.


def test_the_histogram_of_firing_rates_holds_every_latent_once():
    latents = torch.zeros(1000, 6)
    for latent, times in enumerate([0, 1, 3, 31, 500, 1000]):
        latents[:times, latent] = 1
    found = sparsity.summarise_density({"main": [sparsity.density(latents)] * 2})
    assert found.value == pytest.approx(1 / 6) and found.interval == pytest.approx((1 / 6, 1 / 6))
    shares = {name: value for name, value in found.also.items() if value}
    assert shares == pytest.approx(
        {f"log10_rate_up_to_{e}": share for e, share in [("-3", 1 / 6), ("-2.5", 1 / 6), ("-1.5", 1 / 6), ("0", 2 / 6)]}
    )


@pytest.mark.parametrize("metric", ["reconstruction", "sparsity"])
def test_an_l0_above_the_cap_voids(metric: str):
    x = torch.randn(200, 8)
    if metric == "reconstruction":
        found = reconstruction.summarise({"main": [errors(x, x, l0=7)]}, l0_cap=6.4, **BOOT)
    else:
        latents = (torch.arange(100) < 7).float().expand(200, 100)
        columns = sparsity.document_columns(latents, torch.ones(100, dtype=torch.bool), documents_of(200, 20), 20)
        found = sparsity.summarise({"main": [columns]}, l0_cap=6.4)
    assert [(gate.passed, gate.failure) for gate in found.gates] == [(False, Reason.VOID)]


def test_constant_activations_have_no_fvu():
    x = torch.zeros(40, 3)
    found = reconstruction.summarise({"main": [errors(x, x)]}, l0_cap=9.0, **BOOT)
    assert found.value is None and found.interval is None and found.not_run


def test_documents_without_tokens_are_not_counted():
    x = torch.randn(40, 3)
    columns = reconstruction.document_errors(x, x, x.mean(0), documents_of(40, 20), 30, torch.ones(40).long())
    assert reconstruction.summarise({"main": [columns]}, l0_cap=9.0, **BOOT).n == 20


def test_seeds_measured_on_other_tokens_are_an_error():
    x = torch.randn(40, 3)
    with pytest.raises(ValueError, match="different tokens"):
        reconstruction.summarise({"main": [errors(x, x), errors(x[:30], x[:30])]}, l0_cap=9.0, **BOOT)


def zero_fraction(latents: Tensor, alive: Tensor, documents: int = 20, cap: float = 1e9) -> Metric:
    columns = sparsity.document_columns(latents, alive, documents_of(len(latents), documents), documents)
    return sparsity.summarise({"main": [columns]}, l0_cap=cap)


def test_sparsity_is_the_fifth_percentile_of_the_documents():
    torch.manual_seed(2)
    latents = torch.relu(torch.randn(400, 30) - torch.rand(400, 1) * 3 - torch.rand(30) * 3)
    alive = torch.rand(30) > 0.3
    naive = [float((latents[d * 20 : d * 20 + 20][:, alive] == 0).float().mean()) for d in range(20)]
    found = zero_fraction(latents, alive)
    assert found.value == pytest.approx(float(np.quantile(naive, 0.05, method="inverted_cdf")))
    assert found.also["zero_fraction_all"] == pytest.approx(float((latents == 0).float().mean()))
    silent = [float((latents[d * 20 : d * 20 + 20][:, alive] == 0).all(dim=0).float().mean()) for d in range(20)]
    assert 0 < float(np.quantile(silent, 0.05, method="inverted_cdf")) < (found.value or 0)
    assert found.also["silent_throughout"] == pytest.approx(float(np.quantile(silent, 0.05, method="inverted_cdf")))
    assert found.also["l0"] == pytest.approx(float((latents > 0).sum(1).float().mean()))
    assert found.also["dead_fraction"] == pytest.approx(float((~alive).float().mean()))


def test_dead_latents_buy_no_sparsity():
    torch.manual_seed(3)
    dense = torch.relu(torch.randn(400, 20))
    padded = torch.cat([dense, torch.zeros(400, 180)], dim=1)
    alive = sparsity.alive_latents(padded, 1e-3)
    assert alive.sum() == 20
    found = zero_fraction(padded, alive)
    assert found.value == zero_fraction(dense, torch.ones(20, dtype=torch.bool)).value
    assert found.interval is not None and found.interval[1] < 0.9
    assert found.also["zero_fraction_all"] is not None and found.also["zero_fraction_all"] > 0.9


def test_a_dictionary_without_a_living_latent_has_no_sparsity():
    found = zero_fraction(torch.zeros(40, 5), torch.zeros(5, dtype=torch.bool))
    assert found.value is None and found.not_run == "No latent is alive in at least one seed."


def test_alive_means_more_than_the_rate():
    latents = torch.zeros(1000, 3)
    latents[0, 0], latents[:2, 1] = 1, 1
    assert sparsity.alive_latents(latents, 1e-3).tolist() == [False, True, False]


def test_cross_entropy_and_kl_agree_with_a_loop_over_tokens():
    torch.manual_seed(4)
    logits, other, tokens = torch.randn(3, 6, 5), torch.randn(3, 6, 5), torch.randint(0, 5, (3, 6))
    mask = torch.arange(6) < torch.tensor([6, 4, 1])[:, None]
    document = torch.tensor([1, 0, 1])
    nats, kl, count = np.zeros(2), np.zeros(2), np.zeros(2)
    for row in range(3):
        for t in range(int(mask[row].sum()) - 1):
            p, q = logits[row, t].softmax(0), other[row, t].softmax(0)
            nats[document[row]] -= float(p[tokens[row, t + 1]].log())
            kl[document[row]] += float((p * (p / q).log()).sum())
            count[document[row]] += 1
    assert fidelity.cross_entropy(logits, tokens, mask, document, 2) == pytest.approx(nats, rel=1e-5)
    assert fidelity.kl_divergence(logits, other, mask, document, 2) == pytest.approx(kl, rel=1e-4)
    assert fidelity.predicted_tokens(mask, document, 2).tolist() == count.tolist()


def losses(clean: float, sae: float, ablated: float, seed: int = 0) -> dict[str, Any]:
    tokens = np.random.default_rng(seed).integers(20, 60, 80).astype(float)
    noise = np.random.default_rng(seed).normal(1, 0.05, 80)
    return {
        "tokens": tokens,
        "clean": clean * tokens * noise,
        "sae": sae * tokens * noise,
        "ablated": ablated * tokens * noise,
    }


def test_ce_recovered_compares_with_mean_ablation():
    found = fidelity.summarise({"main": [losses(1.0, 1.1, 3.0)] * 5}, **BOOT)
    assert found.value == pytest.approx(0.95)
    assert found.also["delta_ce"] == pytest.approx(0.1, rel=0.02)
    assert found.gates[0].passed and found.n == 80 and found.seeds == 5


def test_ablation_that_costs_nothing_leaves_the_ratio_undefined():
    found = fidelity.summarise({"main": [losses(2.0, 2.01, 2.05)]}, **BOOT)
    assert found.value is None and found.interval is None
    assert not found.gates[0].passed and "needed 0.1" in found.gates[0].detail
    assert found.also["delta_ce"] is not None


def test_a_null_model_on_which_ablation_costs_nothing_has_no_value_but_a_note():
    arms = {
        "main": [losses(1.0, 1.1, 3.0)],
        "random_model": [losses(4.0, 4.0, 4.0)],
        "random_dictionary": [losses(1.0, 2.9, 3.0)],
    }
    found = fidelity.summarise(arms, **BOOT)
    assert found.nulls["random_model"].mean is None and "undefined" in found.nulls["random_model"].note
    assert found.nulls["random_dictionary"].mean == pytest.approx(0.05)
