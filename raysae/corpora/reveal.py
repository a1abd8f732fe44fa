"""REVEAL: model-written chains of thought whose every step people judged. Gated, and for evaluation only.

Its terms forbid training on it and putting it on the internet in plain text, so every record is TEST, so is every
problem another corpus shares with it, and no sample of it is in this repository. One row per (answer, step, evidence);
a record is an answer, its steps by number. Jacovi et al. 2024, arXiv:2402.00559.
"""

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from raysae.corpora.assemble import NativeRow, Text, places, reason, reasoned
from raysae.corpora.base import Corpus, Files, Malformed, Rows, Source
from raysae.types import CorpusRecord, Split
from raysae.types.text import CorpusConfig

LICENCE = "CC-BY-ND-4.0, with terms"


class Row(NativeRow):
    answer_id: Text
    question: Text
    full_answer: Text
    step_idx: int | str
    step: Text
    dataset: str | None = None
    question_id: str | None = None
    evidence: str | None = None
    correctness_label: str | None = None
    attribution_label: str | None = None
    type_label: str | None = None
    answer_is_logically_correct: Any = None


def normalise(rows: Rows, source: Source, config: CorpusConfig) -> Iterator[CorpusRecord | Malformed]:
    """The rows of an answer need not be neighbours, so all are read first: six thousand of them."""
    answers: dict[str, list[tuple[int, int, Row]]] = {}
    for line, row in rows:
        if isinstance(row, Malformed):
            yield row
            continue
        try:
            found = Row.model_validate(row)
            number = int(found.step_idx)
        except ValidationError as error:
            yield Malformed.of(source.location, line, reason(error), row)
        except ValueError:
            yield Malformed.of(source.location, line, f"step_idx is {row['step_idx']!r}, not a number", row)
        else:
            answers.setdefault(found.answer_id, []).append((number, line, found))
    for found in answers.values():
        yield _record(sorted(found, key=lambda item: item[:2]), source)


def _record(rows: list[tuple[int, int, Row]], source: Source) -> CorpusRecord:
    """Rows of one answer by step; those that differ in the evidence only are one step."""
    first = rows[0][2]
    steps: dict[int, Row] = {}
    evidence: dict[int, list[str]] = {}
    for number, _, row in rows:
        steps.setdefault(number, row)
        if row.evidence:
            evidence.setdefault(number, []).append(row.evidence)
    extras: dict[str, Any] = {
        "eval_only": True,
        "dataset": first.dataset,
        "answer_id": first.answer_id,
        "question_id": first.question_id,
        "answer_is_logically_correct": first.answer_is_logically_correct,
        "evidence": [evidence.get(number, []) for number in steps],
        "step_labels": [
            {"correctness": row.correctness_label, "attribution": row.attribution_label, "type": row.type_label}
            for row in steps.values()
        ],
    }
    texts = tuple(row.step.strip() for row in steps.values())
    record = reasoned(
        source,
        min(line for _, line, _ in rows),
        licence=LICENCE,
        question=first.question,
        answer="",
        cot=first.full_answer,
        steps=places(first.full_answer, texts) or [],  # one worded otherwise is for the aligners to find
        extras=extras,
    )
    return record.model_copy(update={"steps": texts})


REVEAL = Corpus(
    name="reveal",
    hub_id="google/reveal",
    revision="main",  # no commit of a gated repository could be looked up
    licence=LICENCE,
    configs={
        "default": (
            Files("eval", Split.TEST, ("eval/reveal_eval.csv", "reveal_eval.csv")),
            Files("open", Split.TEST, ("open/reveal_open.csv", "reveal_open.csv")),
        )
    },
    rows={"eval and open": "about 6,100, one per piece of evidence"},
    has_cot=True,
    redistribute=False,
    normalise=normalise,
    gated=True,
    eval_only=True,
)
