"""Each architecture against the class that other libraries have for it, on the same weights."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from raysae.saes import ARCHITECTURES, BatchTopK, build
from raysae.saes.checkpoint import save
from raysae.saes.selection import Listed

D_IN, D_SAE, K = 16, 64, 4
WHY = "the extra [bench] has the libraries we compare with"


def trained(architecture: str):
    """Off its initial values."""
    sae = build(architecture, D_IN, D_SAE, K, 0).requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    sae.b_enc.normal_(std=0.1, generator=generator)
    sae.b_dec.normal_(generator=generator)
    if isinstance(sae, BatchTopK):
        sae.threshold.fill_(0.25)
    for name in {"threshold", "r_mag", "b_mag"} & dict(sae.named_parameters()).keys():
        getattr(sae, name).uniform_(0.01, 0.3, generator=torch.Generator().manual_seed(2))
    return sae


def tokens() -> Tensor:
    return torch.randn(200, D_IN, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_saelens_opens_our_folder_and_computes_the_same(architecture, tmp_path):
    library = pytest.importorskip("sae_lens", reason=WHY)
    sae, x = trained(architecture), tokens()
    save(sae, tmp_path / "sae", {})
    theirs = library.SAE.load_from_disk(tmp_path / "sae")
    latents = theirs.encode(x)
    torch.testing.assert_close(latents.to_dense() if latents.is_sparse else latents, sae.encode(x), rtol=0, atol=1e-5)
    torch.testing.assert_close(theirs(x), sae(x).reconstruction, rtol=0, atol=1e-5)


def test_dictionary_learning_has_the_same_gated_sae():
    library = pytest.importorskip("dictionary_learning.dictionary", reason=WHY)
    sae, x = trained("gated"), tokens()
    theirs = library.GatedAutoEncoder(D_IN, D_SAE)
    theirs.encoder.weight.data, theirs.decoder.weight.data = sae.W_enc.T.clone(), sae.W_dec.T.clone()
    theirs.gate_bias.data, theirs.mag_bias.data, theirs.r_mag.data = sae.b_enc, sae.b_mag, sae.r_mag
    theirs.decoder_bias.data = sae.b_dec
    torch.testing.assert_close(theirs.encode(x), sae.encode(x), rtol=0, atol=1e-5)
    torch.testing.assert_close(theirs(x), sae(x).reconstruction, rtol=0, atol=1e-5)


def test_dictionary_learning_selects_the_same_latents_of_a_batch():
    file = "dictionary_learning.trainers.matryoshka_batch_top_k"
    library = pytest.importorskip(file, reason=WHY)
    sae, x = trained("matryoshka_batch_topk"), tokens()
    sizes = [after - before for before, after in pairwise((0, *sae.prefixes))]
    theirs = library.MatryoshkaBatchTopKSAE(D_IN, D_SAE, K, sizes)
    for name in ("W_enc", "W_dec", "b_enc", "b_dec"):
        getattr(theirs, name).data = getattr(sae, name).data
    chosen = sae.rule(float(K), len(x)).choose(sae.pre_activations(x))
    assert isinstance(chosen, Listed)
    ours = torch.zeros(len(x), D_SAE).index_put((chosen.token, chosen.latent), chosen.pre)
    torch.testing.assert_close(theirs.encode(x, use_threshold=False), ours, rtol=0, atol=1e-5)
