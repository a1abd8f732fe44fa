"""A document in other tokens: words exchanged, words put in, cues taken out, the whole moved along (SCIENCE 5.7, 7).

Arrays in, arrays out; which tokens are words, cues or fillers is for the caller to know.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int


class Rewritten(NamedTuple):
    tokens: Int[np.ndarray, " m"]
    at: Int[np.ndarray, " n"]
    """Where each token of the original now stands, -1 where it does no longer."""


def exchange(tokens: Int[np.ndarray, " n"], words: Mapping[int, int]) -> Rewritten:
    """Token by token, what is not in `words` as it was."""
    return Rewritten(np.array([words.get(token, token) for token in tokens.tolist()]), np.arange(len(tokens)))


def insert(
    tokens: Int[np.ndarray, " n"],
    places: Int[np.ndarray, " p"],
    words: Int[np.ndarray, " w"],
    count: int,
    limit: int,
    rng: np.random.Generator,
) -> Rewritten:
    """`count` of `words`, each before the token at another of `places`, or at all places if they are fewer."""
    taken = np.sort(rng.choice(places, min(count, len(places)), replace=False))
    here = np.arange(len(tokens))
    at = here + np.searchsorted(taken, here, side="right")
    return _within(np.insert(tokens, taken, rng.choice(words, len(taken))), at, limit)


def remove(tokens: Int[np.ndarray, " n"], gone: Bool[np.ndarray, " n"]) -> Rewritten:
    """What is not `gone`."""
    return Rewritten(tokens[~gone], np.where(gone, -1, np.cumsum(~gone) - 1))


def shift(tokens: Int[np.ndarray, " n"], filler: Int[np.ndarray, " f"], head: int, limit: int) -> Rewritten:
    """`filler` after the first `head` tokens, in front of all others."""
    here = np.arange(len(tokens))
    moved = np.concatenate([tokens[:head], filler, tokens[head:]])
    return _within(moved, np.where(here < head, here, here + len(filler)), limit)


def removable(
    cues: Bool[np.ndarray, " n"], factors: Bool[np.ndarray, "n F"], document: Int[np.ndarray, " n"]
) -> Bool[np.ndarray, " n"]:
    """The cues without which every document, and every run of neighbours that carry a factor, still has a token."""
    first = np.diff(document, prepend=-1) != 0
    gone = cues.copy()
    for on in (np.ones(len(cues), dtype=bool), *factors.T):
        begins = on & (first | ~np.append(False, on[:-1]))
        run = np.cumsum(begins)
        left = np.bincount(run[on & ~cues], minlength=run[-1] + 1)
        gone &= ~(on & (left[run] == 0))
    return gone


def _within(tokens: Int[np.ndarray, " m"], at: Int[np.ndarray, " n"], limit: int) -> Rewritten:
    """The first `limit` tokens: what was pushed beyond them is no longer there."""
    return Rewritten(tokens[:limit], np.where(at < limit, at, -1))
