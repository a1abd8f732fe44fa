"""Numbers as they are printed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysae.report import words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0432, "0.0432"),
        (0.5, "0.500"),
        (0.99962, "0.99962"),
        (1.0, "1.00"),
        (12, "12"),
        (12.345, "12.3"),
        (1234.6, "1,235"),
        (-0.25, "−0.250"),
        (0.00001234, "1.23 × 10⁻⁵"),
        (0, "0"),
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "–"),
        (True, "–"),
    ],
)
def test_a_number_has_three_significant_digits(value: float | None, text: str) -> None:
    assert words.number(value) == text


@pytest.mark.parametrize(
    ("value", "interval", "text"),
    [
        (0.0432, (0.0401, 0.0466), ("0.0432", "[0.0401, 0.0466]")),
        (0.8912, (0.83, 0.93), ("0.89", "[0.83, 0.93]")),
        (1.0, (0.95, 1.0), ("1.000", "[0.950, 1.000]")),
        (1.0, (1.0, 1.0), ("1.00", "[1.00, 1.00]")),
        (0.5, None, ("0.500", "")),
        (None, (math.nan, 1), ("–", "")),
    ],
)
def test_an_interval_decides_how_many_digits_its_value_bears(
    value: float | None, interval: tuple[float, float] | None, text: tuple[str, str]
) -> None:
    assert words.measured(value, interval) == text


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_any_float_prints_without_nan_or_exponent_letters(value: float) -> None:
    assert not set(words.number(value)) & set("naife")


@pytest.mark.parametrize(
    ("value", "text"), [(0.424, "0.42 s"), (12.34, "12.3 s"), (125, "2 min 05 s"), (3720, "1 h 02 min"), (None, "–")]
)
def test_durations(value: float | None, text: str) -> None:
    assert words.duration(value) == text


@pytest.mark.parametrize(("value", "text"), [(12, "12 B"), (412_345_678, "412 MB"), (2.5e12, "2.5 TB"), (None, "–")])
def test_byte_sizes(value: float | None, text: str) -> None:
    assert words.byte_size(value) == text


def test_a_moment_is_said_to_the_second_and_in_utc() -> None:
    assert words.moment("2026-11-26T19:06:31.202543+01:00") == "2026-11-26 18:06:31 UTC"
    assert words.moment(None) == "–"


@pytest.mark.parametrize(
    ("value", "text"),
    [({}, "none"), ([], "none"), ({"no answer": 3, "no_steps": 1}, "3 x no answer, 1 x no steps"), (0, "0")],
)
def test_what_was_counted_is_listed_and_nothing_is_called_none(value: object, text: str) -> None:
    assert words.listed(value) == text
