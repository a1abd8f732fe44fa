"""Labels of GSM8K, each compared with the piece of text it stands on."""

import pytest

from raysae.corpora import Source
from raysae.corpora.gsm8k import parse_row
from raysae.corpora.gsm8k_labels import VARIABLES
from raysae.types import CorpusRecord

SOURCE = Source("gsm8k", None, "rows.jsonl", "main")
CLIPS = "She sold 48/2 = <<48/2=24>>24 clips in May.\nShe sold 48+24 = <<48+24=72>>72 clips in all.\n#### 72"


def labelled(answer: str, variable: str, question: str = "q") -> list[tuple[str, str]]:
    """(value, text under it) in the order of the text."""
    record = parse_row({"question": question, "answer": answer}, SOURCE, 1)
    assert isinstance(record, CorpusRecord)
    spans = sorted((label.start, label.end, label.value) for label in record.labels if label.variable == variable)
    assert all(left[1] <= right[0] for left, right in zip(spans, spans[1:], strict=False)), (
        "labels of a variable overlap"
    )
    assert {value for _, _, value in spans} <= set(VARIABLES[variable])
    return [(value, record.text[start:end]) for start, end, value in spans]


def test_roles_stand_on_the_numbers_and_the_sign() -> None:
    assert labelled(CLIPS, "role") == [
        ("operand", "48"),
        ("operand", "2"),
        ("equals", "="),
        ("result", "24"),
        ("operand", "48"),
        ("operand", "24"),
        ("equals", "="),
        ("result", "72"),
    ]


def test_the_operation_holds_from_its_sign_to_the_result() -> None:
    assert labelled(CLIPS, "operation") == [("div", "/2 = 24"), ("add", "+24 = 72")]


@pytest.mark.parametrize(
    ("step", "operation", "operands"),
    [
        ("5 jerseys × $2/jersey = $<<5*2=10>>10.", ("mul", "× $2/jersey = $10"), ["5", "2"]),
        ("12 - 4.5 = <<12-4.5=7.5>>7.5 left", ("sub", "- 4.5 = 7.5"), ["12", "4.5"]),
        ("20,000 * 2 = <<20000*2=40000>>40,000, then", ("mul", "* 2 = 40,000"), ["20,000", "2"]),
        ("5 x .4 = <<5*.4=2>>2", ("mul", "x .4 = 2"), ["5", ".4"]),
        ("9 − 2 = <<9-2=7>>7", ("sub", "− 2 = 7"), ["9", "2"]),
        ("48/2+3 = <<48/2+3=27>>27", ("mixed", "+3 = 27"), ["48", "2", "3"]),
        ("1+2+3 = <<1+2+3=6>>6", ("add", "+2+3 = 6"), ["1", "2", "3"]),
    ],
)
def test_an_expression_is_found_however_it_is_written(
    step: str, operation: tuple[str, str], operands: list[str]
) -> None:
    answer = f"In all {step}\n#### 1"
    assert labelled(answer, "operation") == [operation]
    assert [text for value, text in labelled(answer, "role") if value == "operand"] == operands


@pytest.mark.parametrize(
    "step",
    [
        "20% of 40 = <<40*.01*20=8>>8",
        "5 times 4 equals <<5*4=20>>20",
        "x = <<9=9>>9",
        "7 and 3 = <<7+3=10>>10",
        "3+7 = <<7+3=10>>10",
        "it is <<garbage>>10",
        "it is = <<=>>10",
    ],
)
def test_an_expression_written_otherwise_gets_no_operation_and_no_operands(step: str) -> None:
    answer = f"{step} in all\n#### 1"
    assert labelled(answer, "operation") == []
    assert "operand" not in dict(labelled(answer, "role"))
    assert labelled(answer, "step_type")[1] == ("OPERATE", labelled(answer, "step_index")[0][1])


def test_a_number_that_is_not_the_annotated_result_is_no_result() -> None:
    assert ("result", "25") not in labelled("48/2 = <<48/2=24>>25 clips\n#### 1", "role")


def test_two_annotations_in_a_line_share_no_character() -> None:
    assert labelled("3+4=<<3+4=7>>7+5=<<7+5=12>>12\n#### 1", "role") == [
        ("operand", "3"),
        ("operand", "4"),
        ("equals", "="),
        ("result", "7"),
        ("equals", "="),
        ("result", "12"),
    ]


def test_step_types_and_indices_cover_the_lines() -> None:
    answer = "Think.\n1+1 = <<1+1=2>>2\nc\nd\ne\nf\n#### 2"
    assert labelled(answer, "step_type", "Why?") == [
        ("PARSE", "Why?"),
        ("DECOMPOSE", "Think."),
        ("OPERATE", "1+1 = 2"),
        *[("DECOMPOSE", step) for step in "cdef"],
        ("FORMAT", "#### 2"),
    ]
    assert [value for value, _ in labelled(answer, "step_index")] == ["1", "2", "3", "4", "5+", "5+"]
