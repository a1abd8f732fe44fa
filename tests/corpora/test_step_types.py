"""One sentence of each kind, and the ones that look like another."""

import pytest

from raysae.corpora.step_types import step_types


def typed(*given: str, question: str = "Ann has 4 hats and 1/2 a cake. How many?", answer: str = "11") -> list[str]:
    return step_types(given, question, answer)


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        ("So 4 + 7 = 11 hats", "OPERATE"),
        ("That is 4*7 of them", "OPERATE"),
        ("She has 11 because 4 plus 7 equals 11", "OPERATE"),
        ("He pays $<<4*7=28>>28", "OPERATE"),
        ("h = 8,000 follows", "OPERATE"),
        ("Let x = the number of hats", "DECOMPOSE"),
        ("First, we need the number of hats.", "DECOMPOSE"),
        ("To find the hats, look at Ann.", "DECOMPOSE"),
        ("Ann has 4 hats", "PARSE"),
        ("She ate 1/2 a cake", "PARSE"),
        ("Let's check that: 4 + 7 = 11.", "VERIFY"),
        ("Wait, is it so?", "VERIFY"),
        ("She checks 4 hats", "PARSE"),
        ("The answer is 28.", "FORMAT"),
        ("#### 11", "FORMAT"),
        ("x = \\boxed{11}", "FORMAT"),
        ("Hats are nice", "UNKNOWN"),
        ("Nine of the 90 are red", "UNKNOWN"),
    ],
)
def test_the_words_of_a_step_tell_its_type(step: str, kind: str) -> None:
    assert typed(step, "Bye.")[0] == kind


def test_stating_the_answer_is_formatting_only_at_the_end() -> None:
    assert typed("She has 11 hats.", "She has 11 hats.") == ["UNKNOWN", "FORMAT"]


def test_an_answer_with_a_thousands_comma_is_the_answer() -> None:
    assert typed("It is 1,200 in all", answer="1200") == ["FORMAT"]
