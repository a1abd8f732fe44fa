"""Tokens as words: where one begins, which token is one."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Int

SPACE = ("Ġ", "▁", "Ċ")
"""How vocabularies write white space in front of a token."""


class Words:
    """The words in the tokens of some documents; every attribute is bool [n]."""

    def __init__(self, tokenizer: Any, token_id: Int[np.ndarray, " n"], document: Int[np.ndarray, " n"]) -> None:
        self._tokenizer = tokenizer
        ids, at = np.unique(token_id, return_inverse=True)
        pieces: list[str] = tokenizer.convert_ids_to_tokens(ids.tolist())
        bodies = [piece.lstrip("".join(SPACE)) for piece in pieces]
        spaced = np.array([piece.startswith(SPACE) for piece in pieces])
        self._marked = bool(spaced.any())
        """Without marks of white space every token is a word."""
        self.first = np.diff(document, prepend=-1) != 0
        """Of its document."""
        self.begins = spaced[at] | (not self._marked)
        """White space stands before it."""
        self.letter = np.array([body[:1].isalpha() for body in bodies])[at]
        """It begins with a letter."""
        opens, ends = (np.array([body[part].isalnum() for body in bodies])[at] for part in (slice(1), slice(-1, None)))
        goes_on = ~self.begins & ~self.first & opens & np.append(False, ends[:-1])
        self.whole = ~goes_on & ~np.append(goes_on[1:], False)
        """No letter or digit joins it to a neighbour."""

    def apart(self, ids: list[int]) -> list[int]:
        """Those that begin a word wherever they are put."""
        pieces: list[str] = self._tokenizer.convert_ids_to_tokens(ids)
        return [token for token, piece in zip(ids, pieces, strict=True) if not self._marked or piece.startswith(SPACE)]


def tokens_of(tokenizer: Any, texts: Iterable[str]) -> list[int]:
    """The tokens that are one of these texts, in order; a text that takes several, or is unknown, has none."""
    found = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    return sorted({ids[0] for ids in found if len(ids) == 1 and ids[0] != tokenizer.unk_token_id})
