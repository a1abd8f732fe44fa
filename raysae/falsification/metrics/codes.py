"""Latents as a sparse matrix, and how two sets of them fire together: cost grows with firings, not tokens x latents."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, cast

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse
from torch import Tensor

Code = sparse.csr_array
"""Tokens x alive latents, float64."""

LATENTS_AT_ONCE = 512


class Sums(NamedTuple):
    """Over the tokens, per latent."""

    total: Float[np.ndarray, " m"]
    squares: Float[np.ndarray, " m"]
    fired: Float[np.ndarray, " m"]
    """Tokens on which it is not 0."""


def sparse_code(chunks: Iterable[Float[Tensor, "_ m"]], alive: Bool[Tensor, " m"]) -> Code:
    """The alive columns of latents that come in chunks of tokens."""
    parts = [Code(chunk[:, alive].double().cpu().numpy()) for chunk in chunks]
    return Code(sparse.vstack(parts, format="csr"))


def size(code: Code) -> tuple[int, int]:
    """Tokens and alive latents."""
    return cast(tuple[int, int], code.shape)


def sums(code: Code) -> Sums:
    return Sums(
        np.asarray(code.sum(axis=0)), np.asarray(code.multiply(code).sum(axis=0)), np.asarray(_firing(code).sum(axis=0))
    )


def together(
    a: Code, b: Code, at_once: int = LATENTS_AT_ONCE
) -> Iterator[tuple[slice, Float[np.ndarray, "k b"], Float[np.ndarray, "k b"]]]:
    """For a slice of the latents of `a` at a time, against all of `b`: sum over tokens of the product, and the number
    of tokens on which both fire."""
    rows, fires_a, fires_b = a.T.tocsr(), _firing(a).T.tocsr(), _firing(b)
    for start in range(0, size(a)[1], at_once):
        part = slice(start, min(start + at_once, size(a)[1]))
        yield part, (rows[part] @ b).toarray(), (fires_a[part] @ fires_b).toarray()


def correlation_where_either_fires(a: Code, b: Code) -> Float[np.ndarray, "a b"]:
    """Pearson correlation of every latent of `a` with every one of `b` over the tokens on which at least one of the two
    fires; over all tokens shared zeros would inflate it (SCIENCE 6.2). 0 where it is undefined."""
    of_a, of_b = sums(a), sums(b)
    found = np.empty((size(a)[1], size(b)[1]))
    for part, products, both in together(a, b):
        left = Sums(*(column[part, None] for column in of_a))
        found[part] = pearson(products, left, of_b, left.fired + of_b.fired - both)
    return found


def correlation_of_columns(a: Code, b: Code) -> Float[np.ndarray, " m"]:
    """The same for latent i of `a` with latent i of `b` alone."""
    both = np.asarray(_firing(a).multiply(_firing(b)).sum(axis=0))
    of_a, of_b = sums(a), sums(b)
    return pearson(np.asarray(a.multiply(b).sum(axis=0)), of_a, of_b, of_a.fired + of_b.fired - both)


def pearson(products: np.ndarray, a: Sums, b: Sums, n: np.ndarray | int) -> np.ndarray:
    """Correlation from sums over n tokens that hold every token on which either fires; all shapes broadcast."""
    n = np.maximum(n, 1)
    spread = np.maximum(a.squares - a.total**2 / n, 0) * np.maximum(b.squares - b.total**2 / n, 0)
    defined = spread > 1e-12 * a.squares * b.squares
    return np.where(defined, (products - a.total * b.total / n) / np.sqrt(np.where(defined, spread, 1)), 0.0)


def pooled(code: Code, group: Int[np.ndarray, " n"], groups: int) -> Code:
    """The largest activation of each latent over the rows of a group, [groups, m]; rows of group -1 are left out."""
    entries = code.tocoo()
    row = group[entries.row]
    kept = (row >= 0) & (entries.data != 0)
    row, column, value = row[kept], entries.col[kept], entries.data[kept]
    order = np.lexsort((column, row))
    row, column, value = row[order], column[order], value[order]
    first = np.flatnonzero(np.append(True, (np.diff(row) != 0) | (np.diff(column) != 0))[: len(row)])
    largest = np.maximum.reduceat(value, first) if len(first) else value
    return Code((largest, (row[first], column[first])), shape=(groups, size(code)[1]))


def _firing(code: Code) -> Code:
    return Code((np.ones(code.nnz), code.indices, code.indptr), shape=code.shape)
