"""Each architecture against a naive version, and what all of them promise."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raysae.errors import BadInput
from raysae.saes import ARCHITECTURES, build, check
from raysae.saes.checkpoint import save

D_IN, D_SAE, K = 6, 20, 3


def fresh(architecture: str, seed: int = 0):
    """Built, then moved off its initial values, so that biases and threshold matter."""
    sae = build(architecture, D_IN, D_SAE, K, seed).requires_grad_(False)
    generator = torch.Generator().manual_seed(seed + 1)
    sae.b_enc.normal_(std=0.1, generator=generator)
    sae.b_dec.normal_(generator=generator)
    if architecture == "batch_topk":
        sae.threshold.fill_(0.15)
    return sae


def tokens(n: int = 40, seed: int = 7) -> torch.Tensor:
    return torch.randn(n, D_IN, generator=torch.Generator().manual_seed(seed))


def naive_latents(sae, x: torch.Tensor) -> list[list[float]]:
    """Token by token and latent by latent, from the definition."""
    cut = float(sae.threshold) if sae.architecture == "batch_topk" else 0.0
    rows = []
    for token in x.tolist():
        row = []
        for i in range(D_SAE):
            pre = float(sae.b_enc[i])
            for j in range(D_IN):
                pre += (token[j] - float(sae.b_dec[j])) * float(sae.W_enc[j, i])
            row.append(pre if pre > cut else 0.0)
        rows.append(row)
    return rows


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_latents_and_reconstruction_agree_with_the_definition(architecture):
    sae, x = fresh(architecture), tokens(12)
    output = sae(x)
    expected = torch.tensor(naive_latents(sae, x))
    torch.testing.assert_close(output.latents, expected)
    naive = torch.stack([sum((h * w for h, w in zip(row, sae.W_dec, strict=True)), sae.b_dec) for row in expected])
    torch.testing.assert_close(output.reconstruction, naive)
    assert 0 < (output.latents > 0).sum() < output.latents.numel()


@given(n=st.integers(1, 30), k=st.floats(0.5, D_SAE * 1.5), seed=st.integers(0, 10_000), shift=st.floats(-3, 1))
@settings(max_examples=60, deadline=None)
def test_batch_topk_keeps_the_largest_positive_of_the_whole_batch(n, k, seed, shift):
    sae = fresh("batch_topk")
    pre = torch.randn(n, D_SAE, generator=torch.Generator().manual_seed(seed)) + shift
    latents, cut = sae.select(pre, k)
    kept = [value for value in sorted(pre.flatten().tolist(), reverse=True)[: max(1, round(k * n))] if value > 0]
    assert sorted(latents[latents > 0].tolist(), reverse=True) == kept
    assert torch.equal(latents, torch.where(latents > 0, pre, 0.0))
    assert float(cut) == (min(kept) if kept else 0.0)


def test_relu_selects_everything_positive():
    pre = torch.randn(9, D_SAE, generator=torch.Generator().manual_seed(1))
    latents, cut = fresh("relu").select(pre, 2.0)
    assert torch.equal(latents, pre.clamp(min=0))
    assert float(cut) == 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_encoding_a_token_does_not_depend_on_the_others_in_its_batch(architecture):
    sae, x = fresh(architecture), tokens()
    alone = torch.cat([sae.encode(token[None]) for token in x])
    torch.testing.assert_close(sae.encode(x), alone, rtol=1e-5, atol=1e-6)
    assert torch.equal(sae.encode(x) > 0, alone > 0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("scale", [0.05, 1.0, 30.0])
def test_folding_the_input_scale_leaves_the_reconstruction_in_raw_units(architecture, scale):
    sae, x = fresh(architecture), tokens() / scale
    raw = sae.unscaled(scale)
    torch.testing.assert_close(raw(x).reconstruction, sae(x * scale).reconstruction / scale, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(raw(x).latents, sae(x * scale).latents / scale, rtol=1e-5, atol=1e-5 / scale)
    assert torch.equal(raw.W_dec, sae.W_dec)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_equal_seeds_give_equal_files_and_other_seeds_others(architecture, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        save(build(architecture, D_IN, D_SAE, K, seed), tmp_path / name, {})
    files = {name: (tmp_path / name / "sae_weights.safetensors").read_bytes() for name in "abc"}
    assert files["a"] == files["b"] != files["c"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_decoder_starts_with_unit_rows_and_the_encoder_tied_to_it(architecture):
    sae = build(architecture, D_IN, D_SAE, K, 3)
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(D_SAE))
    torch.testing.assert_close(sae.W_enc, sae.W_dec.T * D_IN / D_SAE)


def test_a_fresh_relu_sae_reconstructs_about_half_of_random_activations():
    sae = build("relu", 64, 1024, 8, 0).requires_grad_(False)
    x = torch.randn(500, 64, generator=torch.Generator().manual_seed(1))
    gain = (sae(x).reconstruction * x).sum() / x.square().sum()
    assert 0.45 < float(gain) < 0.55


def test_an_unknown_architecture_is_refused_with_the_known_ones():
    with pytest.raises(BadInput, match="sae.architecture=topk; allowed: relu, batch_topk; "):
        check("topk", 4, 8, 2)


@pytest.mark.parametrize("k", [0, 9])
def test_k_outside_the_dictionary_is_refused(k):
    with pytest.raises(BadInput, match=rf"sae.k={k} with d_sae=8; allowed: 1 to 8; type sae.k=8"):
        build("batch_topk", 4, 8, k, 0)
    check("relu", 4, 8, k)
