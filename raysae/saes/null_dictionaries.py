"""Dictionaries that learnt nothing, at the sparsity of one that did (N1, N2, N8 and N10s of SCIENCE 0.5)."""

import copy

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from raysae.errors import BadInput
from raysae.saes.base import SparseAutoencoder
from raysae.saes.batch_topk import BatchTopK

SAMPLE_ROWS = 4096
CHUNK_ROWS = 8192


def random_dictionary(
    like: SparseAutoencoder, l0: float, x: Float[Tensor, "n d_in"], seed: int, d_sae: int | None = None
) -> SparseAutoencoder:
    """N1: iid unit rows, the bias of `like`. `d_sae` is the width, by default that of `like`; give the number of alive
    latents of `like` for a comparison at equal size."""
    rows = torch.randn(d_sae or like.d_sae, like.d_in, generator=torch.Generator().manual_seed(seed))
    return tied_dictionary(rows, like, l0, x)


def principal_axes(like: SparseAutoencoder, l0: float, x: Float[Tensor, "n d_in"]) -> SparseAutoencoder:
    """N8: the principal axes of `x`, each in both signs."""
    _, _, rows = torch.linalg.svd(torch.cov(x.T), full_matrices=False)
    return tied_dictionary(torch.cat([rows, -rows]), like, l0, x)


def coordinates(like: SparseAutoencoder, l0: float, x: Float[Tensor, "n d_in"]) -> SparseAutoencoder:
    """N8: the coordinates of the hook point, each in both signs."""
    rows = torch.eye(like.d_in)
    return tied_dictionary(torch.cat([rows, -rows]), like, l0, x)


@torch.no_grad()
def tied_dictionary(
    rows: Float[Tensor, "d_sae d_in"], like: SparseAutoencoder, l0: float, x: Float[Tensor, "n d_in"]
) -> SparseAutoencoder:
    """`rows` at unit norm as decoder and, transposed, as encoder, the bias of `like`, and the one threshold at which
    `x` has `l0` latents per token.

    `x` are FIT activations in the units `like` reads. Raises BadInput if no threshold gives that L0.
    """
    sae = BatchTopK(like.d_in, len(rows), k=max(1, round(l0)))
    sae.W_dec.copy_(rows / rows.norm(dim=1, keepdim=True))
    sae.W_enc.copy_(sae.W_dec.T)
    sae.b_dec.copy_(like.b_dec.cpu())
    sae.to(like.b_dec.device)
    sae.threshold.fill_(_threshold(sae, x, round(l0 * len(x))))
    return sae


@torch.no_grad()
def cut_back(sae: SparseAutoencoder, l0: float, x: Float[Tensor, "n d_in"]) -> SparseAutoencoder:
    """The same weights behind the one threshold at which `x` has `l0` latents per token; `l0` below what it has."""
    less = BatchTopK(sae.d_in, sae.d_sae, k=max(1, round(l0))).requires_grad_(False)
    for name, tensor in zip(("W_enc", "b_enc", "W_dec", "b_dec"), (*sae.strength(), sae.W_dec, sae.b_dec), strict=True):
        getattr(less, name).copy_(tensor)
    less.threshold.fill_(_threshold(less, x, round(l0 * len(x))))
    return less


@torch.no_grad()
def shuffled_decoder(like: SparseAutoencoder, alive: Bool[Tensor, " d_sae"], seed: int) -> SparseAutoencoder:
    """N10s: the latents of `like`, the decoder rows of its alive ones permuted so that none keeps its own."""
    sae = copy.deepcopy(like).requires_grad_(False)
    places = alive.nonzero()[:, 0].cpu()
    order = places[torch.randperm(len(places), generator=torch.Generator().manual_seed(seed))]
    # one cycle through all of them: a latent that kept its row would be no null
    sae.W_dec[order] = like.W_dec[order.roll(1)].detach()
    return sae


def _threshold(sae: SparseAutoencoder, x: Float[Tensor, "n d_in"], active: int) -> float:
    """Exactly `active` pre-activations of `x` lie above it; a sample finds where to look, so memory stays small."""
    sample = sae.pre_activations(x[:: -(-len(x) // SAMPLE_ROWS)]).flatten()
    floor, wanted = 0.0, 2 * active * len(sample) // (len(x) * sae.d_sae)
    if 0 < wanted < len(sample):
        floor = max(0.0, float(sample.topk(wanted).values[-1]))
    for lowest in (floor, 0.0):
        chunks = (sae.pre_activations(part) for part in x.split(CHUNK_ROWS))
        above = torch.cat([pre[pre > lowest] for pre in chunks])
        if len(above) > active:
            highest = above.topk(active + 1).values
            return float(highest[-1])
    raise BadInput(
        f"a random dictionary of {sae.d_sae} latents with {active / len(x):g} active per token",
        f"allowed: below {len(above) / len(x):.3g}, where its threshold reaches 0",
        "lower sae.k or raise sae.expansion",
    )
