"""How far aligners agree with each other (Krippendorff's alpha), and with known spans (F1 of tokens and of bounds).

Arrays in, sums per document out: whoever reports a number resamples documents, because the tokens of one are no
independent units (SCIENCE 0.4, 7).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raysae.corpora.aligners import NO_ANSWER, NO_STEP


class Alpha(NamedTuple):
    """Krippendorff's alpha for nominal values: 1 is perfect agreement, 0 what chance gives."""

    value: float | None
    """None where every vote is the same value, so that nothing could have disagreed."""
    interval: tuple[float, float] | None
    """One-sided 95 % bounds, cluster bootstrap over documents."""
    null_mean: float | None
    """Of the same votes, each aligner's shifted round its document by an offset of its own (N7)."""
    null_p95: float | None
    documents: int


class Hits(NamedTuple):
    """Sums for an F1 = 2 * hits / (found + wanted)."""

    hits: int
    found: int
    wanted: int


def krippendorff(
    votes: NDArray[np.int64], document: NDArray[np.int64], *, bootstrap: int, draws: int, seed: int
) -> Alpha:
    """Agreement of the rows of `votes` [aligners, tokens], `NO_ANSWER` where one casts none.

    `document` [tokens] numbers the documents from 0, in order. Krippendorff 2011, "Computing Krippendorff's
    Alpha-Reliability", with missing values: a token with fewer than two votes counts nothing.
    """
    documents = int(document[-1]) + 1 if len(document) else 0
    agreed, values = _coincidences(votes, document, documents)
    (value,) = _alpha(agreed, values, np.ones((1, documents)))
    if not np.isfinite(value):
        return Alpha(None, None, None, None, documents)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(documents, np.full(documents, 1 / documents), size=bootstrap).astype(np.float64)
    replicates = _alpha(agreed, values, weights)
    low, high = np.nanquantile(replicates, [0.05, 0.95])
    nulls = [
        _alpha(*_coincidences(_shifted(votes, document, documents, rng), document, documents), np.ones((1, documents)))
        for _ in range(draws)
    ]
    null = np.concatenate(nulls)
    return Alpha(float(value), (float(low), float(high)), float(null.mean()), float(np.quantile(null, 0.95)), documents)


def _coincidences(
    votes: NDArray[np.int64], document: NDArray[np.int64], documents: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pairs of equal votes [documents], those of a token with m votes weighted 1 / (m - 1), and votes per value
    [documents, values]."""
    cast = votes != NO_ANSWER
    m = cast.sum(axis=0)
    usable = m >= 2
    votes, cast, document, m = votes[:, usable], cast[:, usable], document[usable], m[usable]
    categories = int(votes.max(initial=NO_ANSWER)) - NO_ANSWER + 1
    values = np.zeros(documents * categories)
    equal = np.zeros(len(document))
    for i, row in enumerate(votes):
        code = document[cast[i]] * categories + row[cast[i]] - NO_ANSWER
        values += np.bincount(code, minlength=documents * categories)
        for j in range(i):
            equal += 2.0 * (cast[i] & cast[j] & (row == votes[j]))
    agreed = np.bincount(document, equal / (m - 1), documents).astype(np.float64)
    return agreed, values.reshape(documents, categories)


def _alpha(
    agreed: NDArray[np.float64], values: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Alpha of each row of `weights` [replicates, documents]; NaN where all votes are one value."""
    per_value = weights @ values
    n = per_value.sum(axis=1)
    expected = n**2 - (per_value**2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected > 0, 1 - (n - 1) * (n - weights @ agreed) / expected, np.nan)


def _shifted(
    votes: NDArray[np.int64], document: NDArray[np.int64], documents: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Every row but the first turned round within each document by a random offset."""
    first = np.searchsorted(document, np.arange(documents))
    length = np.bincount(document, minlength=documents)
    position = np.arange(len(document)) - first[document]
    rows = [votes[0]]
    for row in votes[1:]:
        offset = rng.integers(0, np.maximum(length, 1))
        rows.append(row[first[document] + (position + offset[document]) % length[document]])
    return np.stack(rows)


def token_hits(found: NDArray[np.integer], wanted: NDArray[np.integer]) -> Hits:
    """Tokens whose step index [tokens] is the wanted one, of those that either side puts in a step."""
    inside = wanted != NO_STEP
    return Hits(int((inside & (found == wanted)).sum()), int((found != NO_STEP).sum()), int(inside.sum()))


def boundary_hits(found: NDArray[np.integer], wanted: NDArray[np.integer], tolerance: int = 1) -> Hits:
    """First and last tokens of steps that lie within `tolerance` tokens of a wanted one, each used once."""
    sums = [_near(a, b, tolerance) for a, b in zip(_bounds(found), _bounds(wanted), strict=True)]
    return Hits(*(sum(parts) for parts in zip(*sums, strict=True)))


def _bounds(steps: NDArray[np.integer]) -> tuple[list[int], list[int]]:
    """First and last tokens of the runs of equal step index."""
    padded = np.concatenate([[NO_STEP], steps, [NO_STEP]])
    turns = np.flatnonzero(padded[1:] != padded[:-1])
    starts = [int(turn) for turn in turns if padded[turn + 1] != NO_STEP]
    ends = [int(turn) - 1 for turn in turns if padded[turn] != NO_STEP]
    return starts, ends


def _near(found: Sequence[int], wanted: Sequence[int], tolerance: int) -> Hits:
    hits, at = 0, 0
    for place in found:
        while at < len(wanted) and wanted[at] < place - tolerance:
            at += 1
        if at < len(wanted) and wanted[at] <= place + tolerance:
            hits, at = hits + 1, at + 1
    return Hits(hits, len(found), len(wanted))
