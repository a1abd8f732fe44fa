"""Sparse products against matrices, the screened encoder against float32, and a step's own choice between them."""

import pytest
import torch
from torch import Tensor

from raysae.saes import build
from raysae.saes.selection import LargestOfBatch, LargestOfToken, Listed, Masked
from raysae.training.kernels import Bags, Dense, encode
from raysae.training.kernels.encoder import rounding_slack

N, D, D_SAE = 20, 6, 60
PREFIXES = [(D_SAE,), (7, 20, D_SAE)]


def pairs(seed: int = 0) -> Listed:
    pre = torch.randn(N, D_SAE, generator=torch.Generator().manual_seed(seed))
    pre[:, 5], pre[3] = -1.0, -1.0  # a latent and a token without any
    chosen = LargestOfToken(4).choose(pre)
    assert isinstance(chosen, Listed)
    return chosen


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def matrix(bags: Bags, values: Tensor) -> Tensor:
    return torch.zeros(N, D_SAE).index_put((bags.token, bags.which), values)


@pytest.mark.parametrize("prefixes", PREFIXES, ids=["one dictionary", "nested"])
def test_products_over_a_list_are_those_over_the_matrix(prefixes):
    chosen = pairs()
    bags = Bags(chosen, prefixes, N)
    full = torch.zeros(N, D_SAE).index_put((chosen.token, chosen.latent), chosen.pre)
    dense = Dense(Masked(full, full > 0), prefixes)
    rows, stack, x = randn(D_SAE, D), randn(len(prefixes), N, D), randn(1, N, D)
    values = bags.keep(bags.pre)
    assert torch.equal(matrix(bags, values), full)
    torch.testing.assert_close(bags.decode(values, rows), dense.decode(full, rows))
    torch.testing.assert_close(matrix(bags, bags.sample(stack, rows)), dense.sample(stack, rows))
    torch.testing.assert_close(bags.gather(values, stack), dense.gather(full, stack))
    torch.testing.assert_close(bags.gather(values, x), dense.gather(full, x))
    torch.testing.assert_close(bags.total(values), dense.total(full))
    assert float(bags.least(values)) == float(dense.least(full)) == float(chosen.pre.min())


def test_products_over_the_matrix_are_those_of_nested_dictionaries():
    full, prefixes = randn(N, D_SAE).relu(), PREFIXES[1]
    dense, rows = Dense(Masked(full, full > 0), prefixes), randn(D_SAE, D)
    parts = dense.decode(full, rows)
    for level, width in enumerate(prefixes):
        torch.testing.assert_close(parts[: level + 1].sum(dim=0), full[:, :width] @ rows[:width])


def test_an_empty_list_gives_zeros():
    none = Listed(torch.zeros(0), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    bags = Bags(none, (D_SAE,), N)
    assert not bags.decode(none.pre, randn(D_SAE, D)).any()
    assert not bags.gather(none.pre, randn(1, N, D)).any()
    assert bags.sample(randn(1, N, D), randn(D_SAE, D)).shape == (0,)
    assert float(bags.least(none.pre)) == 0


def test_a_bfloat16_gradient_is_within_a_hundredth_of_the_float32_one_for_the_same_selection():
    chosen, x = pairs(), randn(1, N, D)
    exact, rounded = (Bags(chosen, (D_SAE,), N, dtype) for dtype in (torch.float32, torch.bfloat16))
    rows = randn(D_SAE, D)
    for found, expected in (
        (rounded.gather(chosen.pre, x), exact.gather(chosen.pre, x)),
        (rounded.decode(chosen.pre, rows), exact.decode(chosen.pre, rows)),
        (rounded.sample(x, rows), exact.sample(x, rows)),
    ):
        error = float((found - expected).norm() / expected.norm())
        assert 0 < error < 0.01


def wide_sae(d_in: int = 512):
    sae = build("batch_topk", d_in, 1024, 8, 0).requires_grad_(False)
    sae.b_enc.normal_(std=0.05, generator=torch.Generator().manual_seed(1))
    return sae


def activations(n: int, d_in: int = 512) -> Tensor:
    """With an outlier dimension, as language models have."""
    x = torch.randn(n, d_in, generator=torch.Generator().manual_seed(2))
    x[:, 3] *= 30
    return x


@pytest.mark.parametrize("rule", [LargestOfToken(8), LargestOfBatch(8 * 256)], ids=["token", "batch"])
def test_a_bfloat16_screen_ends_with_the_float32_selection(rule, monkeypatch):
    sae, x = wide_sae(), activations(256)
    monkeypatch.setattr("raysae.training.kernels.encoder.multiplies_bfloat16", lambda: True)
    screened = encode(sae, x, rule)
    monkeypatch.setattr("raysae.training.kernels.encoder.multiplies_bfloat16", lambda: False)
    plain, rounded = encode(sae, x, rule), encode(sae, x, rule, "bfloat16")
    assert isinstance(screened, Listed) and isinstance(plain, Listed) and isinstance(rounded, Listed)
    assert torch.equal(screened.token, plain.token)
    assert torch.equal(screened.latent, plain.latent)
    torch.testing.assert_close(screened.pre, plain.pre, rtol=1e-5, atol=1e-5)
    assert not torch.equal(rounded.latent, plain.latent)  # rounding alone selects others


def test_rounding_stays_within_half_of_what_the_screen_allows_for():
    sae, x = wide_sae(), activations(512)
    rounded = torch.nn.functional.linear(x.bfloat16(), sae.W_enc.T.bfloat16(), sae.b_enc.bfloat16()).float()
    exact = sae.pre_activations(x)
    output = exact.abs() / 2**8
    off = ((rounded - exact).abs() - output) / rounding_slack(sae, x)[:, None]
    assert float(off.max()) < 0.8
    assert float(off.max()) > 0.05
