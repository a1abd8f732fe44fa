"""Hits out of chances, per document and column: what accuracy, F1, a plain rate and joint success have in common.

The score of a tally is the mean over columns of hits / chances, each summed over documents, so that a bootstrap over
documents is two matrix products.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from raysae.falsification.intervals import Estimate
from raysae.falsification.resampling import Weights, hierarchical


class Tally(NamedTuple):
    """Of one probe or detector on one split."""

    hits: Float[np.ndarray, "d c"]
    of: Float[np.ndarray, "d c"]


Key = tuple[str, str]
"""(what was measured, split)"""


def accuracy(
    truth: Int[np.ndarray, " n"],
    predicted: Int[np.ndarray, " n"],
    document: Int[np.ndarray, " n"],
    documents: int,
    classes: int,
) -> Tally:
    """Balanced accuracy: a column per class, chances are its tokens. Tokens with truth -1 have no label."""
    truth, predicted, document = _labelled(truth, predicted, document)
    right = truth == predicted
    hits = _counts(truth[right], document[right], documents, classes)
    return Tally(hits, _counts(truth, document, documents, classes))


def uninformed(
    truth: Int[np.ndarray, " n"],
    predicted: Int[np.ndarray, " n"],
    document: Int[np.ndarray, " n"],
    documents: int,
    classes: int,
) -> Tally:
    """What `accuracy` of the same predictions comes to where they know nothing of the truth: of each class that occurs,
    the share of all tokens for which it is said."""
    truth, predicted, document = _labelled(truth, predicted, document)
    said = _counts(predicted, document, documents, classes)
    occurs = np.bincount(truth, minlength=classes) > 0
    return Tally(said * occurs, said.sum(axis=1, keepdims=True) * occurs)


def _labelled(
    truth: Int[np.ndarray, " n"], predicted: Int[np.ndarray, " n"], document: Int[np.ndarray, " n"]
) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"], Int[np.ndarray, " k"]]:
    known = truth >= 0
    return truth[known], predicted[known], document[known]


def _counts(
    kind: Int[np.ndarray, " n"], document: Int[np.ndarray, " n"], documents: int, classes: int
) -> Float[np.ndarray, "d c"]:
    """Tokens of each class in each document."""
    found = np.bincount(document * classes + kind, minlength=documents * classes)
    return found.reshape(documents, classes).astype(np.float64)


def rate(hit: Bool[np.ndarray, " n"], document: Int[np.ndarray, " n"], documents: int) -> Tally:
    """Share of tokens: one column."""
    return accuracy(np.zeros(len(hit), dtype=np.int64), np.where(hit, 0, 1), document, documents, 1)


def f1(
    fires: Bool[np.ndarray, "n F"], factors: Bool[np.ndarray, "n F"], document: Int[np.ndarray, " n"], documents: int
) -> Tally:
    """Mean F1: a column per factor, twice the hits out of firings and occurrences together."""
    fired, on, both = (per_document(values, document, documents) for values in (fires, factors, fires & factors))
    return Tally(2 * both, fired + on)


def per_document(
    values: Bool[np.ndarray, "n c"], document: Int[np.ndarray, " n"], documents: int
) -> Float[np.ndarray, "d c"]:
    """How often each column is true in each document."""
    rows, columns = np.nonzero(values)
    width = values.shape[1]
    counts = np.bincount(document[rows] * width + columns, minlength=documents * width)
    return counts.reshape(documents, width).astype(np.float64)


def score(tally: Tally) -> float:
    """Mean over columns; a column without a chance is left out, and NaN if all are."""
    return float(scores(tally, np.ones((1, len(tally.of))))[0])


def scores(tally: Tally, weights: Float[np.ndarray, "b d"]) -> Float[np.ndarray, " b"]:
    """`score` of every resample."""
    of = weights @ tally.of
    counted = of > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(counted, (weights @ tally.hits) / of, 0).sum(axis=1) / counted.sum(axis=1)


def contrast(
    seeds: Sequence[Mapping[Key, Tally]],
    signs: Mapping[Key, float],
    *,
    bootstrap: int,
    seed: int,
    alpha: float = 0.05,
) -> Estimate:
    """Signed sum of scores, paired: within a seed, and on the documents of a split that its tallies share."""

    def statistic(weights: Weights) -> Float[np.ndarray, "s b"]:
        return np.stack([sum(sign * scores(one[key], weights[key[1]]) for key, sign in signs.items()) for one in seeds])

    return hierarchical(statistic, count_documents(seeds, signs), bootstrap=bootstrap, seed=seed, alpha=alpha)


def count_documents(seeds: Sequence[Mapping[Key, Tally]], keys: Mapping[Key, float]) -> dict[str, int]:
    """Documents of each split. ValueError unless all its tallies have the same ones, or if a key is missing."""
    found: dict[str, int] = {}
    for one in seeds:
        for arm, split in keys:
            if (arm, split) not in one:
                raise ValueError(f"{arm} was not measured on {split} in every seed; allowed: all of {list(keys)}")
            count = len(one[arm, split].of)
            if found.setdefault(split, count) != count:
                raise ValueError(f"{arm} has {count} documents of {split}, others {found[split]}; allowed: the same")
    return found
