"""WIQA: what a change to one step of a described process does to another. It has no chain of thought.

Reads the flat columns of the hub and the nested lines of the raw release (`train.jsonl`, `dev.jsonl`, `test.jsonl`).
`text` = the numbered steps of the process and the question, then the label; the steps are context, not reasoning.
Tandon et al. 2019, arXiv:1909.04739.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import model_validator

from raysae.corpora.assemble import NativeRow, Text, by_row, numbered, without_reasoning
from raysae.corpora.base import Corpus, Files, Source
from raysae.types import CorpusRecord, Split

LICENCE = "none on its card, Apache-2.0 in its repository"
_NATIVE = {"train": Split.TRAIN, "validation": Split.FIT, "dev": Split.FIT, "test": Split.TEST}


class Choices(NativeRow):
    text: list[str]
    label: list[str]


class Row(NativeRow):
    question_stem: Text
    question_para_step: list[str]
    answer_label: Text
    answer_label_as_choice: str
    choices: Choices
    metadata_question_id: str
    metadata_graph_id: str
    metadata_para_id: str
    metadata_question_type: str
    metadata_path_len: int
    split: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, row: Any) -> Any:
        """The raw release nests what the hub has in columns."""
        question, metadata = (row.get(key) for key in ("question", "metadata"))
        if not isinstance(question, Mapping) or not isinstance(metadata, Mapping):
            return row
        choices = question.get("choices")
        if isinstance(choices, list) and all(isinstance(choice, Mapping) for choice in choices):
            choices = {key: [choice.get(key) for choice in choices] for key in ("text", "label")}
        flat = {
            "question_stem": question.get("stem"),
            "question_para_step": question.get("para_steps"),
            "answer_label": question.get("answer_label"),
            "answer_label_as_choice": question.get("answer_label_as_choice"),
            "choices": choices,
            "metadata_question_id": metadata.get("ques_id"),
        }
        return flat | {
            f"metadata_{key}": metadata.get(key) for key in ("graph_id", "para_id", "question_type", "path_len")
        }


def build(row: Row, source: Source, line: int) -> CorpusRecord | str:
    choices = dict(zip(row.choices.label, row.choices.text, strict=False))
    chosen = choices.get(row.answer_label_as_choice)
    if chosen is None or chosen.replace(" ", "_") != row.answer_label.replace(" ", "_"):
        return f"choice {row.answer_label_as_choice!r} is {chosen!r}, the label {row.answer_label!r}"
    written, spans = numbered([step for step in row.question_para_step if step.strip()], 0)
    if not spans:
        return "question_para_step is empty"
    return without_reasoning(
        source,
        line,
        licence=LICENCE,
        question=f"{written}\n{row.question_stem}",
        answer=row.answer_label,
        steps=spans,
        split=source.native_split or _NATIVE.get(row.split or ""),
        extras={
            "steps_are_context": True,
            "choices": choices,
            "question_id": row.metadata_question_id,
            "graph_id": row.metadata_graph_id,
            "para_id": row.metadata_para_id,
            "question_type": row.metadata_question_type,
            "path_len": row.metadata_path_len,
        },
    )


WIQA = Corpus(
    name="wiqa",
    hub_id="allenai/wiqa",
    revision="refs/convert/parquet",  # its main branch holds a loading script and no data
    licence=LICENCE,
    configs={
        "default": (
            Files("train", Split.TRAIN, ("train.jsonl", "default/train/*.parquet")),
            Files("validation", Split.FIT, ("dev.jsonl", "validation.jsonl", "default/validation/*.parquet")),
            Files("test", Split.TEST, ("test.jsonl", "default/test/*.parquet")),
        )
    },
    rows={"train": 29_808, "validation": 6_894, "test": 3_003},
    has_cot=False,
    redistribute=False,
    normalise=by_row(Row, build),
)
