"""The alignment of a whole corpus block: its stretches in flat arrays, and the table that is kept of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysae.corpora.aligners import ALIGNERS, NO_ANSWER, NO_STEP, Document
from raysae.corpora.step_types import STEP_TYPES
from raysae.corpora.steps import align_document

COLUMNS = ("text", "question", "answer", "cot", "steps", "step_spans")
"""What is read of a corpus block."""
NO_TYPE = -1
_CODES = {None: NO_TYPE} | {name: code for code, name in enumerate(STEP_TYPES)}
_STRING = pa.dictionary(pa.int32(), pa.string())

ALIGNMENT_SCHEMA = pa.schema(
    [
        ("record", _STRING),
        ("start", pa.int32()),
        ("end", pa.int32()),
        ("first_token", pa.int32()),
        ("last_token", pa.int32()),
        ("step", pa.int16()),
        ("type", _STRING),
        ("confidence", pa.float32()),
        *((name, pa.int16()) for name in ALIGNERS),
    ]
)
"""One row per stretch (`raysae.corpora.steps`): characters [start, end) of the text, tokens [first_token, last_token)
of the document before it is cut at the context. `step` is -1 where the majority says outside, or where there is none
(`confidence` 0). The last columns are the votes: a step, -1 for outside, null from an aligner without an answer."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """The stretches of many documents, in their order and in that of their texts."""

    document: NDArray[np.int64]
    """[stretches]"""
    start: NDArray[np.int64]
    """[stretches], in characters of the document"""
    end: NDArray[np.int64]
    step: NDArray[np.int16]
    """[stretches], `NO_STEP` for none"""
    type: NDArray[np.int8]
    """[stretches], index into `STEP_TYPES`, `NO_TYPE` for none"""
    confidence: NDArray[np.float32]
    """[stretches], share of the aligners behind the outcome, 0 for a tie"""
    votes: NDArray[np.int16]
    """[stretches, aligners], `NO_ANSWER` where none was cast"""
    given: int
    """Steps that were looked for: those with a visible character."""

    @property
    def abstains(self) -> NDArray[np.bool_]:
        return self.confidence == 0


def documents(block: pa.Table) -> Iterator[Document]:
    """The records of a corpus block as the aligners read them; `block` has `COLUMNS`."""
    return map(Document.read, *(block[name].to_pylist() for name in COLUMNS))


def align_block(block: pa.Table) -> Alignment:
    """Every record of a corpus block; `block` has `COLUMNS`."""
    flat: list[int] = []
    confidence: list[float] = []
    given = 0
    for number, doc in enumerate(documents(block)):
        given += sum(map(bool, map(str.strip, doc.steps)))
        for start, end, step, kind, certain, votes in align_document(doc):
            cast = (NO_ANSWER if vote is None else vote for vote in votes)
            flat += (number, start, end, step, _CODES[kind], *cast)
            confidence.append(certain)
    fields = np.array(flat, np.int64).reshape(len(confidence), 5 + len(ALIGNERS))
    return Alignment(
        *fields[:, :3].T,
        step=fields[:, 3].astype(np.int16),
        type=fields[:, 4].astype(np.int8),
        confidence=np.array(confidence, np.float32),
        votes=fields[:, 5:].astype(np.int16),
        given=given,
    )


def alignment_table(
    found: Alignment, records: Sequence[str], first_token: NDArray[np.int64], last_token: NDArray[np.int64]
) -> pa.Table:
    """`ALIGNMENT_SCHEMA`. `records` are the ids of the documents, tokens [stretches] count in the document."""
    columns = [
        pa.DictionaryArray.from_arrays(pa.array(found.document, pa.int32()), pa.array(records, pa.string())),
        *(pa.array(values.astype(np.int32)) for values in (found.start, found.end, first_token, last_token)),
        pa.array(found.step),
        pa.DictionaryArray.from_arrays(
            pa.array(found.type.astype(np.int32), mask=found.type == NO_TYPE), pa.array(STEP_TYPES, pa.string())
        ),
        pa.array(found.confidence),
        *(pa.array(votes, mask=votes == NO_ANSWER) for votes in found.votes.T),
    ]
    return pa.table(columns, schema=ALIGNMENT_SCHEMA)


def count(found: Alignment, stretch_tokens: NDArray[np.int64], document_tokens: NDArray[np.int64]) -> dict[str, Any]:
    """What the quality report adds up over blocks, as JSON values; `stretch_tokens` [stretches] and `document_tokens`
    [documents] are lengths."""
    placed = found.step != NO_STEP
    _, first = np.unique(np.stack([found.document[placed], found.step[placed]]), axis=1, return_index=True)
    kinds = np.bincount(found.type[placed][first], minlength=len(STEP_TYPES)).tolist()
    bins = np.bincount(np.log2(np.maximum(document_tokens, 1)).astype(np.int64)).tolist()
    return {
        "documents": len(document_tokens),
        "document_tokens": int(document_tokens.sum()),
        "longest": int(document_tokens.max(initial=0)),
        "lengths": {str(power): number for power, number in enumerate(bins) if number},
        "steps": found.given,
        "steps_found": len(first),
        "types": {name: number for name, number in zip(STEP_TYPES, kinds, strict=True) if number},
        "claimed_tokens": int(stretch_tokens.sum()),
        "tied_tokens": int(stretch_tokens[found.abstains].sum()),
    }
