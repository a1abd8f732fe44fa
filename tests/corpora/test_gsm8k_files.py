"""The facts that are known of the real files, counted on the real files."""

from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from raysae.corpora import CORPORA
from raysae.types import CorpusRecord, Split
from raysae.types.text import CorpusConfig

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "gsm8k"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the GSM8K files are not at {FOLDER}")


@cache
def records() -> tuple[CorpusRecord, ...]:
    config = CorpusConfig(name="gsm8k", path=FOLDER)
    found = [row for source in CORPORA["gsm8k"].sources(config) for row in CORPORA["gsm8k"].read(source, config)]
    assert all(isinstance(row, CorpusRecord) for row in found)
    return tuple(row for row in found if isinstance(row, CorpusRecord))


def number(text: str) -> float:
    return float(text.replace(",", "").replace("\u2212", "-"))


def test_every_row_is_a_record_in_its_native_split() -> None:
    assert Counter(record.split for record in records()) == {Split.TRAIN: 7473, Split.TEST: 1319}
    assert len({record.record_id for record in records()}) == 8792


def test_every_answer_is_a_number_and_the_known_forms_occur() -> None:
    raw = [record.extras["answer_raw"].rpartition("####")[2].strip() for record in records()]
    assert sum("," in answer for answer in raw) == 93
    assert sum(record.answer.startswith("-") for record in records()) == 5
    assert all(record.answer.lstrip("-").replace(".", "", 1).isdigit() for record in records())


def test_annotations_are_counted_as_known() -> None:
    annotations = [[pair for step in record.extras["annotations"] for pair in step] for record in records()]
    assert sum(not pairs for pairs in annotations) == 113
    last_differs = [
        bool(pairs) and number(pairs[-1][1]) != number(record.answer)
        for pairs, record in zip(annotations, records(), strict=True)
    ]
    assert sum(last_differs) == 470
    assert not any("<<" in record.text or ">>" in record.text for record in records())


def test_steps_are_counted_as_known() -> None:
    lengths = [len(record.steps) for record in records()]
    assert (min(lengths), max(lengths)) == (2, 11)
    assert sum(any(not line.strip() for line in (record.cot or "").split("\n")) for record in records()) == 6
    for record in records():
        assert tuple(record.text[start:end] for start, end in record.step_spans) == record.steps
        assert len(record.extras["annotations"]) == len(record.steps)


def test_characters_beyond_ascii_survive() -> None:
    raw = [record.question + record.extras["answer_raw"] for record in records()]
    assert sum(not text.isascii() for text in raw) == 775
    assert sum("\u2028" in record.question for record in records()) == 1


def test_most_annotations_are_found_in_the_text_and_labels_do_not_overlap() -> None:
    annotations = sum(len(step) for record in records() for step in record.extras["annotations"])
    counts = Counter((label.variable, label.value) for record in records() for label in record.labels)
    operations = sum(count for (variable, _), count in counts.items() if variable == "operation")
    assert operations / annotations > 0.95
    assert counts["role", "result"] / annotations > 0.999
    for record in records():
        for variable in CORPORA["gsm8k"].variables:
            spans = sorted((label.start, label.end) for label in record.labels if label.variable == variable)
            assert all(left[1] <= right[0] for left, right in zip(spans, spans[1:], strict=False))
            assert all(0 <= start < end <= len(record.text) for start, end in spans)


def test_every_socratic_line_has_one_subquestion() -> None:
    config = CorpusConfig(name="gsm8k", path=FOLDER, config="socratic")
    found = [row for source in CORPORA["gsm8k"].sources(config) for row in CORPORA["gsm8k"].read(source, config)]
    asked = [question for row in found if isinstance(row, CorpusRecord) for question in row.extras["subquestions"]]
    assert len(found) == 1319
    assert len(asked) == 4821
    assert all(asked)
