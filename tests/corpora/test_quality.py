"""Changed ids by hand, samples that are the text, totals over blocks, and every limit from both sides."""

import random
from copy import deepcopy
from typing import Any

import numpy as np
import pytest

from raysae.corpora.quality import (
    SHOWN_CHARACTERS,
    Perturbation,
    Tokens,
    breaches,
    changed_ids,
    coloured,
    perturbations,
    totals,
)
from raysae.types.text import QualityConfig


def words(text: str, number: int = 0) -> Tokens:
    """A token per word; its id is its length plus `number`, which imitates a tokenizer that looks at the whole text."""
    begin, end, at = [], [], 0
    for word in text.split():
        at = text.index(word, at)
        begin.append(at)
        at += len(word)
        end.append(at)
    ids = [b - a + number for a, b in zip(begin, end, strict=True)]
    return Tokens(np.array(ids, np.int32), np.array(begin), np.array(end))


TEXT = "Ann has 3 hats, and Bo has none. So what?"


@pytest.mark.parametrize("seed", range(5))
def test_a_tokenizer_that_looks_at_single_words_changes_nothing_elsewhere(seed: int) -> None:
    found = list(perturbations(TEXT, random.Random(seed)))
    assert len({change.kind for change in found}) == 4
    for change in found:
        assert len(change.text) == len(TEXT) + change.longer
        start, end = change.place
        assert change.text[:start] == TEXT[:start]
        assert change.text[end + change.longer :] == TEXT[end:]
        changed, compared = changed_ids(words(TEXT), words(change.text), change)
        assert changed == 0
        assert compared == len(words(TEXT).ids) - len(TEXT[start:end].split())


def test_a_tokenizer_that_looks_at_the_whole_text_changes_everything() -> None:
    (change, *_) = perturbations(TEXT, random.Random(0))
    changed, compared = changed_ids(words(TEXT), words(change.text, number=len(change.text)), change)
    assert changed == compared > 0


def test_a_token_that_comes_or_goes_elsewhere_is_a_change() -> None:
    change = Perturbation("x", "aa bb  cc", (3, 8), 1)
    before = Tokens(np.array([1, 2, 3], np.int32), np.array([0, 3, 6]), np.array([2, 5, 8]))
    after = Tokens(np.array([1, 9, 2, 3], np.int32), np.array([0, 1, 3, 7]), np.array([1, 2, 5, 9]))
    assert changed_ids(before, after, change) == (1, 1)


def test_a_text_without_a_place_is_not_changed() -> None:
    assert list(perturbations("", random.Random(0))) == []
    assert [change.kind for change in perturbations("a b", random.Random(0))] == [
        "space doubled",
        "space made a line break",
    ]


def row(start: int, end: int, step: int = 0) -> dict[str, Any]:
    return {"start": start, "end": end, "step": step, "type": "OPERATE", "confidence": 2 / 3}


def test_the_pieces_of_a_sample_are_the_text() -> None:
    pieces = coloured(TEXT, [row(0, 15), row(16, 32, 1)])
    assert "".join(piece["text"] for piece in pieces) == TEXT
    assert [piece.get("step") for piece in pieces] == [0, None, 1, None]
    assert pieces[0]["confidence"] == 0.67


def test_a_long_sample_is_cut_and_says_so() -> None:
    pieces = coloured("x" * (SHOWN_CHARACTERS + 7), [row(SHOWN_CHARACTERS - 3, SHOWN_CHARACTERS + 5), row(1506, 1507)])
    assert [len(piece.get("text", "")) for piece in pieces] == [SHOWN_CHARACTERS - 3, 3, 0]
    assert pieces[-1] == {"left_out": 7}


BLOCK = {
    "documents": 4, "document_tokens": 100, "longest": 40, "lengths": {"4": 3, "5": 1}, "steps": 10, "steps_found": 9,
    "types": {"OPERATE": 9}, "claimed_tokens": 50, "tied_tokens": 5,
}  # fmt: skip


def test_totals_add_up_over_blocks() -> None:
    found = totals([BLOCK, {**BLOCK, "longest": 70, "lengths": {"6": 4}, "types": {"PARSE": 2}}])
    assert (found["documents"], found["tokens"], found["coverage"], found["abstention"]) == (8, 200, 0.9, 0.1)
    assert found["lengths"] == {"longest": 70, "histogram": [[16, 31, 3], [32, 63, 1], [64, 127, 4]]}
    assert found["types"] == {"OPERATE": 9, "PARSE": 2}


def test_a_corpus_without_steps_has_no_shares_of_them() -> None:
    found = totals([{**BLOCK, "steps": 0, "claimed_tokens": 0}])
    assert (found["coverage"], found["abstention"]) == (None, None)


FIGURES: dict[str, Any] = {
    "coverage": 0.95,
    "abstention": 0.05,
    "agreement": {"interval": (0.67, 0.9), "void": False},
    "known_spans": {"token_f1": {"low": 0.95}, "boundary_f1": {"low": 0.9}},
    "invariance": {"changed": 0.01},
    "quarantined": {"share": 0.1},
}


def with_figure(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    figures = deepcopy(FIGURES)
    inner = figures
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return figures


@pytest.mark.parametrize(
    ("key", "path", "beyond"),
    [
        ("min_coverage", ("coverage",), 0.94),
        ("max_abstention", ("abstention",), 0.06),
        ("min_agreement", ("agreement", "interval"), (0.66, 0.99)),
        ("min_known_f1", ("known_spans", "boundary_f1", "low"), 0.89),
        ("max_changed_ids", ("invariance", "changed"), 0.011),
        ("max_quarantined", ("quarantined", "share"), 0.11),
    ],
)
def test_a_figure_at_its_limit_passes_and_one_beyond_it_is_named(key: str, path: tuple[str, ...], beyond: Any) -> None:
    limits = QualityConfig()
    assert breaches({"c": FIGURES}, limits) == []
    (breach,) = breaches({"c": with_figure(path, beyond)}, limits)
    assert breach.key == key
    assert f"{breach.limit:g} (quality.{key})" in str(breach)


@pytest.mark.parametrize(
    ("path", "absent"),
    [
        (("coverage",), None),
        (("abstention",), None),
        (("agreement", "interval"), None),
        (("known_spans",), None),
        (("invariance", "changed"), None),
        (("agreement",), {"interval": (0.1, 0.2), "void": True}),
    ],
)
def test_a_figure_that_a_corpus_does_not_have_is_beyond_no_limit(path: tuple[str, ...], absent: Any) -> None:
    assert breaches({"c": with_figure(path, absent)}, QualityConfig()) == []
