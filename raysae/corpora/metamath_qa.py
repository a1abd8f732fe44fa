"""MetaMathQA: 395 thousand rephrasings of GSM8K and MATH training problems with GPT-3.5's chains of thought. MIT.

What is called "reasoning traces of MetaMath"; there are no proofs in it. One JSON array of 396 MB, streamed. `text` =
query, then the response as it is. Many rows share one original problem (`extras.original_question`), and that is what a
row's split goes by, so that rephrasings stay together and beside the GSM8K row they came from. Yu et al. 2023,
arXiv:2309.12284.
"""

import hashlib
import re

from raysae.corpora.assemble import NativeRow, Text, by_row, lines, reasoned
from raysae.corpora.base import Corpus, Files, Source
from raysae.types import CorpusRecord, Split

LICENCE = "MIT"
_ANSWER = "The answer is:"
_MARK = re.compile(r"\n?[^\S\n]*####[^\n]*\s*\Z")


class Row(NativeRow):
    type: str
    query: Text
    original_question: Text
    response: Text


def build(row: Row, source: Source, line: int) -> CorpusRecord | str:
    reasoning, mark, answer = row.response.rpartition(_ANSWER)
    if not mark or not answer.strip():
        return f"the response has no {_ANSWER!r} with an answer"
    cot = _MARK.sub("", reasoning).strip()
    if not cot:
        return f"no reasoning stands before {_ANSWER!r}"
    at = row.response.index(cot)
    return reasoned(
        source,
        line,
        licence=LICENCE,
        question=row.query,
        answer=answer.strip(),
        cot=cot,
        steps=lines(cot),
        before=row.response[:at],
        after=row.response[at + len(cot) :],
        extras={
            "type": row.type,
            "original_question": row.original_question,
            "original_id": hashlib.sha256(row.original_question.encode()).hexdigest()[:16],
        },
    )


METAMATH_QA = Corpus(
    name="metamath_qa",
    hub_id="meta-math/MetaMathQA",
    revision="aa4f34d3d2d3231299b5b03d9b3e5a20da45aa18",
    licence=LICENCE,
    configs={"default": (Files("train", Split.TRAIN, ("MetaMathQA-395K.json", "*.json", "*.jsonl")),)},
    rows={"train": 395_000},
    has_cot=True,
    redistribute=True,
    normalise=by_row(Row, build),
)
