"""Each architecture against a naive version, and what all of them promise."""

import math

import pytest
import torch

from raysae.errors import BadInput
from raysae.saes import ARCHITECTURES, BatchTopK, Gated, JumpReLU, build, check
from raysae.saes.checkpoint import save

D_IN, D_SAE, K = 6, 20, 3


def fresh(architecture: str, seed: int = 0):
    """Built, then moved off its initial values, so that biases and thresholds matter."""
    sae = build(architecture, D_IN, D_SAE, K, seed).requires_grad_(False)
    generator = torch.Generator().manual_seed(seed + 1)
    sae.b_enc.normal_(std=0.1, generator=generator)
    sae.b_dec.normal_(generator=generator)
    if isinstance(sae, BatchTopK):
        sae.threshold.fill_(0.15)
    if isinstance(sae, JumpReLU):
        sae.threshold.uniform_(0.05, 0.3, generator=generator)
    if isinstance(sae, Gated):
        sae.r_mag.normal_(std=0.5, generator=generator)
        sae.b_mag.normal_(std=0.1, generator=generator)
    return sae


def tokens(n: int = 40, seed: int = 7) -> torch.Tensor:
    return torch.randn(n, D_IN, generator=torch.Generator().manual_seed(seed))


def naive_latents(sae, x: torch.Tensor) -> list[list[float]]:
    """Token by token and latent by latent, from the definition."""
    rows = []
    for token in x.tolist():
        product = [
            sum((token[j] - float(sae.b_dec[j])) * float(sae.W_enc[j, i]) for j in range(D_IN)) for i in range(D_SAE)
        ]
        pre = [value + float(bias) for value, bias in zip(product, sae.b_enc, strict=True)]
        if sae.architecture == "topk":
            least = sorted(pre)[-K]
            row = [value if value >= least and value > 0 else 0.0 for value in pre]
        elif sae.architecture == "jumprelu":
            row = [value if value > float(sae.threshold[i]) else 0.0 for i, value in enumerate(pre)]
        elif sae.architecture == "gated":
            strength = [math.exp(sae.r_mag[i]) * product[i] + float(sae.b_mag[i]) for i in range(D_SAE)]
            row = [max(s, 0.0) if value > 0 else 0.0 for s, value in zip(strength, pre, strict=True)]
        else:
            cut = float(sae.threshold) if isinstance(sae, BatchTopK) else 0.0
            row = [value if value > cut else 0.0 for value in pre]
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
    with pytest.raises(BadInput, match="sae.architecture=top_k; allowed: relu, topk, batch_topk, jumprelu, "):
        check("top_k", 4, 8, 2)


@pytest.mark.parametrize(("d_sae", "prefixes"), [(64, (2, 6, 14, 30, 64)), (4, (1, 2, 4))])
def test_matryoshka_nests_dictionaries_up_to_the_whole(d_sae, prefixes):
    assert build("matryoshka_batch_topk", 4, d_sae, 1, 0).prefixes == prefixes
    assert build("batch_topk", 4, d_sae, 1, 0).prefixes == (d_sae,)


@pytest.mark.parametrize("k", [0, 9])
def test_k_outside_the_dictionary_is_refused(k):
    with pytest.raises(BadInput, match=rf"sae.k={k} with d_sae=8; allowed: 1 to 8; type sae.k=8"):
        build("batch_topk", 4, 8, k, 0)
    check("relu", 4, 8, k)
