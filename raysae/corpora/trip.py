"""TRIP: pairs of near-identical stories, one of them physically impossible. It has no chain of thought.

`text` = a fixed prompt with both stories, then `A` or `B`, the plausible one; the steps are the sentences of the
implausible story, which are what the annotations are about. The licence field of its card is empty. Storks et al. 2021,
arXiv:2109.04947.
"""

from typing import Any

from raysae.corpora.assemble import NativeRow, Text, by_row, numbered, without_reasoning
from raysae.corpora.base import Corpus, Files, Source
from raysae.types import CorpusRecord, Split

LICENCE = "none stated"
_ASK = "One of these two stories is physically plausible. Which one?"
_NATIVE = {"Train": Split.TRAIN, "Dev": Split.FIT, "Test": Split.TEST}


class Story(NativeRow):
    sentences: list[Text]
    plausible: bool
    states: list[Any] = []


class Row(NativeRow):
    example_id: str
    label: int
    breakpoint: int
    confl_pairs: list[list[int]]
    stories: list[Story]


def build(row: Row, source: Source, line: int) -> CorpusRecord | str:
    if len(row.stories) != 2 or row.label not in (0, 1):
        return f"{len(row.stories)} stories and label {row.label}; allowed: two stories, label 0 or 1"
    if not row.stories[row.label].plausible or row.stories[1 - row.label].plausible:
        return f"label {row.label} is not the one plausible story"
    question, places = _ASK, []
    for name, story in zip("AB", row.stories, strict=True):
        question += f"\nStory {name}:\n"
        written, spans = numbered(story.sentences, len(question))
        question += written
        places.append(spans)
    return without_reasoning(
        source,
        line,
        licence=LICENCE,
        question=question,
        answer="AB"[row.label],
        steps=places[1 - row.label],
        split=source.native_split,
        extras={
            "example_id": row.example_id,
            "part": source.name,
            "steps_are_context": True,
            "label": row.label,
            "breakpoint": row.breakpoint,
            "confl_pairs": row.confl_pairs,
            "states": [story.states for story in row.stories],
        },
    )


def _files(kind: str) -> tuple[Files, ...]:
    return tuple(
        Files(f"{kind.lower()}_{part.lower()}", split, (f"trip-{kind}{part}.jsonl", f"{kind}{part}.jsonl"))
        for part, split in _NATIVE.items()
    )


TRIP = Corpus(
    name="trip",
    hub_id="sled-umich/TRIP",
    revision="e8034abd1a23f948dc6bc68e1bceaa47d7e966c2",
    licence=LICENCE,
    # Others report wrong conflict labels in Order, so it has to be asked for.
    configs={"cloze": _files("Cloze"), "order": _files("Order")},
    rows={"cloze/train": 799, "cloze/dev": 322, "cloze/test": 351, "order": "3,131 in all"},
    has_cot=False,
    redistribute=False,
    normalise=by_row(Row, build),
)
