"""N1 of SCIENCE 0.5: a dictionary that learnt nothing, at the sparsity of one that did."""

import torch
from jaxtyping import Float
from torch import Tensor

from raysae.errors import BadInput
from raysae.saes.base import SparseAutoencoder
from raysae.saes.batch_topk import BatchTopK

SAMPLE_ROWS = 4096
CHUNK_ROWS = 8192


@torch.no_grad()
def random_dictionary(
    like: SparseAutoencoder, l0: float, x: Float[Tensor, "n d_in"], seed: int, d_sae: int | None = None
) -> SparseAutoencoder:
    """iid unit rows, tied encoder, the bias of `like`, and the one threshold at which `x` has `l0` latents per token.

    `x` are FIT activations in the units `like` reads. `d_sae` is the width, by default that of `like`; give the number
    of alive latents of `like` for a comparison at equal size. Raises BadInput if no threshold gives that L0.
    """
    sae = BatchTopK(like.d_in, d_sae or like.d_sae, k=max(1, round(l0)))
    rows = torch.randn(sae.d_sae, sae.d_in, generator=torch.Generator().manual_seed(seed))
    sae.W_dec.copy_(rows / rows.norm(dim=1, keepdim=True))
    sae.W_enc.copy_(sae.W_dec.T)
    sae.b_dec.copy_(like.b_dec.cpu())
    sae.to(like.b_dec.device)
    sae.threshold.fill_(_threshold(sae, x, round(l0 * len(x))))
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
