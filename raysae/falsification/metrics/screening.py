"""What a latent must show before it can be a primitive (SCIENCE 5.7, 6.3): silence on its own tokens in a text without
a thought, and an effect that other latents pushed at its places do not have (N9)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from raysae.falsification.intervals import benjamini_hochberg
from raysae.falsification.metrics.candidates import INJECTION

OWN_TOKENS = 3


class Screen(NamedTuple):
    """What c latents of one SAE did."""

    injected: Float[np.ndarray, " c"]
    """Share of the texts without a thought in which it fires on its own tokens, put in."""
    supports: Bool[np.ndarray, " c"]
    """Whether more of it makes surer what the text goes on to say."""
    p: Float[np.ndarray, " c"]
    """Of that effect, against latents matched on firing rate."""

    @property
    def fires(self) -> Bool[np.ndarray, " c"]:
        """On its own tokens, whatever stands around them."""
        return self.injected > INJECTION

    @property
    def inert(self) -> Bool[np.ndarray, " c"]:
        """At false discovery rate 0.05 over the latents that are tested."""
        return ~(self.supports & benjamini_hochberg(self.p))

    @property
    def passes(self) -> Bool[np.ndarray, " c"]:
        return ~self.fires & ~self.inert


def own_tokens(latent: Float[np.ndarray, " n"], token_id: Int[np.ndarray, " n"]) -> Int[np.ndarray, " k"]:
    """The at most three tokens that hold most of a latent's activation."""
    tokens, at = np.unique(token_id, return_inverse=True)
    held = np.bincount(at, weights=latent)
    first = np.argsort(-held, kind="stable")[:OWN_TOKENS]
    return tokens[first[held[first] > 0]]
