"""Which problems are nearly the same text: MinHash signatures, banded, in memory of about a hundred bytes per problem.

A signature is 128 minima over the runs of three words of a problem; the share in which two agree estimates the Jaccard
index of their runs (standard error 0.035 at 0.8). Signatures (512 bytes each) stay in files; one band of all of them at
a time is in memory. Broder 1997; Leskovec, Rajaraman & Ullman, Mining of Massive Datasets, 3.4.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import scipy.sparse
from datasketch import MinHash
from numpy.typing import NDArray

PERMUTATIONS = 128
RUN_WORDS = 3
RECALL = 0.999
"""Chance that two problems exactly at the threshold meet in some band, at least."""

_CHUNK = 65_536
"""Signatures compared together."""

Signature = NDArray[np.uint32]


@lru_cache(maxsize=32_768)  # rephrasings of one problem come again and again
def signature(problem: str) -> Signature:
    """uint32 [128] of a normalised text."""
    words = problem.split()
    runs = [words[i : i + RUN_WORDS] for i in range(max(1, len(words) - RUN_WORDS + 1))]
    found = MinHash(num_perm=PERMUTATIONS, seed=1)
    found.update_batch([" ".join(run).encode() for run in runs])
    return np.asarray(found.hashvalues, np.uint32)


def bands(threshold: float) -> tuple[int, int]:
    """(bands, rows of a band): the longest rows at which two problems at the threshold still meet with RECALL."""
    for rows in range(PERMUTATIONS, 0, -1):
        count = PERMUTATIONS // rows
        if 1 - (1 - threshold**rows) ** count >= RECALL:
            return count, rows
    return PERMUTATIONS, 1


def join(signatures: NDArray[np.uint32], threshold: float) -> NDArray[np.int64]:
    """The smallest index that each problem is joined with, itself if none. int64 [problems].

    `signatures` [problems, 128] may be a memory map. Two problems are joined when they meet in a band and agree in at
    least `threshold` of their minima; joining is transitive. Inside a band everyone is compared with the first of those
    left, then those that differ among each other, so the cost is linear in the problems unless they meet by chance.
    """
    group = np.arange(len(signatures))
    count, rows = bands(threshold)
    for band in range(count):
        edges = [np.stack(edge) for edge in _meetings(signatures, band * rows, rows, threshold, group)]
        if not edges:
            continue
        left, right = np.concatenate(edges, axis=1)
        left, right = np.concatenate([left, np.arange(len(group))]), np.concatenate([right, group])
        graph = scipy.sparse.coo_matrix((np.ones(len(left), bool), (left, right)), shape=(len(group),) * 2)
        _, component = scipy.sparse.csgraph.connected_components(graph, directed=False)
        smallest = np.full(component.max(initial=0) + 1, len(group))
        np.minimum.at(smallest, component, np.arange(len(group)))
        group = smallest[component]
    return group


def _meetings(
    signatures: NDArray[np.uint32], start: int, rows: int, threshold: float, group: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs that agree in one band and in enough of their minima."""
    values = np.empty(len(signatures), np.uint64)
    factors = np.random.default_rng(0).integers(1, 2**63, rows, np.uint64) | np.uint64(1)
    for first in range(0, len(values), _CHUNK):
        part = np.asarray(signatures[first : first + _CHUNK, start : start + rows], np.uint64)
        values[first : first + _CHUNK] = (part * factors).sum(axis=1, dtype=np.uint64)
    order = np.argsort(values, kind="stable")
    values = values[order]
    while len(order) > 1:
        opens = np.append(True, values[1:] != values[:-1])
        leader = order[np.flatnonzero(opens)[np.cumsum(opens) - 1]]
        alike = (group[order] == group[leader]) & ~opens
        left = np.flatnonzero(~opens & ~alike)
        for first in range(0, len(left), _CHUNK):
            at = left[first : first + _CHUNK]
            agree = (signatures[order[at]] == signatures[leader[at]]).mean(axis=1) >= threshold
            alike[at] = agree
            yield leader[at[agree]], order[at[agree]]
        keep = ~opens & ~alike
        order, values = order[keep], values[keep]
