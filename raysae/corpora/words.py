"""Ids of plain ASCII texts by their words, most of which have been seen before.

A byte-level tokenizer cuts a text into words by a pattern (GPT-2's) and then looks at each word alone, so that a word
has the same ids wherever it stands. Looking them up takes a third of the time that the tokenizer takes, which builds
several objects for every token. Beyond ASCII the pattern depends on a version of Unicode: such texts are left to it.
"""

import re
from collections.abc import Sequence
from itertools import chain, islice

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import models, normalizers, pre_tokenizers

REMEMBERED_CHARACTERS = 2**20
"""Of all remembered words together, some 200,000; when there are more, all are forgotten."""

_WORD = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+", re.ASCII)
_PLAIN = re.compile(r"[\t\n\r -~]*")
"""What counts as white space among the other control characters differs by library."""

Ids = tuple[NDArray[np.int32], NDArray[np.int64]]
"""ids [tokens], tokens per document [documents]."""


class Words:
    """The words of a tokenizer that `cuts_words`, with their ids once they were met."""

    def __init__(self, core: tokenizers.Tokenizer) -> None:
        self._core = core
        self._added = [token.content for token in core.get_added_tokens_decoder().values()]
        self._forget()

    def plain(self, texts: Sequence[str], joined: str) -> NDArray[np.bool_]:
        """[documents]: whether the ids of a text are those of its words. `joined` is all of them in a row."""
        special = [token for token in self._added if token in joined]
        found = (_PLAIN.fullmatch(text) and not any(token in text for token in special) for text in texts)
        return np.fromiter(map(bool, found), np.bool_, len(texts))

    def ids(self, texts: Sequence[str]) -> Ids:
        """Without the special tokens around a text; all texts are `plain`."""
        words = [_WORD.findall(text) for text in texts]
        last = np.cumsum([0, *map(len, words)])
        numbers = np.fromiter(map(self._numbers.__getitem__, chain.from_iterable(words)), np.int64, int(last[-1]))
        self._learn()
        sizes = self._sizes[numbers]
        ends = np.concatenate([[0], np.cumsum(sizes)])
        at = np.repeat(self._starts[numbers] - ends[:-1], sizes) + np.arange(ends[-1])
        found = self._ids[at], np.diff(ends[last])
        if self._characters > REMEMBERED_CHARACTERS:
            self._forget()
        return found

    def _learn(self) -> None:
        """Ask the tokenizer for the words that were numbered last."""
        new = list(islice(self._numbers, len(self._sizes), None))
        if not new:
            return
        found = [encoding.ids for encoding in self._core.encode_batch_fast(new, add_special_tokens=False)]
        self._characters += sum(map(len, new))
        self._sizes = np.concatenate([self._sizes, np.fromiter(map(len, found), np.int64, len(found))])
        self._starts = np.cumsum(self._sizes) - self._sizes
        self._ids = np.concatenate([self._ids, np.array([*chain.from_iterable(found)], np.int32)])

    def _forget(self) -> None:
        self._numbers, self._characters = _Numbers(), 0
        self._ids = np.empty(0, np.int32)
        self._sizes = self._starts = np.empty(0, np.int64)


class _Numbers(dict[str, int]):
    """A word that is not there gets the next number."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


def cuts_words(core: tokenizers.Tokenizer) -> bool:
    """Whether a tokenizer cuts plain ASCII texts by GPT-2's pattern and by nothing else."""
    cut = core.pre_tokenizer
    return (
        isinstance(core.model, models.BPE)
        and not core.model.dropout
        and (core.normalizer is None or isinstance(core.normalizer, normalizers.NFC))
        and isinstance(cut, pre_tokenizers.ByteLevel)
        and cut.use_regex
        and not cut.add_prefix_space
    )
