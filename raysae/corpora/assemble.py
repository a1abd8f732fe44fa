"""From a row of a known shape to a record: validation, spans of steps, the text a model reads.

A corpus declares its row as a `NativeRow` and gives a function from that to the pieces of a record; every mistake in a
row becomes a reason, never an exception.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from raysae.corpora.base import Malformed, Rows, Source
from raysae.types import CorpusRecord, Split
from raysae.types.text import CorpusConfig

Spans = list[tuple[int, int]]

_SENTENCE_END = re.compile(
    r"""(?<![A-Z])(?<!\b[Mm]r)(?<!\b[Dd]r)(?<!\b[Mm]rs)(?<!\b[Mm]s)(?<!\be\.g)(?<!\bi\.e)(?<!\bvs)(?<!\betc)
        [.!?]+["')\]]*(?=\s)""",
    re.VERBOSE,
)
_BLANK_LINES = re.compile(r"\n[^\S\n]*\n\s*")


class NativeRow(BaseModel):
    """A row as the source has it: its own column names and types, other columns ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return text


Text = Annotated[str, AfterValidator(_not_blank)]
"""A string with something to read in it."""

Row = TypeVar("Row", bound=NativeRow)
Build = Callable[[Row, Source, int], CorpusRecord | str]
"""(row, source, number of the row) -> record, or why there is none."""


def by_row(shape: type[Row], build: Build[Row]) -> Callable[[Rows, Source, CorpusConfig], Iterator[Any]]:
    """A corpus of one record per row."""

    def normalise(rows: Rows, source: Source, config: CorpusConfig) -> Iterator[CorpusRecord | Malformed]:
        for line, row in rows:
            if isinstance(row, Malformed):
                yield row
                continue
            try:
                found = build(shape.model_validate(row), source, line)
            except ValidationError as error:
                found = reason(error)
            yield Malformed.of(source.location, line, found, row) if isinstance(found, str) else found

    return normalise


def reason(error: ValidationError) -> str:
    """The first thing wrong with a row, in a few words."""
    problem = error.errors()[0]
    where = ".".join(map(str, problem["loc"]))
    if problem["type"] == "missing":
        return f"no column {where!r}"
    if problem["type"] == "value_error":
        return f"{where} {problem['msg'].removeprefix('Value error, ')}"
    return f"{where} is a {type(problem['input']).__name__}: {problem['msg']}"


def reasoned(
    source: Source,
    line: int,
    *,
    licence: str,
    question: str,
    answer: str,
    cot: str,
    steps: Spans,
    before: str = "",
    after: str = "",
    extras: dict[str, Any],
) -> CorpusRecord:
    """A record with a chain of thought: `text` = question, line end, `before`, cot, `after`.

    `steps` are characters of `cot`.
    """
    start = len(question) + 1 + len(before)
    text = f"{question}\n{before}{cot}{after}"
    spans = [(start + first, start + last) for first, last in steps]
    return CorpusRecord(
        record_id=source.record_id(line),
        question=question,
        answer=answer,
        cot=cot,
        steps=tuple(text[first:last] for first, last in spans),
        source_dataset=source.corpus,
        split=source.native_split,
        licence=licence,
        text=text,
        step_spans=tuple(spans),
        extras={"has_cot": True, **extras},
    )


def without_reasoning(
    source: Source,
    line: int,
    *,
    licence: str,
    question: str,
    answer: str,
    steps: Spans,
    split: Split | None,
    extras: dict[str, Any],
) -> CorpusRecord:
    """A record whose source has no chain of thought: `text` = question, line end, answer; `steps` are in `question`."""
    return CorpusRecord(
        record_id=source.record_id(line),
        question=question,
        answer=answer,
        cot=None,
        steps=tuple(question[first:last] for first, last in steps),
        source_dataset=source.corpus,
        split=split,
        licence=licence,
        text=f"{question}\n{answer}",
        step_spans=tuple(steps),
        extras={"has_cot": False, **extras},
    )


def lines(text: str) -> Spans:
    """The lines that are not blank; a line ends at \\n only."""
    return _trimmed(text, [match.span() for match in re.finditer(r"[^\n]+", text)])


def paragraphs(text: str) -> Spans:
    """What stands between blank lines."""
    return _trimmed(text, _between(text, _BLANK_LINES.finditer(text)))


def sentences(text: str) -> Spans:
    """Cut behind `.`, `!` or `?` before white space, but not behind initials and a few abbreviations; and at \\n."""
    ends = [(match.end(), match.end()) for match in _SENTENCE_END.finditer(text)]
    return _trimmed(text, _cut(text, sorted(ends + [match.span() for match in re.finditer(r"\n", text)])))


def places(text: str, pieces: Sequence[str]) -> Spans | None:
    """Where the pieces stand in the text, in order; None where one does not stand in it word for word."""
    found: Spans = []
    at = 0
    for piece in pieces:
        start = text.find(piece, at)
        if start < 0:
            return None
        at = start + len(piece)
        found.append((start, at))
    return found


def numbered(items: Sequence[str], start: int) -> tuple[str, Spans]:
    """`1. first`, `2. second` on lines of their own, and where each item stands if the block begins at `start`."""
    written: list[str] = []
    spans: Spans = []
    at = start
    for number, item in enumerate(items, start=1):
        head = f"{number}. "
        spans.append((at + len(head), at + len(head) + len(item)))
        written.append(head + item)
        at += len(written[-1]) + 1
    return "\n".join(written), spans


def _between(text: str, gaps: Iterator[re.Match[str]]) -> Spans:
    return _cut(text, [match.span() for match in gaps])


def _cut(text: str, gaps: Spans) -> Spans:
    starts = [0, *(end for _, end in gaps)]
    ends = [*(start for start, _ in gaps), len(text)]
    return list(zip(starts, ends, strict=True))


def _trimmed(text: str, spans: Spans) -> Spans:
    """Without white space at either end; nothing but white space is no span."""
    found: Spans = []
    for start, end in spans:
        piece = text[start:end]
        first = start + len(piece) - len(piece.lstrip())
        if piece.strip():
            found.append((first, first + len(piece.strip())))
    return found
