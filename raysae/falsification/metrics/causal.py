"""Interventions on circuits: which latents carry a variable, what their exchange does, and only that (SCIENCE 4.2-4.5).

The model is a callable (tokens, positions, delta) -> predictions; how an edit is spliced in is the caller's business.
`coherence.py` turns joint successes into the verdict's number.
"""

from collections.abc import Callable, Sequence
from math import comb

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from raysae.falsification.metrics.coherence import Unit, summarise, table
from raysae.falsification.metrics.matching import best_f1

__all__ = [
    "Unit",
    "class_means",
    "class_subspace",
    "different",
    "interchange",
    "joint_success",
    "matched_sets",
    "random_direction",
    "read_out",
    "select_latents",
    "step_sizes",
    "summarise",
    "table",
]

Model = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(tokens [n, t], positions [n], delta [n, d]) -> predicted next token [n, t], delta added at that position."""

TOLERANCE = float(np.log(1.2))
"""How far a matched latent may be from the one it stands for, as the logarithm of the ratio of rates and of sizes."""
NEAREST = 8
"""To draw from at least, however near."""
DIFFERENT = 40
"""Sets that there must be to draw from: one latent drawn again and again is one set. With 40 the smallest p is 1 / 41,
which Benjamini-Hochberg lets pass where half of the units are as good (SCIENCE 0.6)."""


def select_latents(
    fit_latents: Float[Tensor, "n m"],
    values: Int[np.ndarray, " n"],
    names: Sequence[str],
    per_value: int,
    alive: Bool[Tensor, " m"] | None = None,
    least_f1: float = 0.0,
) -> dict[str, tuple[int, ...]]:
    """Disjoint latents for each value of a variable, by F1 at the variable's FIT sites.

    `values` index `names`; -1 is a site without the variable. One latent per value and round, the rounds each a
    matching of largest total F1; a latent with F1 0, or below `least_f1`, is never chosen.
    """
    f1, _ = best_f1(fit_latents, values[:, None] == np.arange(len(names)), alive)
    chosen: dict[str, list[int]] = {name: [] for name in names}
    for _ in range(per_value):
        for latent, value in zip(*linear_sum_assignment(f1, maximize=True), strict=True):
            if f1[latent, value] > 0 and f1[latent, value] >= least_f1:
                chosen[names[int(value)]].append(int(latent))
        f1[[latent for taken in chosen.values() for latent in taken]] = 0
    return {name: tuple(taken) for name, taken in chosen.items()}


def matched_sets(
    rates: Float[np.ndarray, " m"],
    chosen: Sequence[int],
    draws: int,
    seed: int,
    alive: Bool[np.ndarray, " m"] | None = None,
    sizes: Float[np.ndarray, " m"] | None = None,
) -> Int[np.ndarray, "draws c"]:
    """N9: sets as large as `chosen`, each latent replaced by a random other alive one that fires as often and, where
    `sizes` says what an edit of each moves, moves as much, both within 20 %; by one of the nearest where so few do that
    no 40 different sets could be drawn (eight of them, or ten in the place of two chosen, or 40 of one), and by a dead
    one (whose edit does nothing) where none is left.

    Rates and sizes taken at the variable's own sites make this the hardest null. ValueError if the dictionary has too
    few latents.
    """
    pool = NEAREST
    while chosen and comb(pool, len(chosen)) < DIFFERENT:
        pool += 1
    allowed = rates > 0 if alive is None else alive & (rates > 0)
    free = ~np.isin(np.arange(len(rates)), chosen)
    if free.sum() < len(chosen):
        raise ValueError(f"{free.sum()} other latents for a matched set of {len(chosen)}; allowed: at least as many")
    known = np.stack([rates] if sizes is None else [rates, sizes])
    with np.errstate(divide="ignore", invalid="ignore"):
        away = [np.nan_to_num(np.abs(np.log(known / known[:, [own]])), nan=np.inf).max(axis=0) for own in chosen]
    rng = np.random.default_rng(seed)
    sets = np.empty((draws, len(chosen)), dtype=np.int64)
    for draw in range(draws):
        left = free.copy()
        # In random order, so that no latent of the set has first pick of the scarce ones in every draw.
        for place in rng.permutation(len(chosen)):
            others = np.flatnonzero(left & allowed if (left & allowed).any() else left)
            near = others[away[place][others] <= TOLERANCE]
            if len(near) < pool:
                others = rng.permutation(others)  # which of those that are equally far
                near = others[np.argsort(away[place][others], kind="stable")[:pool]]
            taken = rng.choice(near)
            sets[draw, place] = taken
            left[taken] = False
    return sets


def different(sets: Int[np.ndarray, "draws c"]) -> tuple[Int[np.ndarray, "s c"], Int[np.ndarray, " draws"]]:
    """The sets without repeats, their latents sorted, and the place of each draw's among them. A small dictionary
    offers few: each needs to be tried once."""
    return np.unique(np.sort(sets, axis=1), axis=0, return_inverse=True)


def interchange(
    h_base: Float[Tensor, "n m"],
    h_source: Float[Tensor, "n m"],
    W_dec: Float[Tensor, "m d"],
    latents: Int[Tensor, " c"],
) -> Float[Tensor, "n d"]:
    """What to add to x_base so that `latents` (all of the variable's) take the source's activations: the SAE's error
    stays (SCIENCE 4.3)."""
    return (h_source[:, latents] - h_base[:, latents]) @ W_dec[latents]


def step_sizes(
    h_base: Float[Tensor, "n m"], h_source: Float[Tensor, "n m"], W_dec: Float[Tensor, "m d"]
) -> Float[np.ndarray, " m"]:
    """Root mean square of what `interchange` adds for each latent alone."""
    return ((h_source - h_base).double().square().mean(dim=0).sqrt() * W_dec.double().norm(dim=1)).numpy()


def random_direction(delta: Float[Tensor, "n d"], seed: int) -> Float[Tensor, "n d"]:
    """N10: in every row a random direction with the norm of that row of `delta`."""
    noise = torch.randn(delta.shape, generator=torch.Generator().manual_seed(seed)).to(delta)
    return noise * (delta.norm(dim=1, keepdim=True) / noise.norm(dim=1, keepdim=True))


def class_means(x: Float[Tensor, "n d"], values: Int[Tensor, " n"], count: int) -> Float[Tensor, "count d"]:
    """Mean FIT activation for each value of a variable; of a value that never occurs, the mean of all.

    Supervised ceiling: `means[source] - means[base]` is the difference-of-means edit (N8d).
    """
    valid = values >= 0
    x, values = x[valid], values[valid]
    means = x.mean(dim=0).repeat(count, 1)
    for value in values.unique().tolist():
        means[value] = x[values == value].mean(dim=0)
    return means


def class_subspace(
    x_base: Float[Tensor, "n d"], x_source: Float[Tensor, "n d"], means: Float[Tensor, "count d"]
) -> Float[Tensor, "n d"]:
    """Second supervised ceiling: exchange what lies in the span of the class means' differences, and nothing else."""
    _, scale, rows = torch.linalg.svd(means - means.mean(dim=0), full_matrices=False)
    basis = rows[scale > 1e-5 * scale.max()]
    return (x_source - x_base) @ basis.T @ basis


def read_out(
    predictions: Int[Tensor, "n t"], readout_positions: Int[Tensor, "n R"], expected: Int[Tensor, "n R"]
) -> Bool[Tensor, " n"]:
    """J per pair: every readout is what the causal program says, those that must change and those that must not
    (SCIENCE 4.5). Position -1 pads; a pair without readouts fails."""
    real = readout_positions >= 0
    found = predictions.gather(1, readout_positions.clamp_min(0))
    return ((found == expected) | ~real).all(dim=1) & real.any(dim=1)


@torch.no_grad()
def joint_success(
    model: Model,
    tokens: Int[Tensor, "n t"],
    positions: Int[Tensor, " n"],
    delta: Float[Tensor, "n d"],
    readout_positions: Int[Tensor, "n R"],
    expected: Int[Tensor, "n R"],
    batch: int = 256,
) -> Bool[Tensor, " n"]:
    """Add `delta` at `positions`, predict, read out; a readout position is the one *before* the token it predicts."""
    parts = [
        read_out(model(*(part[rows] for part in (tokens, positions, delta))), readout_positions[rows], expected[rows])
        for rows in torch.arange(len(tokens)).split(batch)
    ]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.bool)
