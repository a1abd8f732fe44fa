"""Characters to tokens: against a naive walk, and the bisection against the general way."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysae.corpora.offsets import token_labels, token_ranges, token_spans
from raysae.types import LabelSpan

Spans = list[tuple[int, int]]


def naive(text: str, offsets: Spans, spans: Spans) -> list[int]:
    """The first character of each token, after leading spaces, that some span holds; the last such span."""
    found = []
    for start, end in offsets:
        while start < end and text[start:end].strip() and text[start].isspace():
            start += 1
        held = [[i for i, (a, b) in enumerate(spans) if a <= c < b] for c in range(start, end)]
        found.append(next((inside[-1] for inside in held if inside), -1))
    return found


@settings(max_examples=200, deadline=None)
@given(data=st.data(), text=st.text(alphabet="ab \n", min_size=1, max_size=24))
def test_token_spans_agree_with_a_naive_walk(data: st.DataObject, text: str) -> None:
    span = st.tuples(st.integers(0, len(text)), st.integers(0, len(text))).map(lambda pair: (min(pair), max(pair)))
    offsets = data.draw(st.lists(span, max_size=8))
    spans = data.draw(st.lists(span, max_size=4))
    assert token_spans(text, offsets, spans).tolist() == naive(text, offsets, spans)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), text=st.text(alphabet="ab \n", min_size=1, max_size=24))
def test_token_ranges_of_spans_without_white_space_at_their_ends_are_the_tokens_of_token_spans(
    data: st.DataObject, text: str
) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(text)), max_size=10)) | {0, len(text)})
    offsets = [(a, b) for a, b in zip(cuts, cuts[1:], strict=False) for _ in range(data.draw(st.integers(1, 2)))]
    bounds = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=8)))
    pairs = zip(bounds[::2], bounds[1::2], strict=False)
    spans = [(a, b) for a, b in pairs if not text[a].isspace() and not text[b - 1].isspace()]
    expected = token_spans(text, offsets, spans).tolist()
    found = [-1] * len(offsets)
    for index, (first, last) in enumerate(token_ranges([*offsets, (0, 0)], spans)):
        found[first:last] = [index] * (last - first)
    assert found == expected


def test_a_character_of_several_tokens_gives_all_of_them() -> None:
    assert token_ranges([(0, 0), (0, 1), (1, 2), (1, 2), (2, 3), (0, 0)], [(1, 2)]) == [(2, 4)]


def test_only_the_variable_asked_for_labels_a_token() -> None:
    labels = [LabelSpan(start=0, end=1, variable="x", value="1"), LabelSpan(start=0, end=3, variable="y", value="2")]
    assert token_labels("a b", [(0, 1), (1, 3)], labels, "x") == ["1", None]
    assert token_labels("a b", [(0, 1), (1, 3)], labels, "y") == ["2", "2"]
    assert token_labels("a b", [], labels, "y") == []


@pytest.mark.parametrize("span", [(0, 0), (3, 3)])
def test_an_empty_span_has_no_token(span: tuple[int, int]) -> None:
    ((first, last),) = token_ranges([(0, 1), (1, 3)], [span])
    assert first == last
