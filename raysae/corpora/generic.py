"""Rows of anybody's: JSON Lines or Parquet, with `corpus.columns` saying which column is what.

Columns of a record: `question` (needed), `answer`, `cot` and `steps` (a list of strings, found in the chain of
thought), `original_question` (what rephrasings share). Without `steps` a step is a line. `text` = question, chain of
thought, answer, each on its own line. Files named train, validation (or dev), test keep that split.
"""

from collections.abc import Iterator
from typing import Any

from pydantic import Field, ValidationError

from raysae.corpora.assemble import NativeRow, Text, lines, places, reason, reasoned, without_reasoning
from raysae.corpora.base import Corpus, Files, Malformed, Rows, Source
from raysae.errors import BadInput
from raysae.types import CorpusRecord, Split
from raysae.types.text import CorpusConfig

LICENCE = "unknown"


class Row(NativeRow):
    """The columns by the names they have in a record."""

    question: Text
    answer: str | int | float = ""
    cot: Text | None = None
    steps: list[Text] | None = None
    original_question: str | None = Field(default=None)


def normalise(rows: Rows, source: Source, config: CorpusConfig) -> Iterator[CorpusRecord | Malformed]:
    """One record per row."""
    unknown = sorted(set(config.columns) - set(Row.model_fields))
    if unknown:
        known = ", ".join(Row.model_fields)
        raise BadInput(
            f"corpus.columns names {unknown[0]!r}", f"allowed: {known}", "type corpus.columns={question: ...}"
        )
    columns = {name: config.columns.get(name, name) for name in Row.model_fields}
    for line, row in rows:
        if isinstance(row, Malformed):
            yield row
            continue
        absent = [
            column for name, column in columns.items() if column not in row and name in ("question", *config.columns)
        ]
        if absent:
            yield Malformed.of(source.location, line, f"no column {absent[0]!r}", row)
            continue
        try:
            found = _record(Row.model_validate({name: row[c] for name, c in columns.items() if c in row}), source, line)
        except ValidationError as error:
            found = reason(error)
        yield Malformed.of(source.location, line, found, row) if isinstance(found, str) else found


def _record(row: Row, source: Source, line: int) -> CorpusRecord | str:
    answer = str(row.answer)
    extras: dict[str, Any] = {"original_question": row.original_question} if row.original_question else {}
    if row.cot is None:
        if row.steps:
            return "steps without a cot to find them in"
        return without_reasoning(
            source,
            line,
            licence=LICENCE,
            question=row.question,
            answer=answer,
            steps=[],
            split=source.native_split,
            extras=extras,
        )
    steps = lines(row.cot) if row.steps is None else places(row.cot, row.steps)
    if steps is None:
        return "a step does not stand in the cot, in order"
    tail = f"\n{answer}" if answer else ""
    return reasoned(
        source,
        line,
        licence=LICENCE,
        question=row.question,
        answer=answer,
        cot=row.cot,
        steps=steps,
        after=tail,
        extras=extras,
    )


def _corpus(name: str) -> Corpus:
    def files(part: str, split: Split | None, *stems: str) -> Files:
        return Files(part, split, tuple(f"{stem}*.{name}" for stem in stems))

    return Corpus(
        name=name,
        hub_id=None,
        revision=None,
        licence=LICENCE,
        configs={
            "default": (
                files("train", Split.TRAIN, "train"),
                files("validation", Split.FIT, "valid", "dev"),
                files("test", Split.TEST, "test"),
                files("rows", None, ""),
            )
        },
        rows={},
        has_cot=True,
        redistribute=False,
        normalise=normalise,
    )


JSONL, PARQUET = _corpus("jsonl"), _corpus("parquet")
