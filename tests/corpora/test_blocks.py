"""Records to rows of tokens: spans against a naive walk, cut documents, windows, EOS."""

from functools import cache

import numpy as np
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from raysae.corpora import Source
from raysae.corpora.blocks import Overflow, TokenRows, tokenize_table
from raysae.corpora.encoding import Encoder
from raysae.corpora.gsm8k import parse_row
from raysae.types import CorpusRecord, LabelSpan
from tests.corpora.tables import records_table

CLIPS = {
    "question": "How many clips? \U0001f600",
    "answer": "She sold 48/2 = <<48/2=24>>24 clips.\nThen none.\n#### 24",
}


@cache
def byte_level(eos: bool = True) -> PreTrainedTokenizerFast:
    """A byte-level BPE with a few merges, as GPT-2's."""
    core = tokenizers.Tokenizer(tokenizers.models.BPE())
    core.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=alphabet, special_tokens=["<end>"], show_progress=False
    )
    core.train_from_iterator(["She sold 48/2 = 24 clips. Then none. How many clips? #### 24"] * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, **({"eos_token": "<end>"} if eos else {}))


def clips(number: int = 1) -> CorpusRecord:
    found = parse_row(CLIPS, Source("gsm8k", None, "rows.jsonl", "main"), number)
    assert isinstance(found, CorpusRecord)
    return found


def plain(text: str) -> CorpusRecord:
    return CorpusRecord(
        record_id="p", question="", answer="", cot=None, steps=(), source_dataset="s", split=None, licence="", text=text
    )


VALUES = {"role": ["equals", "operand", "result"], "operation": ["add", "div"], "step_type": ["FORMAT", "PARSE"]}


@cache
def encoder(eos: bool = True) -> Encoder:
    tokenizer = byte_level(eos)
    return Encoder(tokenizer.backend_tokenizer.to_str(), tokenizer.eos_token_id)  # pyright: ignore[reportArgumentType]


def rows(*records: CorpusRecord, ctx_len: int = 1000, eos: bool = True, overflow: Overflow = "truncate") -> TokenRows:
    return tokenize_table(encoder(eos), records_table(records), ctx_len, overflow, VALUES)[0]


def ids(found: TokenRows, row: int = 0) -> list[int]:
    return found.columns["input_ids"][found.starts[row] : found.starts[row + 1]].tolist()


def on(found: TokenRows, variable: str, value: str) -> str:
    """The text under the tokens that bear a value."""
    return encoder().decode(found.columns["input_ids"][found.columns[variable] == VALUES[variable].index(value)])


def test_the_tokens_of_a_step_spell_the_step() -> None:
    record = clips()
    found = rows(record)
    for index, step in enumerate(record.steps):
        assert encoder().decode(found.columns["input_ids"][found.columns["step"] == index]).strip() == step
    assert (found.columns["step"].dtype, found.columns["input_ids"].dtype) == (np.int16, np.int32)


def test_the_tokens_of_a_label_spell_what_it_stands_on() -> None:
    found = rows(clips())
    assert on(found, "role", "operand").split() == ["482"]
    assert on(found, "role", "result").strip() == "24"
    assert on(found, "operation", "div") == "/2 = 24"
    assert on(found, "step_type", "FORMAT") == "#### 24"
    assert all(len(values) == len(found.columns["input_ids"]) for values in found.columns.values())


def test_a_document_ends_in_eos_once() -> None:
    end = byte_level().eos_token_id
    found = rows(clips())
    assert ids(found)[-1] == end
    assert ids(found)[-2] != end
    assert (found.columns["step"][-1], found.columns["role"][-1]) == (-1, -1)
    assert ids(rows(plain("She sold<end>"))).count(end) == 1
    assert end not in ids(rows(clips(), eos=False))


def test_a_cut_document_keeps_its_first_tokens_and_counts_the_rest() -> None:
    whole, cut = rows(clips(), clips()), rows(clips(), clips(), ctx_len=7)
    for row in (0, 1):
        assert ids(cut, row) == ids(whole)[:7]
    for name in ("step", "role", "operation"):
        assert cut.columns[name].tolist() == whole.columns[name][:7].tolist() * 2
    assert cut.cut.tolist() == [len(ids(whole)) - 7] * 2
    assert whole.cut.tolist() == [0, 0]
    assert rows(clips(), ctx_len=len(ids(whole))).cut.tolist() == [0]


def test_the_windows_of_a_document_are_the_document() -> None:
    whole, found = (
        rows(clips(1), plain("clips"), clips(3)),
        rows(clips(1), plain("clips"), clips(3), ctx_len=7, overflow="window"),
    )
    for name, values in whole.columns.items():
        assert found.columns[name].tolist() == values.tolist()
    lengths = np.diff(found.starts)
    assert lengths.max() == 7
    of_first = -(-len(ids(whole)) // 7)
    assert found.documents == ["gsm8k/rows/0"] * of_first + ["p"] + ["gsm8k/rows/2"] * of_first
    assert found.skipped.tolist() == [*range(0, 7 * of_first, 7), 0, *range(0, 7 * of_first, 7)]


def test_rows_come_in_the_order_of_the_records() -> None:
    assert rows(clips(3), clips(1)).documents == ["gsm8k/rows/2", "gsm8k/rows/0"]
    assert rows().documents == []


spans_in = st.lists(st.integers(0, 24), max_size=8, unique=True).map(sorted)


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(st.text(alphabet="She a\n\u3000\U0001f600", max_size=24), max_size=4), cuts=spans_in)
def test_a_token_has_the_label_of_its_first_character_with_one(texts: list[str], cuts: list[int]) -> None:
    spans = list(zip(cuts[::2], cuts[1::2], strict=False))
    numbers = [str(i) for i in range(len(spans))]
    records, expected = [], []
    for text in texts:
        held = [(a, min(b, len(text))) for a, b in spans if a < len(text)]
        labels = [LabelSpan(start=a, end=b, variable="n", value=str(i)) for i, (a, b) in enumerate(held)]
        records.append(plain(text).model_copy(update={"labels": tuple(labels)}))
        expected += naive(text, offsets_of(text), held)
        expected += [] if text.endswith("<end>") else [-1]
    found, *_ = tokenize_table(encoder(), records_table(records), 1000, "truncate", {"n": numbers})
    assert found.columns["n"].tolist() == expected


def offsets_of(text: str) -> list[tuple[int, int]]:
    return byte_level()(text, return_offsets_mapping=True)["offset_mapping"]


def naive(text: str, offsets: list[tuple[int, int]], spans: list[tuple[int, int]]) -> list[int]:
    """The first character of each token, after leading spaces, that some span holds; the last such span."""
    found = []
    for start, end in offsets:
        while start < end and text[start:end].strip() and text[start].isspace():
            start += 1
        held = [[i for i, (a, b) in enumerate(spans) if a <= c < b] for c in range(start, end)]
        found.append(next((inside[-1] for inside in held if inside), -1))
    return found
