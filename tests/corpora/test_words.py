"""Texts by their words: the cuts are the tokenizer's, on every short text there is, and what cannot be cut is not."""

from itertools import product

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers

from raysae.corpora import words
from raysae.corpora.words import Words, cuts_words

from .test_encoding import check_like_transformers, tokenizer

CLASSES = "as'1 \n!"
"""A letter, one that an apostrophe takes along, the apostrophe, a digit, a space, another white space, a mark."""
PRINTABLE = [chr(code) for code in [9, 10, 13, *range(32, 127)]]

PIECES = [*PRINTABLE, " ", "clips", "<end>", "\u00e9", "\x1c"]


def native_cuts(text: str) -> list[str]:
    cut = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return [text[start:end] for _, (start, end) in cut.pre_tokenize_str(text)]


def test_every_short_text_is_cut_as_the_tokenizer_cuts_it() -> None:
    short = ["".join(text) for length in range(1, 6) for text in product(CLASSES, repeat=length)]
    pairs = [a + b for a, b in product(PRINTABLE, repeat=2)]
    contractions = [f"x'{a}{b} " for a, b in product(PRINTABLE, repeat=2)]
    for text in short + pairs + contractions:
        assert words._WORD.findall(text) == native_cuts(text)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=30).map("".join), min_size=1, max_size=5))
def test_texts_of_words_are_encoded_like_transformers(texts: list[str]) -> None:
    check_like_transformers("bytes, NFC", texts)


def test_control_characters_foreign_letters_and_special_tokens_are_not_plain() -> None:
    texts = ["a b\r\n\t~", "caf\u00e9", "a\x1cb", "a\x0bb", "a<end>", ""]
    found = Words(tokenizer("bytes").backend_tokenizer).plain(texts, "".join(texts))
    assert found.tolist() == [True, False, False, False, False, True]


def test_words_that_were_forgotten_are_learnt_again(monkeypatch: pytest.MonkeyPatch) -> None:
    core = tokenizer("bytes").backend_tokenizer
    table = Words(core)
    texts = ["She sold clips.", "", "24 = 48/2"]
    for limit in (2**20, 8):
        monkeypatch.setattr(words, "REMEMBERED_CHARACTERS", limit)
        for _ in range(3):
            ids, lengths = table.ids(texts)
            expected = [core.encode(text, add_special_tokens=False).ids for text in texts]
            assert [part.tolist() for part in np.split(ids, np.cumsum(lengths)[:-1])] == expected


def test_only_tokenizers_that_cut_by_this_pattern_are_taken() -> None:
    def changed(**parts: object) -> tokenizers.Tokenizer:
        core = tokenizers.Tokenizer(parts.get("model", models.BPE()))  # type: ignore[arg-type]  # a model
        core.pre_tokenizer = parts.get("cut", pre_tokenizers.ByteLevel(add_prefix_space=False))
        if "normalizer" in parts:
            core.normalizer = parts["normalizer"]
        return core

    assert cuts_words(changed())
    assert cuts_words(changed(normalizer=normalizers.NFC()))
    for parts in (
        {"cut": pre_tokenizers.ByteLevel(add_prefix_space=True)},
        {"cut": pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)},
        {"cut": pre_tokenizers.Whitespace()},
        {"cut": None},
        {"normalizer": normalizers.Lowercase()},
        {"model": models.BPE(dropout=0.1)},
        {"model": models.WordLevel(unk_token="?")},
    ):
        assert not cuts_words(changed(**parts)), parts
