"""N1 has the size, the sparsity and the centring of the SAE it stands against, and nothing else of it."""

import pytest
import torch

from raysae.errors import BadInput
from raysae.saes import build, random_dictionary


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
