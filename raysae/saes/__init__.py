"""Sparse autoencoders: one file per architecture, and the table that names them.

To add one: write its file, then its line in `ARCHITECTURES`.
"""

import torch

from raysae.errors import BadInput
from raysae.saes.base import SAEOutput, SparseAutoencoder
from raysae.saes.batch_topk import BatchTopK
from raysae.saes.gated import Gated
from raysae.saes.jumprelu import JumpReLU
from raysae.saes.matryoshka import MatryoshkaBatchTopK
from raysae.saes.null_dictionaries import (
    coordinates,
    cut_back,
    principal_axes,
    random_dictionary,
    shuffled_decoder,
    tied_dictionary,
)
from raysae.saes.relu import ReLU
from raysae.saes.topk import TopK

ARCHITECTURES: dict[str, type[SparseAutoencoder]] = {
    "relu": ReLU,
    "topk": TopK,
    "batch_topk": BatchTopK,
    "jumprelu": JumpReLU,
    "gated": Gated,
    "matryoshka_batch_topk": MatryoshkaBatchTopK,
}


def check(architecture: str, d_in: int, d_sae: int, k: int) -> None:
    """Refuse, before anything is built, an architecture or a size that cannot be; BadInput says which."""
    if architecture not in ARCHITECTURES:
        allowed = ", ".join(ARCHITECTURES)
        raise BadInput(f"sae.architecture={architecture}", f"allowed: {allowed}", "type sae.architecture=batch_topk")
    if d_in < 1 or d_sae < 1:
        raise BadInput(f"an SAE of d_in={d_in}, d_sae={d_sae}", "allowed: positive widths", "type sae.expansion=8")
    if ARCHITECTURES[architecture].needs_k and not 0 < k <= d_sae:
        raise BadInput(f"sae.k={k} with d_sae={d_sae}", f"allowed: 1 to {d_sae}", f"type sae.k={min(8, d_sae)}")


@torch.no_grad()
def build(architecture: str, d_in: int, d_sae: int, k: int, seed: int) -> SparseAutoencoder:
    """Random unit rows and a tied encoder (SCIENCE 3.4), on the CPU; equal seeds give equal bytes.

    W_enc = W_dec.T * d_in / d_sae: half of d_sae random latents fire, so that without the factor a fresh SAE returns
    about d_sae / (2 d_in) times x and spends hundreds of steps on shrinking; with it, x / 2.
    """
    check(architecture, d_in, d_sae, k)
    sae = ARCHITECTURES[architecture](d_in, d_sae, k)
    rows = torch.randn(d_sae, d_in, generator=torch.Generator().manual_seed(seed))
    sae.W_dec.copy_(rows / rows.norm(dim=1, keepdim=True))
    sae.W_enc.copy_(sae.W_dec.T * min(1.0, d_in / d_sae))
    return sae


__all__ = [
    "ARCHITECTURES",
    "BatchTopK",
    "Gated",
    "JumpReLU",
    "MatryoshkaBatchTopK",
    "ReLU",
    "SAEOutput",
    "SparseAutoencoder",
    "TopK",
    "build",
    "check",
    "coordinates",
    "cut_back",
    "principal_axes",
    "random_dictionary",
    "shuffled_decoder",
    "tied_dictionary",
]
