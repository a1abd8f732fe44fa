"""Latents against labels: the best threshold of every latent for every label; labels exchanged between documents."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_LATENTS_AT_ONCE = 256


def best_f1(
    latents: Float[Tensor, "n m"], factors: Bool[np.ndarray, "n F"], alive: Bool[Tensor, " m"] | None = None
) -> tuple[Float[np.ndarray, "m F"], Float[np.ndarray, "m F"]]:
    """Largest F1 of `latent > threshold` as a detector of each factor over every threshold >= 0, and that threshold.

    Exact: each distinct activation is tried, by running sums over the tokens sorted by activation, so it costs firings
    x factors. A latent that never fires, or is not alive, has F1 0 and threshold inf.
    """
    n, m = latents.shape
    positives = factors.sum(axis=0).astype(np.float32)
    labels = factors.astype(np.uint8)
    f1 = np.zeros((m, factors.shape[1]), dtype=np.float32)
    thresholds = np.full((m, factors.shape[1]), np.inf, dtype=np.float32)
    keep = np.ones(m, dtype=bool) if alive is None else alive.cpu().numpy()
    columns = np.arange(factors.shape[1])
    for start in range(0, m, _LATENTS_AT_ONCE):
        chunk = latents[:, start : start + _LATENTS_AT_ONCE].float().T.contiguous().cpu().numpy()
        for j, activation in enumerate(chunk, start):
            fires = np.flatnonzero(activation > 0) if keep[j] else np.empty(0, dtype=np.int64)
            if not len(fires):
                continue
            order = fires[np.argsort(-activation[fires], kind="stable")]
            values = activation[order]
            cut = np.flatnonzero(np.append(values[1:] != values[:-1], True))  # Equal activations fall on one side.
            share = np.cumsum(labels[order], axis=0, dtype=np.float32)
            if len(cut) < len(order):
                share = share[cut]
            share /= positives + (cut + 1.0).astype(np.float32)[:, None]  # Half the F1: hits / (positives + fired).
            best = share.argmax(axis=0)
            f1[j] = 2 * share[best, columns]
            thresholds[j] = _between(values, cut)[best]
    return f1, thresholds


def f1_at(fires: Bool[np.ndarray, "n F"], factors: Bool[np.ndarray, "n F"]) -> Float[np.ndarray, " F"]:
    """F1 of each column of `fires` as a detector of the same column of `factors`; 0 where neither is ever on."""
    hits = (fires & factors).sum(axis=0)
    total = fires.sum(axis=0) + factors.sum(axis=0)
    return np.divide(2.0 * hits, total, out=np.zeros(len(hits)), where=total > 0)


def fires_above(
    latents: Float[Tensor, "n m"], chosen: Int[np.ndarray, " F"], thresholds: Float[np.ndarray, " F"]
) -> Bool[np.ndarray, "n F"]:
    """Where the chosen latents lie above their thresholds; a choice of -1 never fires."""
    if not latents.shape[1]:
        return np.zeros((len(latents), len(chosen)), dtype=bool)
    picked = latents[:, torch.as_tensor(np.maximum(chosen, 0), device=latents.device)].float().cpu().numpy()
    return (picked > thresholds) & (chosen >= 0)


def permuted_rows(
    document: Int[np.ndarray, " n"], seed: int, among: Bool[np.ndarray, " n"] | None = None
) -> Int[np.ndarray, " n"]:
    """Row i takes the label of row permuted_rows[i]: every document gets the sequence of another one, in order from its
    start, repeated or cropped to its length (N6 of SCIENCE 0.5, a block permutation).

    With `among`, only documents that hold such a row take part, and the others keep their own: where a run has texts of
    several kinds, labels that went to another kind would stand where no latent of theirs ever fires.
    """
    if among is not None:
        rows = np.arange(len(document))
        taking = np.flatnonzero(np.isin(document, document[among]))
        rows[taking] = taking[permuted_rows(document[taking], seed)]
        return rows
    _, inverse, lengths = np.unique(document, return_inverse=True, return_counts=True)
    order = np.argsort(inverse, kind="stable")
    starts = np.cumsum(lengths) - lengths
    target = inverse[order]
    source = np.random.default_rng(seed).permutation(len(lengths))[target]
    taken = np.empty(len(document), dtype=np.int64)
    taken[order] = order[starts[source] + (np.arange(len(order)) - starts[target]) % lengths[source]]
    return taken


def shifted_rows(document: Int[np.ndarray, " n"], seed: int) -> Int[np.ndarray, " n"]:
    """Row i takes the label of row shifted_rows[i]: every document keeps its own sequence, turned by a random offset
    that is not 0 (N7 of SCIENCE 0.5)."""
    _, inverse = np.unique(document, return_inverse=True)
    rng = np.random.default_rng(seed)
    taken = np.empty(len(document), dtype=np.int64)
    for rows in np.split(np.argsort(inverse, kind="stable"), np.cumsum(np.bincount(inverse))[:-1]):
        taken[rows] = np.roll(rows, rng.integers(1, len(rows)) if len(rows) > 1 else 0)
    return taken


def _between(values: Float[np.ndarray, " k"], cut: Int[np.ndarray, " c"]) -> Float[np.ndarray, " c"]:
    """Thresholds half-way between the last activation above and the first below (0 after the last)."""
    below = np.append(values, np.float32(0))[cut + 1]
    middle = (values[cut] + below) / 2
    return np.where(middle < values[cut], middle, below)  # Neighbouring floats have no middle.
