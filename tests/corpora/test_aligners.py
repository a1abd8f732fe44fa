"""Each aligner on its own: what it finds, what it may not look at, and when it has no answer."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysae.corpora.aligners import ALIGNERS, Document, Spans, edit_distance, explicit, similarity

SALE = "Ann sold 4 red hats. She got $2 each: 4*2=8.\nThen Mr. Bo paid 3 more. So 8+3=11!"
STEPS = ("Ann sold 4 red hats. She got $2 each: 4*2=8.", "Then Mr. Bo paid 3 more. So 8+3=11!")


def doc(text: str, *steps: str, known: tuple[tuple[int, int], ...] = ()) -> Document:
    return Document(text, 0, len(text), steps, known)


def said(found: Document, spans: Spans | None) -> list[str | None] | None:
    return None if spans is None else [span and found.text[slice(*span)] for span in spans]


@pytest.mark.parametrize("name", ALIGNERS)
def test_steps_that_stand_in_the_text_are_found(name: str) -> None:
    found = doc(SALE, *STEPS)
    assert said(found, ALIGNERS[name](found)) == list(STEPS)


@pytest.mark.parametrize("name", ALIGNERS)
def test_a_step_that_occurs_twice_is_found_twice(name: str) -> None:
    found = doc("Ann gets 0 .\nAnn gets 0 .\nBo gets 1 .", "Ann gets 0 .", "Ann gets 0 .", "Bo gets 1 .")
    assert ALIGNERS[name](found) == [(0, 12), (13, 25), (26, 37)]


@pytest.mark.parametrize("name", ALIGNERS)
def test_only_the_chain_of_thought_is_searched(name: str) -> None:
    twice = "Add 1 and 1.\nAdd 1 and 1.\n#### 2"
    found = Document.read(twice, "Add 1 and 1.", "2", "Add 1 and 1.", ("Add 1 and 1.",), ())
    assert ALIGNERS[name](found) == [(13, 25)]


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("Step 1: Look.\nHm.\nStep 2: Add. Now.", ["Step 1: Look.\nHm.", "Step 2: Add. Now."]),
        ("Look.\nHm.\n\n  Add. Now.\n", ["Look.\nHm.", "Add. Now."]),
        ("Look. Hm.\nAdd. Now.", ["Look. Hm.", "Add. Now."]),
        ("Look at 2.5 of it. Add!", ["Look at 2.5 of it.", "Add!"]),
        ("How many? ** Look. Hm.\nHow far? ** Add.", ["Look. Hm.", "Add."]),
    ],
)
def test_the_coarsest_structure_with_as_many_units_as_steps_is_taken(text: str, units: list[str]) -> None:
    found = doc(text, "nothing", "like it")
    assert said(found, explicit(found)) == units


def test_without_a_fitting_structure_explicit_has_no_answer() -> None:
    assert explicit(doc("One. Two. Three.", "One.", "Two.")) is None


def test_spans_that_the_corpus_knows_come_first_and_lose_their_white_space() -> None:
    assert explicit(doc("One. Two. Three.", "One.", "Two.", known=((0, 5), (5, 9)))) == [(0, 4), (5, 9)]


def test_similarity_sees_bags_of_words_and_no_order() -> None:
    found = doc("Then eight plus three are eleven. Ann sold four red hats.", "red hats four sold Ann")
    assert said(found, similarity(found)) == ["Ann sold four red hats."]


def test_similarity_keeps_the_order_of_the_steps_even_against_a_better_match() -> None:
    found = doc("red hats here. blue coats there. red hats.", "blue coats there", "red hats")
    assert said(found, similarity(found)) == ["blue coats there.", "red hats."]


def test_a_step_that_shares_too_few_words_is_not_found() -> None:
    found = doc("Ann sold four red hats. The end.", "Bo bought five blue coats", "the end")
    assert said(found, similarity(found)) == [None, "The end."]


def test_the_dynamic_program_finds_the_best_disjoint_runs() -> None:
    clauses = ["a b", "c d", "a b c", "e f", "e g"]
    wanted = ["a b c x", "e f e"]
    spans = similarity(doc(". ".join(clauses), *wanted))
    assert spans is not None
    text = ". ".join(clauses)
    best = max(
        _dice(clauses[i:j], wanted[0]) + _dice(clauses[k:m], wanted[1])
        for i in range(5) for j in range(i + 1, 6) for k in range(j, 5) for m in range(k + 1, 6)
    )  # fmt: skip
    assert sum(
        _dice([text[slice(*span)].replace(".", "")], step) for span, step in zip(spans, wanted, strict=True) if span
    ) == pytest.approx(best)


def _dice(clauses: list[str], step: str) -> float:
    here, there = " ".join(clauses).split(), step.split()
    shared = sum(min(here.count(word), there.count(word)) for word in set(there))
    return 2 * shared / (len(here) + len(there)) * len(there)


def test_edit_distance_finds_steps_with_slips_of_the_pen() -> None:
    found = doc(SALE, "Ann sold 4 rad hats. She got $2 each: 4*2=8.", "Then Mr. Bo payed 3 more. So 8+3=11!")
    assert said(found, edit_distance(found)) == list(STEPS)


def test_edit_distance_gives_no_place_to_a_step_of_other_characters() -> None:
    found = doc("Ann sold 4 red hats.", "Ann sold 4 red hats.", "ÄÖÜ")
    assert said(found, edit_distance(found)) == ["Ann sold 4 red hats.", None]


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=80), steps=st.lists(st.text(max_size=20), min_size=1, max_size=4), data=st.data())
def test_whatever_the_text_spans_are_ordered_disjoint_and_visible_at_both_ends(
    text: str, steps: list[str], data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    for name, aligner in ALIGNERS.items():
        spans = aligner(Document(text, start, end, tuple(steps), ()))
        if spans is None:
            assert name == "explicit", "short texts are always searched"
            continue
        assert len(spans) == len(steps)
        placed = [span for span in spans if span]
        assert all(start <= a < b <= end and not text[a].isspace() and not text[b - 1].isspace() for a, b in placed)
        assert all(before[1] <= after[0] for before, after in pairwise(placed))


def test_marks_at_the_head_of_a_step_belong_to_it_but_the_mark_behind_a_subquestion_does_not() -> None:
    steps = ("* Ann sold 4 hats", "### So far", "> 3 more")
    found = doc("Q? ** * Ann sold 4 hats\n### So far\nWhat next? ** > 3 more", *steps)
    assert said(found, similarity(found)) == list(steps)


def test_a_megabyte_is_searched_only_for_an_answer_that_costs_little() -> None:
    lines = [f"Ann sold {n} hats." for n in range(50_000)]
    found = doc("\n".join(lines), *lines)
    assert similarity(found) == edit_distance(found) == explicit(found)
    told = doc(found.text, *lines[:-1], "Ann sold no hats.")
    assert similarity(told) is None
    assert edit_distance(told) is None
