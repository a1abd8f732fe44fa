"""The one dense product of a step, and the latents it selects."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from raysae.saes import SparseAutoencoder
from raysae.saes.selection import Listed, Rule, Selection
from raysae.training.kernels.bags import sampled

Precision = Literal["float32", "bfloat16"]
DTYPE: dict[Precision, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SCREEN_FROM = 256
"""Below this d_in a float32 product is too small for a bfloat16 one in front of it to save anything."""
ROUNDING = 0.42 * 2**0.5 / 2**8
"""Standard deviation of the relative error of a product of two numbers rounded to bfloat16: each is off by up to half a
unit in the last of 8 places, over all mantissas 0.42 / 2^8 in the quadratic mean."""
DEVIATIONS = 8


def encode(
    sae: SparseAutoencoder, centred: Float[Tensor, "n d_in"], rule: Rule, precision: Precision = "float32"
) -> Selection:
    """The latents that `rule` selects of pre = (x - b_dec) @ W_enc + b_enc, and their pre-activations.

    bfloat16: both as a bfloat16 product gives them. float32: on a CPU that multiplies bfloat16 in hardware such a
    product only screens; whatever may belong to the selection, eight standard deviations of its rounding error
    included, is computed again in float32 before the rule decides: the float32 selection at half the price.
    """
    if precision == "bfloat16":
        return rule.choose(_in_bfloat16(sae, centred))
    if sae.d_in >= SCREEN_FROM and centred.device.type == "cpu" and multiplies_bfloat16():

        def refine(pairs: Listed) -> Listed:
            exact = sampled(centred, sae.W_enc.T, pairs.token, pairs.latent).add_(sae.b_enc[pairs.latent])
            return pairs._replace(pre=exact)

        screened = rule.screen(_in_bfloat16(sae, centred), rounding_slack(sae, centred), refine)
        if screened is not None:
            return screened
    return rule.choose(torch.addmm(sae.b_enc, centred, sae.W_enc))


def multiplies_bfloat16() -> bool:
    """Whether this CPU has avx512_bf16 or amx; without, a bfloat16 product is no faster than a float32 one."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def rounding_slack(sae: SparseAutoencoder, centred: Float[Tensor, "n d_in"]) -> Float[Tensor, " n"]:
    """How far off a token's bfloat16 pre-activations are at most: sqrt(sum_j (x_j w_j)^2) <= ||x||_4 ||w||_4."""
    fourth = torch.linalg.vector_norm(centred.square(), dim=1).sqrt()
    widest = torch.linalg.vector_norm(sae.W_enc.T.square(), dim=1).amax().sqrt()
    return fourth * (widest * (DEVIATIONS * ROUNDING)) + sae.b_enc.abs().amax() / 2**8


def _in_bfloat16(sae: SparseAutoencoder, centred: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_sae"]:
    return torch.nn.functional.linear(centred.bfloat16(), sae.W_enc.T.bfloat16(), sae.b_enc.bfloat16())
