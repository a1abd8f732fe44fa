"""Directions pushed in the place of a latent's own, at its sites and with its norm (SCIENCE 0.5, N9 to N10s)."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from raysae.falsification.metrics.causal import matched_sets

NULLS = ("matched_latents", "random_direction", "shuffled_decoder")

Draws = Callable[[np.ndarray, int, int], Tensor]
"""(latents [a] among the m under test, first, last) -> unit directions [last - first, a, d], the same whoever else is
asked for."""


def null_draws(
    W_dec: Float[Tensor, "m_all d"],
    rates: Float[np.ndarray, " m_all"],
    alive: Bool[np.ndarray, " m_all"],
    latents: Int[np.ndarray, " m"],
    seed: int,
) -> dict[str, Draws]:
    """Directions of every null for the latents under test, drawn by (seed, latent).

    Matched latents (N9): decoder rows of other alive latents with a firing rate within 20 %, with replacement. Random
    directions (N10). Shuffled decoder (N10s): the rows of the other alive latents in random order, each once, since a
    row drawn twice is not evidence twice.
    """
    numbers = np.flatnonzero(alive)

    def matched(which: np.ndarray, first: int, last: int) -> Tensor:
        sets = [
            matched_sets(rates, [int(latents[i])], last, int(seed + latents[i]) % 2**32, alive)[first:, 0]
            for i in which
        ]
        return W_dec[torch.from_numpy(np.stack(sets, axis=1))]

    def random(which: np.ndarray, first: int, last: int) -> Tensor:
        shape = (last - first, W_dec.shape[1])
        drawn = [np.random.default_rng([seed, int(latents[i]), first]).standard_normal(shape) for i in which]
        found = torch.from_numpy(np.stack(drawn, axis=1)).to(W_dec)
        return found / found.norm(dim=-1, keepdim=True)

    def shuffled(which: np.ndarray, first: int, last: int) -> Tensor:
        orders = [
            np.random.default_rng([seed, int(latents[i])]).permutation(numbers[numbers != latents[i]]) for i in which
        ]
        return W_dec[torch.from_numpy(np.stack([order[first:last] for order in orders], axis=1))]

    return {"matched_latents": matched, "random_direction": random, "shuffled_decoder": shuffled}
