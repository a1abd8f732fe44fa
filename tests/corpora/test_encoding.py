"""Texts to ids: what the tokenizer of transformers gives, the same characters, and the way back to the text."""

from functools import cache

import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from raysae.corpora import encoding
from raysae.corpora.encoding import Encoder

TEXTS = ["She sold 48/2 = 24 clips.\n\n  Then none.", "naïve £5 × 3 – \U0001f600\u2028次", "<end>", "a"]
KINDS = ("bytes", "bytes with BOS", "bytes, NFC", "pieces", "words")


@cache
def tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """A small one of every kind that models have: byte-level, with a template, with a normaliser, Metaspace, words."""
    core = tokenizers.Tokenizer(
        models.BPE(byte_fallback=kind == "pieces", unk_token="<unk>" if kind == "pieces" else None)
    )
    special = ["<end>", "<begin>", "<unk>"]
    alphabet: list[str] = []
    if kind.startswith("bytes"):
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    elif kind == "pieces":
        core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
        core.decoder = decoders.Sequence(
            [decoders.Metaspace(prepend_scheme="never"), decoders.ByteFallback(), decoders.Fuse()]
        )
        special += [f"<0x{byte:02X}>" for byte in range(256)]
    else:
        core.model = models.WordLevel(unk_token="<unk>")
        core.pre_tokenizer = pre_tokenizers.Whitespace()
    if kind == "bytes, NFC":
        core.normalizer = normalizers.NFC()
    if kind == "words":
        trainer = trainers.WordLevelTrainer(special_tokens=special, show_progress=False)
    else:
        trainer = trainers.BpeTrainer(
            vocab_size=700, initial_alphabet=alphabet, special_tokens=special, show_progress=False
        )
    core.train_from_iterator(TEXTS[:1] * 4, trainer)
    if kind == "bytes with BOS":
        core.post_processor = processors.TemplateProcessing(
            single="<begin> $A <end>", special_tokens=[("<begin>", 1), ("<end>", 0)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>")


@cache
def encoder(kind: str) -> Encoder:
    return Encoder(tokenizer(kind).backend_tokenizer.to_str(), 0)


def check_like_transformers(kind: str, texts: list[str]) -> None:
    """Ids, EOS added where none ends the text, and the characters of each token with its leading spaces set aside."""
    found = encoder(kind).encode(texts)
    known = tokenizer(kind)(texts, return_offsets_mapping=True) if texts else {"input_ids": [], "offset_mapping": []}
    for i, (text, ids, offsets) in enumerate(zip(texts, known["input_ids"], known["offset_mapping"], strict=True)):
        mine = slice(found.starts[i], found.starts[i + 1])
        assert found.ids[mine].tolist() == (ids if ids[-1:] == [0] else [*ids, 0])
        base = found.characters[i]
        begin, end = found.begin[mine] - base, found.end[mine] - base
        assert ((begin >= 0) & (begin <= end) & (end <= len(text))).all()
        for token, (start, stop) in enumerate(offsets):
            if start == stop:
                assert begin[token] == end[token]
                continue
            while text[start:stop].strip() and text[start].isspace():
                start += 1
            assert (begin[token], end[token]) == (start, stop)
    assert (found.begin[1:] >= found.begin[:-1]).all()
    assert (found.end[1:] >= found.end[:-1]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_ids_and_characters_are_those_of_transformers(kind: str) -> None:
    check_like_transformers(kind, TEXTS)
    check_like_transformers(kind, [])
    for text in TEXTS:
        check_like_transformers(kind, [text])


@settings(max_examples=150, deadline=None)
@given(texts=st.lists(st.text(max_size=20), min_size=1, max_size=4))
@example(texts=["e\u0301", "\u3000 a", "<end>b", "<begin>", " "])
@pytest.mark.parametrize("kind", ["bytes", "bytes with BOS"])
def test_any_unicode_is_encoded_like_transformers(kind: str, texts: list[str]) -> None:
    check_like_transformers(kind, texts)


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(st.text(max_size=40), min_size=1, max_size=5))
def test_decoding_gives_every_text_back(texts: list[str]) -> None:
    found = encoder("bytes").encode(texts)
    for text, first, last in zip(texts, found.starts, found.starts[1:], strict=False):
        ids = found.ids[first:last].tolist()
        assert encoder("bytes").decode(ids if text.endswith("<end>") else ids[:-1]) == text


def test_a_batch_cut_in_pieces_is_the_same_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encoder("bytes with BOS").encode(TEXTS)
    monkeypatch.setattr(encoding, "BATCH_CHARACTERS", 20)
    pieces = encoder("bytes with BOS").encode(TEXTS)
    for name in ("ids", "starts", "begin", "end", "characters"):
        assert getattr(pieces, name).tolist() == getattr(whole, name).tolist()


def test_a_record_of_a_megabyte_is_one_document() -> None:
    text = "She sold 24 clips. " * 55_000
    found = encoder("bytes").encode([text, "a"])
    assert len(found.starts) == 3
    assert encoder("bytes").decode(found.ids[: found.starts[1] - 1].tolist()) == text
