"""GSM8K: grade-school word problems with human chains of thought whose arithmetic is annotated `<<48/2=24>>`.

Reads `train.jsonl` / `test.jsonl` (or one .jsonl file) or the hub's `openai/gsm8k`, and yields one record per row:
`text` = question, then the chain of thought without its annotations, then `#### answer`, each on its own line. The
annotations become labels on characters of that text (`gsm8k_labels`). Cobbe et al. 2021, arXiv:2110.14168.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from raysae.corpora.base import Corpus, Files, Malformed, Rows, Source
from raysae.corpora.gsm8k_labels import VARIABLES, Annotation, Label, answer_labels, question_labels, step_labels
from raysae.types import CorpusRecord, LabelSpan, Split
from raysae.types.text import CorpusConfig

_ANNOTATION = re.compile(r"<<(.*?)>>", re.DOTALL)
_THOUSANDS_COMMA = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_ANSWER = re.compile(r"####[^\S\n]*\$?(-?\d[\d,]*(?:\.\d+)?)")
_SUBQUESTION = " ** "
LICENCE = "MIT"


def normalise(rows: Rows, source: Source, config: CorpusConfig) -> Iterator[CorpusRecord | Malformed]:
    """One record per row."""
    for line, row in rows:
        yield row if isinstance(row, Malformed) else parse_row(row, source, line)


def parse_row(row: Mapping[str, Any], source: Source, line: int) -> CorpusRecord | Malformed:
    """One row -> record; Malformed, with the reason, when a column is missing, empty or of another type."""
    reason = _defect(row)
    if reason is not None:
        return Malformed.of(source.location, line, reason, row)
    question, answer_raw = row["question"], row["answer"]
    reasoning, _, final = answer_raw.rpartition("####")
    answer = _THOUSANDS_COMMA.sub("", final.strip())
    lines = [_split_annotations(annotated) for annotated in reasoning.rstrip("\n").split("\n")]
    cot = "\n".join(plain for plain, _ in lines)
    text = f"{question}\n{cot}\n#### {answer}"

    spans: list[tuple[int, int]] = []
    labels = question_labels(len(question))
    extras: dict[str, Any] = {"has_cot": True, "config": source.config, "answer_raw": answer_raw, "annotations": []}
    if source.config == "socratic":
        extras["subquestions"] = []
    line_start = len(question) + 1
    for plain, annotations in lines:
        if plain.strip():
            subquestion, separator, _ = plain.partition(_SUBQUESTION) if source.config == "socratic" else ("", "", "")
            step_start = len(subquestion) + len(separator)
            spans.append((line_start + step_start, line_start + len(plain)))
            for start, end, name, value in step_labels(plain, step_start, annotations, len(spans)):
                labels.append(Label(start + line_start, end + line_start, name, value))
            extras["annotations"].append([[a.expression, a.result] for a in annotations])
            if source.config == "socratic":
                extras["subquestions"].append(subquestion if separator else "")
        line_start += len(plain) + 1
    labels += answer_labels(line_start, len(text))
    return CorpusRecord(
        record_id=source.record_id(line),
        question=question,
        answer=answer,
        cot=cot,
        steps=tuple(text[start:end] for start, end in spans),
        source_dataset=source.corpus,
        split=source.native_split,
        licence=LICENCE,
        text=text,
        step_spans=tuple(spans),
        labels=tuple(LabelSpan(start=start, end=end, variable=name, value=value) for start, end, name, value in labels),
        extras=extras,
    )


def read_answer(written: str) -> str | None:
    """The number behind the first `####`, without a currency sign and thousands commas; None where there is none."""
    found = _ANSWER.search(written)
    return _THOUSANDS_COMMA.sub("", found[1]) if found else None


def _defect(row: Mapping[str, Any]) -> str | None:
    for column in ("question", "answer"):
        if column not in row:
            return f"no column {column!r}; allowed: question and answer"
        if not isinstance(row[column], str):
            return f"{column} is a {type(row[column]).__name__}, not a string"
        if not row[column].strip():
            return f"{column} is empty"
    reasoning, mark, final = row["answer"].rpartition("####")
    if not mark:
        return "the answer has no '####'"
    if not final.strip():
        return "nothing stands after '####'"
    if not _ANNOTATION.sub("", reasoning).strip():
        return "no reasoning stands before '####'"
    return None


def _split_annotations(line: str) -> tuple[str, list[Annotation]]:
    """The line without `<<...>>`, and each annotation with the character of the plain line at which it stood."""
    annotations: list[Annotation] = []
    removed = 0
    for match in _ANNOTATION.finditer(line):
        expression, _, result = match[1].rpartition("=")
        annotations.append(Annotation(match.start() - removed, expression, result))
        removed += len(match[0])
    return _ANNOTATION.sub("", line), annotations


GSM8K = Corpus(
    name="gsm8k",
    hub_id="openai/gsm8k",
    revision="740312add88f781978c0658806c59bc2815b9866",
    licence=LICENCE,
    # The two configurations share their questions row for row: never independent data.
    configs={
        "main": (
            Files("train", Split.TRAIN, ("train.jsonl", "main/train-*.parquet")),
            Files("test", Split.TEST, ("test.jsonl", "main/test-*.parquet")),
        ),
        "socratic": (
            Files("train_socratic", Split.TRAIN, ("train_socratic.jsonl", "socratic/train-*.parquet")),
            Files("test_socratic", Split.TEST, ("test_socratic.jsonl", "socratic/test-*.parquet")),
        ),
    },
    rows={"main/train": 7473, "main/test": 1319, "socratic/train": 7473, "socratic/test": 1319},
    has_cot=True,
    redistribute=True,
    normalise=normalise,
    variables=VARIABLES,
    read_answer=read_answer,
)
