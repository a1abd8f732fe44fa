"""The text of a world is words joined by single spaces: where each word stands, and a tokenizer with a token for each,
which splits at white space."""

import json
from collections.abc import Sequence


def word_spans(words: Sequence[str], start: int) -> list[tuple[int, int]]:
    """Characters [start, end) of each word of a sentence that begins at `start`."""
    spans: list[tuple[int, int]] = []
    for word in words:
        spans.append((start, start + len(word)))
        start += len(word) + 1
    return spans


def word_tokenizer(words: Sequence[str], specials: int) -> str:
    """A `tokenizers` JSON whose token ids are the places of `words`, the first `specials` of them special; `<unk>` must
    be among those."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tree = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": word, **flags} for i, word in enumerate(words[:specials])],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {word: i for i, word in enumerate(words)}, "unk_token": "<unk>"},
    }
    return json.dumps(tree, ensure_ascii=False)
