"""Documents to token rows: steps, labels, truncation, EOS, and the way back to the text."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from raysae.corpora import Source
from raysae.corpora.blocks import TokenRow, tokenize_records
from raysae.corpora.gsm8k import parse_row
from raysae.types import CorpusRecord

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


def one(record: CorpusRecord, ctx_len: int = 1000, eos: bool = True, variables: tuple[str, ...] = ()) -> TokenRow:
    (row,) = tokenize_records(byte_level(eos), [record], ctx_len, variables)
    return row


def pieces(row: TokenRow, keep: Any) -> str:
    return byte_level().decode(row.input_ids[np.asarray(keep)].tolist())


def test_the_tokens_of_a_step_spell_the_step() -> None:
    record = clips()
    row = one(record)
    for index, step in enumerate(record.steps):
        assert pieces(row, row.step == index).strip() == step
    assert row.step.dtype == np.int16
    assert row.input_ids.dtype == np.int32


def test_the_tokens_of_a_label_spell_what_it_stands_on() -> None:
    row = one(clips(), variables=("role", "operation", "step_type"))
    assert pieces(row, [value == "operand" for value in row.labels["role"]]).split() == ["482"]
    assert pieces(row, [value == "result" for value in row.labels["role"]]).strip() == "24"
    assert pieces(row, [value == "div" for value in row.labels["operation"]]) == "/2 = 24"
    assert pieces(row, [value == "FORMAT" for value in row.labels["step_type"]]) == "#### 24"
    assert all(len(values) == len(row.input_ids) for values in row.labels.values())


def test_a_document_ends_in_eos_once() -> None:
    end = byte_level().eos_token_id
    row = one(clips(), variables=("role",))
    assert row.input_ids[-1] == end
    assert row.input_ids[-2] != end
    assert (row.step[-1], row.labels["role"][-1]) == (-1, None)
    assert one(plain("She sold<end>")).input_ids.tolist().count(end) == 1
    assert end not in one(clips(), eos=False).input_ids


def test_a_cut_document_keeps_its_first_tokens_and_counts_the_rest() -> None:
    whole, cut = one(clips(), variables=("role",)), one(clips(), ctx_len=7, variables=("role",))
    assert cut.input_ids.tolist() == whole.input_ids[:7].tolist()
    assert cut.step.tolist() == whole.step[:7].tolist()
    assert cut.labels["role"] == whole.labels["role"][:7]
    assert cut.truncated == len(whole.input_ids) - 7
    assert whole.truncated == 0
    assert one(clips(), ctx_len=len(whole.input_ids)).truncated == 0


def test_rows_come_in_the_order_of_the_records() -> None:
    rows = tokenize_records(byte_level(), [clips(3), clips(1)], 100, ())
    assert [row.record_id for row in rows] == ["gsm8k/rows/2", "gsm8k/rows/0"]
    assert tokenize_records(byte_level(), [], 100, ()) == []


@settings(max_examples=60, deadline=None)
@given(text=st.text(min_size=1, max_size=60))
def test_decoding_the_tokens_gives_the_text_back(text: str) -> None:
    row = one(plain(text))
    assert byte_level().decode(row.input_ids[:-1].tolist(), clean_up_tokenization_spaces=False) == text


@pytest.mark.parametrize("labels", [(), ("absent",)])
def test_a_variable_without_labels_is_none_everywhere(labels: tuple[str, ...]) -> None:
    row = one(clips(), variables=labels)
    assert all(set(values) == {None} for values in row.labels.values())
