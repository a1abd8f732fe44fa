"""N11: what the text says without any model. Bag of tokens, position and length, for the same probe (SCIENCE 5.3)."""

import numpy as np
from jaxtyping import Int
from scipy.sparse import csr_array

WINDOW = 8
"""Preceding tokens in the bag: like the model, the surface model has not read what follows."""

_EXACT = 32
_BUCKETS = 2 * _EXACT + 1
"""Positions below 32 have a bucket each, then four per doubling."""


def features(
    token_id: Int[np.ndarray, " n"], document: Int[np.ndarray, " n"], vocabulary: int, window: int = WINDOW
) -> csr_array:
    """float32 csr [n, 2 x vocabulary + 130]: the token, the counts of those in the window before it, position and
    length of its document. The rows of a document stand together and in order."""
    n = len(token_id)
    starts = np.flatnonzero(np.append(True, document[1:] != document[:-1])) if n else np.empty(0, np.int64)
    lengths = np.diff(np.append(starts, n))
    position = np.arange(n) - np.repeat(starts, lengths)
    rows, columns = [np.arange(n)], [np.asarray(token_id, np.int64)]
    for back in range(1, window + 1):
        reached = np.flatnonzero(position >= back)
        rows.append(reached)
        columns.append(vocabulary + np.asarray(token_id, np.int64)[reached - back])
    for block, value in enumerate((position, np.repeat(lengths, lengths))):
        rows.append(np.arange(n))
        columns.append(2 * vocabulary + block * _BUCKETS + bucket(value))
    at = np.concatenate(rows), np.concatenate(columns)
    return csr_array((np.ones(len(at[0]), np.float32), at), shape=(n, 2 * vocabulary + 2 * _BUCKETS))


def bucket(value: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """The same on every split."""
    doubling = np.floor(4 * np.log2(np.maximum(value, _EXACT) / _EXACT)).astype(np.int64)
    return np.where(value < _EXACT, value, np.minimum(_EXACT + doubling, _BUCKETS - 1))
