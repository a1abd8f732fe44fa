"""Records -> rows of tokens: cut at the context length, with the step and the known variables of every token.

Works on a whole corpus block at once, in flat arrays: a token belongs to the span of the first of its characters that
any span holds, leading spaces set aside (` 24` belongs to the span of `24`, `($` to the span that begins at `$`); a
token without characters (BOS, EOS) belongs to none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysae.corpora.aligners import NO_STEP
from raysae.corpora.alignment import COLUMNS as ALIGNED_COLUMNS
from raysae.corpora.alignment import NO_TYPE, Alignment, align_block, alignment_table, count
from raysae.corpora.encoding import EncodedTexts, Encoder

NO_VALUE = -1
COLUMNS = ("record_id", "labels", *ALIGNED_COLUMNS)
"""What is read of a corpus block."""

Variables = Mapping[str, Sequence[str]]
"""Variable -> the values it can take; a code is an index into them."""
Overflow = Literal["truncate", "window", "keep"]
"""What becomes of a document longer than the context: cut off, cut into several rows, or one long row."""


@dataclass(frozen=True, eq=False)
class SpanTable:
    """Character spans of many documents, none of which overlap, in the order of the text."""

    document: NDArray[np.int64]
    """[spans]"""
    start: NDArray[np.int64]
    """[spans], in characters of the document"""
    end: NDArray[np.int64]
    value: NDArray[np.int64]
    """[spans]: what a token of the span gets."""

    def where(self, mask: NDArray[np.bool_]) -> "SpanTable":
        return SpanTable(self.document[mask], self.start[mask], self.end[mask], self.value[mask])


@dataclass(frozen=True, eq=False)
class TokenRows:
    """Rows of tokens, one after the other."""

    documents: Sequence[str]
    """[rows]: the record each row is of."""
    skipped: NDArray[np.int32]
    """[rows]: tokens of the record that stand in earlier rows."""
    cut: NDArray[np.int32]
    """[rows]: tokens of the record that stand in no row."""
    starts: NDArray[np.int64]
    """[rows + 1]: row i is tokens starts[i] to starts[i + 1]."""
    columns: dict[str, NDArray[np.generic]]
    """[tokens] each: `input_ids`, the consensus of the aligners (`step`, -1 outside; `consensus_type`, an index into
    `STEP_TYPES`, -1 outside; `step_confidence`), and a code per known variable (-1 for none)."""


def tokenize_table(
    encoder: Encoder, table: pa.Table, ctx_len: int, overflow: Overflow, variables: Variables
) -> tuple[TokenRows, pa.Table, dict[str, Any]]:
    """Tokenize the `text` of each record of a corpus block; `table` has `COLUMNS`.

    Also the table of its alignment (`ALIGNMENT_SCHEMA`), and what the quality report adds up (`count`).
    """
    encoded = encoder.encode(table["text"].to_pylist())
    records = table["record_id"].to_pylist()
    steps = align_block(table)
    first, last = token_ranges(encoded, steps)
    columns: dict[str, NDArray[np.generic]] = {"input_ids": encoded.ids}
    for name, values, outside in (
        ("step", steps.step, NO_STEP),
        ("consensus_type", steps.type, NO_TYPE),
        ("step_confidence", steps.confidence, 1.0),
    ):
        columns[name] = spread(first, last, values, len(encoded.ids), outside)
    for name, found in _label_spans(table["labels"], variables).items():
        labelled = token_ranges(encoded, found)
        columns[name] = spread(*labelled, found.value.astype(np.int16), len(encoded.ids), NO_VALUE)
    in_document = encoded.starts[steps.document]
    alignment = alignment_table(steps, records, first - in_document, last - in_document)
    facts = count(steps, last - first, np.diff(encoded.starts))
    return _rows(records, encoded.starts, columns, ctx_len, overflow), alignment, facts


def token_ranges(encoded: EncodedTexts, spans: SpanTable | Alignment) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The tokens [first, last) of each span; equal for a span that holds the first characters of none."""
    base = encoded.characters[spans.document]
    first = np.searchsorted(encoded.end, base + spans.start, side="right")
    last = np.searchsorted(encoded.begin, base + spans.end, side="left")
    taken = np.maximum.accumulate(np.concatenate([[0], last[:-1]])) if len(last) else last
    first = np.maximum(first, taken)  # a token that reaches into two spans belongs to the earlier one
    return first, np.maximum(first, last)


def spread(
    first: NDArray[np.int64], last: NDArray[np.int64], values: NDArray[Any], size: int, outside: Any
) -> NDArray[Any]:
    """[size] of the type of `values`: values[i] on the tokens first[i] to last[i], which do not overlap."""
    lengths = last - first
    inside = np.repeat(first - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())
    found = np.full(size, outside, values.dtype)
    found[inside] = np.repeat(values, lengths)
    return found


def known_steps(encoded: EncodedTexts, table: pa.Table) -> NDArray[np.int64]:
    """Index of the step of each token, -1 for none, by the spans that the corpus knows."""
    spans = table["step_spans"].combine_chunks()
    counts = spans.value_lengths().to_numpy()
    document = np.repeat(np.arange(len(counts)), counts)
    index = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
    start, end = spans.flatten().flatten().to_numpy().reshape(-1, 2).astype(np.int64).T
    found = _in_order(SpanTable(document, start, end, index))
    return spread(*token_ranges(encoded, found), found.value, len(encoded.ids), NO_STEP)


def _label_spans(column: pa.ChunkedArray, variables: Variables) -> dict[str, SpanTable]:
    labels = column.combine_chunks()
    counts = labels.value_lengths().to_numpy()
    document = np.repeat(np.arange(len(counts)), counts)
    start, end, name, value = labels.flatten().flatten()
    start, end = start.to_numpy().astype(np.int64), end.to_numpy().astype(np.int64)
    of = _codes(name, list(variables))
    found: dict[str, SpanTable] = {}
    for number, (variable, values) in enumerate(variables.items()):
        whole = SpanTable(document, start, end, _codes(value, values))
        found[variable] = _in_order(whole.where((of == number) & (whole.value != NO_VALUE)))
    return found


def _codes(strings: pa.StringArray, values: Sequence[str]) -> NDArray[np.int64]:
    """The index of each string among `values`, -1 for another one."""
    index = {value: i for i, value in enumerate(values)}
    encoded = strings.dictionary_encode()
    codes = np.array([index.get(value, NO_VALUE) for value in encoded.dictionary.to_pylist()], np.int64)
    return codes[encoded.indices.to_numpy()]


def _in_order(spans: SpanTable) -> SpanTable:
    order = np.lexsort((spans.start, spans.document))
    return SpanTable(spans.document[order], spans.start[order], spans.end[order], spans.value[order])


def _rows(
    documents: list[str], starts: NDArray[np.int64], columns: dict[str, NDArray[np.generic]], ctx_len: int,
    overflow: Overflow,
) -> TokenRows:  # fmt: skip
    lengths = np.diff(starts)
    if overflow == "keep":
        nothing = np.zeros(len(lengths), np.int32)
        return TokenRows(documents, nothing, nothing, starts, columns)
    if overflow == "truncate":
        kept = np.minimum(lengths, ctx_len)
        if (kept < lengths).any():
            position = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
            columns = {name: values[position < ctx_len] for name, values in columns.items()}
        return TokenRows(
            documents,
            np.zeros(len(lengths), np.int32),
            (lengths - kept).astype(np.int32),
            np.concatenate([[0], np.cumsum(kept)]),
            columns,
        )
    windows = np.maximum(-(-lengths // ctx_len), 1)
    of = np.repeat(np.arange(len(lengths)), windows)
    number = np.arange(len(of)) - np.repeat(np.cumsum(windows) - windows, windows)
    row_starts = np.append(starts[:-1][of] + number * ctx_len, starts[-1])
    return TokenRows(
        [documents[i] for i in of],
        (number * ctx_len).astype(np.int32),
        np.zeros(len(of), np.int32),
        row_starts,
        columns,
    )
