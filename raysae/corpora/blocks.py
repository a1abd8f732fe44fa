"""Documents -> token rows: one row per document, cut at `ctx_len`, with step and labels of every token."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raysae.corpora.offsets import NO_STEP, token_labels, token_spans
from raysae.types import CorpusRecord

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, eq=False)
class TokenRow:
    """One document in tokens."""

    record_id: str
    input_ids: NDArray[np.int32]
    """[tokens]"""
    step: NDArray[np.int16]
    """Index of the step (0-based, into `CorpusRecord.steps`) of each token, -1 outside the steps."""
    labels: dict[str, list[str | None]] = field(default_factory=dict)
    """Variable -> its value on each token, None where it has none."""
    truncated: int = 0
    """Tokens cut off by `ctx_len`."""


def tokenize_records(
    tokenizer: "PreTrainedTokenizerFast", records: Sequence[CorpusRecord], ctx_len: int, variables: Sequence[str]
) -> list[TokenRow]:
    """Tokenize the `text` of each record, special tokens of the tokenizer included, and cut it at `ctx_len` tokens.

    Where the tokenizer has an EOS, each document ends in one, unless its text does already; a document that is cut has
    none, since it does not end there. An added EOS belongs to no step and bears no label.
    """
    if not records:
        return []
    texts = [record.text for record in records]
    encoded: Any = tokenizer(texts, return_offsets_mapping=True, return_attention_mask=False, verbose=False)
    eos = tokenizer.eos_token_id
    rows: list[TokenRow] = []
    for record, ids, offsets in zip(records, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        if eos is not None and (not ids or ids[-1] != eos):
            ids, offsets = [*ids, eos], [*offsets, (len(record.text), len(record.text))]
        rows.append(
            TokenRow(
                record_id=record.record_id,
                input_ids=np.asarray(ids[:ctx_len], dtype=np.int32),
                step=token_spans(record.text, offsets[:ctx_len], record.step_spans).astype(np.int16),
                labels={name: token_labels(record.text, offsets[:ctx_len], record.labels, name) for name in variables},
                truncated=max(0, len(ids) - ctx_len),
            )
        )
    return rows


__all__ = ["NO_STEP", "TokenRow", "tokenize_records"]
