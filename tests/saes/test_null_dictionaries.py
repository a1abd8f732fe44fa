"""A dictionary that learnt nothing has the sparsity and the centring of the SAE beside it, and nothing else of it."""

import pytest
import torch

from raysae.errors import BadInput
from raysae.saes import build, coordinates, principal_axes, random_dictionary, shuffled_decoder


def like(architecture: str = "batch_topk"):
    sae = build(architecture, 16, 128, 6, 0).requires_grad_(False)
    sae.b_dec.fill_(0.5)
    return sae


def activations(n: int = 10_000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    sizes = torch.rand(n, 1, generator=generator) ** 4 * 10  # uneven on purpose: a sample misjudges the threshold
    return torch.randn(n, 16, generator=generator) * sizes


@pytest.mark.parametrize("architecture", ["relu", "batch_topk"])
@pytest.mark.parametrize("l0", [0.31, 6.0, 30.0])
def test_it_has_the_requested_l0_on_the_given_activations(architecture, l0):
    x = activations()
    null = random_dictionary(like(architecture), l0, x, seed=3)
    assert float((null.encode(x) > 0).sum(dim=1).float().mean()) == pytest.approx(l0, rel=1e-4)


def test_it_has_unit_rows_a_tied_encoder_and_the_bias_of_its_counterpart():
    null = random_dictionary(like(), 6.0, activations(), seed=3)
    torch.testing.assert_close(null.W_dec.norm(dim=1), torch.ones(128))
    assert torch.equal(null.W_enc, null.W_dec.T)
    assert torch.equal(null.b_dec, like().b_dec)
    assert not null.b_enc.any()


def test_it_can_be_as_wide_as_there_are_alive_latents():
    assert random_dictionary(like(), 6.0, activations(), seed=3, d_sae=57).W_dec.shape == (57, 16)


def test_its_rows_depend_on_the_seed_alone():
    a, b, c = (random_dictionary(like(), 6.0, activations(n), seed).W_dec for n, seed in ((500, 1), (900, 1), (500, 2)))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_an_l0_that_no_threshold_reaches_is_refused():
    with pytest.raises(BadInput, match="with 100 active per token; allowed: below 6"):
        random_dictionary(like(), 100.0, activations(), seed=3)


def test_principal_axes_come_in_both_signs_and_the_first_carries_most_variance():
    x = activations() * torch.linspace(1, 3, 16)
    null = principal_axes(like(), 3.0, x)
    rows = null.W_dec.detach()
    torch.testing.assert_close(rows[:16] @ rows[:16].T, torch.eye(16), atol=1e-5, rtol=0)
    assert torch.equal(rows[16:], -rows[:16])
    assert (x @ rows[0]).var() == pytest.approx(float((x @ rows[:16].T).var(dim=0).max()))
    assert float((null.encode(x) > 0).sum(dim=1).float().mean()) == pytest.approx(3.0, rel=1e-3)


def test_coordinates_read_one_neuron_each():
    x = activations() + 0.5
    null = coordinates(like(), 3.0, x)
    latents = null.encode(x)
    for latent in (0, 5, 16, 21):
        on = latents[:, latent] > 0
        sign = 1 if latent < 16 else -1
        torch.testing.assert_close(latents[on, latent], sign * (x[on, latent % 16] - 0.5), atol=1e-5, rtol=0)


def test_a_shuffled_decoder_keeps_the_latents_and_moves_every_row_of_the_alive():
    real = like()
    alive = torch.arange(128) < 50
    null = shuffled_decoder(real, alive, seed=1)
    x = activations(200)
    assert torch.equal(null.encode(x), real.encode(x))
    assert torch.equal(null.W_dec[50:], real.W_dec[50:])
    assert not (null.W_dec[:50] == real.W_dec[:50]).all(dim=1).any()
    assert torch.equal(null.W_dec[:50].sort(dim=0).values, real.W_dec[:50].sort(dim=0).values)
