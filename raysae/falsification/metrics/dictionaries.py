"""Decoders as sets of directions: what one SAE is to another, and the random dictionary both are held against."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from raysae.falsification.metrics.codes import Code, size, sparse_code

ROWS_AT_ONCE = 1024


class Origin(NamedTuple):
    """Fingerprints, taken while it was trained, of what must differ between independent runs (SCIENCE 6.1); None where
    training left none."""

    init: str | None = None
    """Of the weights before the first step."""
    order: str | None = None
    """Of the first batch, as the order of the tokens gave it."""
    shard: str | None = None
    """Of the documents it was trained on."""


class Dictionary(NamedTuple):
    """The alive latents of one SAE: where they point, and how they fire on TEST."""

    rows: Float[np.ndarray, "m d"]
    """Unit decoder rows."""
    number: Int[np.ndarray, " m"]
    """Which latents of the SAE they are."""
    code: Code
    origin: Origin
    start: Float[np.ndarray, "_ d"] | None = None
    """Every decoder row before the first step, or early in training, where it is at hand."""

    @property
    def energy(self) -> Float[np.ndarray, " m"]:
        """Mean h^2 per token; with unit rows, what each latent adds to the squared norm of the reconstruction."""
        return np.asarray(self.code.multiply(self.code).sum(axis=0)) / size(self.code)[0]


class Matched(NamedTuple):
    """One-to-one pairs, as many as the smaller side has."""

    a: Int[np.ndarray, " k"]
    b: Int[np.ndarray, " k"]
    score: Float[np.ndarray, " k"]


def dictionary(
    W_dec: Float[Tensor, "m d"],
    latents: Float[Tensor, "n m"],
    alive: Bool[Tensor, " m"],
    origin: Origin,
    start: Float[Tensor, "m d"] | None = None,
) -> Dictionary:
    """The alive part of an SAE. `alive` comes from FIT, `latents` from TEST."""
    return Dictionary(
        unit(W_dec[alive].float().cpu().numpy()),
        np.flatnonzero(alive.cpu().numpy()),
        sparse_code(latents.split(8192), alive),
        origin,
        None if start is None else unit(start.float().cpu().numpy()),
    )


def unit(rows: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m d"]:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def random_rows(m: int, d: int, rng: np.random.Generator) -> Float[np.ndarray, "m d"]:
    """m independent unit rows: the geometry of N1."""
    return unit(rng.standard_normal((m, d)).astype(np.float32))


def match(score: Float[np.ndarray, "a b"]) -> Matched:
    """The pairing with the largest total score (Hungarian)."""
    a, b = linear_sum_assignment(score, maximize=True)
    return Matched(a, b, score[a, b])


def match_rows(a: Float[np.ndarray, "a d"], b: Float[np.ndarray, "b d"]) -> Matched:
    """By cosine with its sign: a latent and its opposite are not the same."""
    return match(a @ b.T)


def largest_cosine(rows: Float[np.ndarray, "m d"], of: int | None = None) -> Float[np.ndarray, " k"]:
    """max over j != i of |cos(w_i, w_j)| for the first `of` unit rows i (all by default); 0 for a single row."""
    found = np.zeros(min(len(rows), len(rows) if of is None else of))
    for start in range(0, len(found), ROWS_AT_ONCE):
        cosine = np.abs(rows[start : min(start + ROWS_AT_ONCE, len(found))] @ rows.T)
        own = np.arange(len(cosine))
        cosine[own, start + own] = 0
        found[start : start + len(cosine)] = cosine.max(axis=1)
    return found
