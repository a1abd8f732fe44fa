"""Texts -> token ids and the characters each token stands on, for many documents at once.

Holds the Rust tokenizer alone (no transformers, no torch), so that a worker starts in a moment and stays small. Asking
it for offsets costs 40 % of its speed; for a byte-level vocabulary they follow from the length of each token in bytes,
which is checked against the text, byte for byte, and else the tokenizer is asked after all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
import tokenizers
from numpy.typing import NDArray

from raysae.corpora.words import Ids, Words, cuts_words

BATCH_CHARACTERS = 2**17
"""Characters handed to the tokenizer together, a longer document alone. It keeps a string per token until it is done,
so larger batches cost memory and, past the processor's cache, time."""

_PROBE = "a"
_SPACES = np.array([chr(code).isspace() for code in range(0x3001)])
"""Whether a code point is white space; none beyond these is."""


@dataclass(frozen=True, eq=False)
class EncodedTexts:
    """Documents in tokens, one after the other; characters are counted through the joined texts."""

    ids: NDArray[np.int32]
    """[tokens]"""
    starts: NDArray[np.int64]
    """[documents + 1]: document i is tokens starts[i] to starts[i + 1]."""
    begin: NDArray[np.int64]
    """[tokens]: the first character of a token that is no leading space; its first if there is none."""
    end: NDArray[np.int64]
    """[tokens]: one past its last character; equal to `begin` for a token that stands on no text (BOS, EOS)."""
    characters: NDArray[np.int64]
    """[documents + 1]: document i is characters characters[i] to characters[i + 1]."""


class Encoder:
    """A fast tokenizer: the special tokens it puts around a text are kept, and each text ends in EOS once."""

    def __init__(self, definition: str, eos: int | None) -> None:
        """`definition` is the content of a tokenizer.json; `eos` the id that ends a document, null for none."""
        self._core = tokenizers.Tokenizer.from_str(definition)
        self._core.no_padding()
        self._core.no_truncation()
        whole = self._core.encode(_PROBE).ids
        bare = self._core.encode(_PROBE, add_special_tokens=False).ids
        at = next(i for i in range(len(whole) + 1) if whole[i : i + len(bare)] == bare)
        self._before, self._after = whole[:at], whole[at + len(bare) :]
        self._eos = eos
        self._spelling = _byte_spelling(self._core)
        self._words = Words(self._core) if cuts_words(self._core) else None

    def encode(self, texts: Sequence[str]) -> EncodedTexts:
        """Ids and characters of every text, in order. Texts without half surrogates, which are no text."""
        parts = [self._encode_batch(texts[first:last]) for first, last in _batches(texts)]
        if len(parts) == 1:
            return parts[0]
        return _joined(parts)

    def decode(self, ids: Sequence[int]) -> str:
        """The text that the ids stand for, special tokens included."""
        return self._core.decode(list(ids), skip_special_tokens=False)

    def _encode_batch(self, texts: Sequence[str]) -> EncodedTexts:
        joined = "".join(texts)
        characters = np.cumsum([0, *map(len, texts)])
        found = self._by_bytes(texts, joined) or self._by_offsets(texts, characters)
        tokens, lengths, start, end = found
        begin = _after_leading_spaces(joined, start, end)
        return self._with_specials(tokens, lengths, begin, end, characters)

    def _by_bytes(self, texts: Sequence[str], joined: str) -> "_Tokens | None":
        """Offsets from the tokens' own bytes; None where they do not spell the texts."""
        if self._spelling is None:
            return None
        tokens, lengths = self._ids(texts, joined)
        data = np.frombuffer(joined.encode(), np.uint8)
        sizes = self._spelling.sizes[tokens]
        ends = np.cumsum(sizes)
        if (ends[-1] if len(ends) else 0) != len(data) or not self._spelling.spells(tokens, sizes, data):
            return None
        starts = ends - sizes
        if len(data) > len(joined):  # bytes -> characters; a token that holds part of a character stands on all of it
            character = np.cumsum((data & 0xC0) != 0x80) - 1
            starts, ends = character[starts], character[ends - 1] + 1
        return tokens, lengths, starts, ends

    def _ids(self, texts: Sequence[str], joined: str) -> Ids:
        """By words those texts that can be, the others by the tokenizer."""
        if self._words is None:
            return _flat_ids(self._core.encode_batch_fast(list(texts), add_special_tokens=False))
        plain = self._words.plain(texts, joined)
        of = [np.flatnonzero(plain).tolist(), np.flatnonzero(~plain).tolist()]
        others = self._core.encode_batch_fast([texts[i] for i in of[1]], add_special_tokens=False)
        found = [self._words.ids([texts[i] for i in of[0]]), _flat_ids(others)]
        lengths = np.empty(len(texts), np.int64)
        for documents, (_, counts) in zip(of, found, strict=True):
            lengths[documents] = counts
        starts = np.cumsum(lengths) - lengths
        ids = np.empty(lengths.sum(), np.int32)
        for documents, (tokens, counts) in zip(of, found, strict=True):
            shift = starts[documents] - (np.cumsum(counts) - counts)
            ids[np.repeat(shift, counts) + np.arange(len(tokens))] = tokens
        return ids, lengths

    def _by_offsets(self, texts: Sequence[str], characters: NDArray[np.int64]) -> "_Tokens":
        encodings = self._core.encode_batch(list(texts), add_special_tokens=False)
        tokens, lengths = _flat_ids(encodings)
        pairs = chain.from_iterable(chain.from_iterable(encoding.offsets for encoding in encodings))
        offsets = np.fromiter(pairs, np.int64, 2 * len(tokens)).reshape(-1, 2)
        offsets += np.repeat(characters[:-1], lengths)[:, None]
        starts, ends = np.maximum.accumulate(offsets, axis=0).T  # a normaliser may make a token of nothing
        return tokens, lengths, starts, np.maximum(starts, ends)

    def _with_specials(
        self,
        tokens: NDArray[np.int32],
        lengths: NDArray[np.int64],
        begin: NDArray[np.int64],
        end: NDArray[np.int64],
        characters: NDArray[np.int64],
    ) -> EncodedTexts:
        """BOS and the like before and after each document, and EOS where none ends it."""
        last = np.cumsum(lengths)
        ends = np.full(len(lengths), self._eos is not None)
        if self._after:
            ends &= self._after[-1] != self._eos
        elif len(tokens):
            ends &= (lengths == 0) | (tokens[np.maximum(last - 1, 0)] != self._eos)
        counts = len(self._before) + lengths + len(self._after) + ends
        starts = np.concatenate([[0], np.cumsum(counts)])
        ids = np.empty(starts[-1], np.int32)
        places = np.zeros((2, starts[-1]), np.int64)
        text = np.repeat(starts[:-1] + len(self._before) - (last - lengths), lengths) + np.arange(len(tokens))
        ids[text], places[0, text], places[1, text] = tokens, begin, end
        for offset, special in enumerate(self._before):
            ids[starts[:-1] + offset] = special
            places[:, starts[:-1] + offset] = characters[:-1]
        after = starts[:-1] + len(self._before) + lengths
        for offset, special in enumerate(self._after):
            ids[after + offset] = special
            places[:, after + offset] = characters[1:]
        if self._eos is not None:
            ids[starts[1:][ends] - 1] = self._eos
            places[:, starts[1:][ends] - 1] = characters[1:][ends]
        return EncodedTexts(ids, starts, places[0], places[1], characters)


_Tokens = tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""ids [tokens], tokens per document [documents], first character [tokens], one past the last [tokens]."""


@dataclass(frozen=True, eq=False)
class _Spelling:
    """The bytes of every token of a byte-level vocabulary."""

    sizes: NDArray[np.int64]
    """[vocabulary]"""
    offsets: NDArray[np.int64]
    """[vocabulary], into `data`"""
    data: NDArray[np.uint8]

    def spells(self, tokens: NDArray[np.int32], sizes: NDArray[np.int64], data: NDArray[np.uint8]) -> bool:
        """Whether the tokens' bytes, one after the other, are `data`."""
        shift = self.offsets[tokens] - (np.cumsum(sizes) - sizes)
        return bool((self.data[np.repeat(shift, sizes) + np.arange(len(data))] == data).all())


def _byte_spelling(core: tokenizers.Tokenizer) -> _Spelling | None:
    """The bytes of each token, None for a vocabulary that is not byte-level."""
    if not isinstance(core.decoder, tokenizers.decoders.ByteLevel):
        return None
    byte_of = {character: byte for byte, character in enumerate(_byte_characters())}
    added = {id: token.content.encode() for id, token in core.get_added_tokens_decoder().items()}
    vocabulary = core.get_vocab()
    spelled: list[bytes] = [b""] * (max(vocabulary.values(), default=-1) + 1)
    for token, id in vocabulary.items():
        if id in added:
            spelled[id] = added[id]
        elif all(character in byte_of for character in token):
            spelled[id] = bytes(byte_of[character] for character in token)
    sizes = np.array([len(token) for token in spelled], np.int64)
    return _Spelling(sizes, np.cumsum(sizes) - sizes, np.frombuffer(b"".join(spelled) or b"\0", np.uint8))


def _byte_characters() -> list[str]:
    """The character that stands for each byte 0 to 255 in a byte-level vocabulary (GPT-2): itself where it prints."""
    prints = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in prints else chr(next(others)) for byte in range(256)]


def _flat_ids(encodings: Sequence[tokenizers.Encoding]) -> Ids:
    lengths = np.fromiter(map(len, encodings), np.int64, len(encodings))
    flat = chain.from_iterable(encoding.ids for encoding in encodings)
    return np.fromiter(flat, np.int32, int(lengths.sum())), lengths


def _after_leading_spaces(text: str, start: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first character of each token that is no white space, or its first character."""
    if text.isascii():
        spaces = _SPACES[np.frombuffer(text.encode(), np.uint8)]
    else:
        spaces = _SPACES[np.minimum(np.frombuffer(text.encode("utf-32-le"), np.uint32), len(_SPACES) - 1)]
    size = len(spaces)
    spaces = np.append(spaces, False)
    visible = np.where(spaces, size, np.arange(size + 1))
    leads = np.flatnonzero(spaces[start])
    first = np.minimum.accumulate(visible[::-1])[::-1][start[leads]]
    begin = start.copy()
    begin[leads] = np.where(first < end[leads], first, start[leads])
    return begin


def _batches(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Ranges of documents of at most BATCH_CHARACTERS together."""
    cuts, size = [0], 0
    for i, text in enumerate(texts):
        if size and size + len(text) > BATCH_CHARACTERS:
            cuts.append(i)
            size = 0
        size += len(text)
    yield from pairwise([*cuts, len(texts)])


def _joined(parts: Sequence[EncodedTexts]) -> EncodedTexts:
    tokens = np.cumsum([0, *(len(part.ids) for part in parts)])
    shifts = np.cumsum([0, *(part.characters[-1] for part in parts)])
    return EncodedTexts(
        ids=np.concatenate([part.ids for part in parts]),
        starts=np.concatenate([[0], *(part.starts[1:] + at for part, at in zip(parts, tokens, strict=False))]),
        begin=np.concatenate([part.begin + at for part, at in zip(parts, shifts, strict=False)]),
        end=np.concatenate([part.end + at for part, at in zip(parts, shifts, strict=False)]),
        characters=np.concatenate([[0], *(part.characters[1:] + at for part, at in zip(parts, shifts, strict=False))]),
    )
