"""Three votes, one outcome: the rule case by case, and what it is worth on text whose steps are known."""

import random
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from raysae.corpora import steps
from raysae.corpora.agreement import Hits, boundary_hits, token_hits
from raysae.corpora.aligners import NO_STEP, Spans
from raysae.corpora.blocks import known_steps, tokenize_table
from raysae.corpora.encoding import Encoder
from raysae.corpora.steps import Stretch, align
from raysae.falsification.intervals import clopper_pearson
from raysae.falsification.resampling import ratio_over_documents
from raysae.types import CorpusRecord
from raysae.worlds import arithmetic_cot
from tests.corpora.tables import records_table

TEXT = "aaa bbb ccc"


def record(text: str = TEXT, *given: str) -> CorpusRecord:
    return CorpusRecord(
        record_id="r", question="", answer="", cot=text, steps=given or ("aaa", "bbb"), source_dataset="s", split=None,
        licence="", text=text,
    )  # fmt: skip


def ballot(monkeypatch: pytest.MonkeyPatch, *proposals: Spans | None) -> list[Stretch]:
    aligners = {str(i): lambda doc, answer=answer: answer for i, answer in enumerate(proposals)}
    monkeypatch.setattr(steps, "ALIGNERS", aligners)
    return align(record())


def outcomes(stretches: list[Stretch]) -> list[tuple[str, int, float, tuple[int | None, ...]]]:
    return [(TEXT[s.start : s.end], s.step, round(s.confidence, 2), s.votes) for s in stretches]


def test_three_equal_answers_are_certain(monkeypatch: pytest.MonkeyPatch) -> None:
    assert outcomes(ballot(monkeypatch, [(0, 3), (4, 7)], [(0, 3), (4, 7)], [(0, 3), (4, 7)])) == [
        ("aaa", 0, 1.0, (0, 0, 0)),
        ("bbb", 1, 1.0, (1, 1, 1)),
    ]


def test_two_of_three_decide_and_every_vote_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert outcomes(ballot(monkeypatch, [(0, 3), (4, 7)], [(0, 3), (4, 7)], [(0, 7), (8, 11)])) == [
        ("aaa", 0, 1.0, (0, 0, 0)),
        ("bbb", 1, 0.67, (1, 1, 0)),
        ("ccc", NO_STEP, 0.67, (NO_STEP, NO_STEP, 1)),
    ]


def test_without_a_majority_there_is_no_step_and_no_confidence(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ballot(monkeypatch, [(0, 3), None], [(0, 1), (1, 3)], [None, None])
    assert outcomes(found) == [("a", 0, 0.67, (0, 0, NO_STEP)), ("aa", NO_STEP, 0.0, (0, 1, NO_STEP))]
    assert [stretch.abstains for stretch in found] == [False, True]


def test_an_aligner_without_an_answer_leaves_it_to_the_other_two(monkeypatch: pytest.MonkeyPatch) -> None:
    assert outcomes(ballot(monkeypatch, None, [(0, 3), (4, 7)], [(0, 3), (4, 11)])) == [
        ("aaa", 0, 0.67, (None, 0, 0)),
        ("bbb", 1, 0.67, (None, 1, 1)),
        ("ccc", NO_STEP, 0.0, (None, NO_STEP, 1)),
    ]


def test_a_lone_vote_is_no_majority(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [s.confidence for s in ballot(monkeypatch, [(0, 3), None], None, None)] == [0.0]


def test_a_record_without_steps_has_no_stretches() -> None:
    assert align(record().model_copy(update={"steps": ()})) == []


def test_a_step_bears_its_type_and_disputed_text_none() -> None:
    found = align(record("Let x be it. So 2 + 3 = 5.", "Let x be it.", "So 2 + 3 = 5."))
    assert [stretch.type for stretch in found] == ["DECOMPOSE", "OPERATE"]


def damaged(words: list[str], rng: random.Random, rate: float) -> str:
    """Each word dropped, misspelt or followed by a stray one, a third of `rate` each."""
    kept: list[str] = []
    for word in words:
        luck = rng.random() / rate
        if luck > 1 / 3:
            at = rng.randrange(len(word))
            kept.append(word[:at] + rng.choice("abcdefgh") + word[at + 1 :] if luck < 2 / 3 else word)
            kept += [rng.choice(["the", "so", "then", "7"])] if 2 / 3 < luck < 1 else []
    return " ".join(kept) or words[0]


def judged(rate: float) -> Iterator[tuple[Hits, Hits]]:
    """Sums per document against the spans of the world, which the aligners do not get."""
    rng = random.Random(0)
    encoder = Encoder(arithmetic_cot.tokenizer_json(), eos=1)
    known = list(arithmetic_cot.generate(300, seed=11))
    told = [
        record.model_copy(
            update={
                "step_spans": (),
                "steps": tuple(damaged(step.split(), rng, rate) if rate else step for step in record.steps),
            }
        )
        for record in known
    ]
    rows, _, _ = tokenize_table(encoder, records_table(told), 1000, "truncate", {})
    wanted = known_steps(encoder.encode([record.text for record in known]), records_table(known))
    for first, last in pairwise(rows.starts):
        document = slice(first, last)
        yield (
            token_hits(rows.columns["step"][document], wanted[document]),
            boundary_hits(rows.columns["step"][document], wanted[document]),
        )


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_on_the_synthetic_corpus_the_lower_bounds_of_both_f1_are_above_nine_tenths(rate: float) -> None:
    for sums in zip(*judged(rate), strict=True):
        hits, found, wanted = np.array(sums, dtype=np.float64).T[:, None]
        estimate = ratio_over_documents(2 * hits, found + wanted, bootstrap=2000, seed=0)
        assert estimate.interval is not None
        assert estimate.interval[0] >= 0.90
        if rate == 0:  # every document is perfect and a bootstrap has nothing to vary: the exact bound of their share
            perfect = int((2 * hits == found + wanted).sum())
            assert clopper_pearson(perfect, hits.size)[0] >= 0.90


def test_a_wrong_alignment_of_the_synthetic_corpus_would_be_seen() -> None:
    whole = np.array([0, 0, 0, 1, 1, 1, NO_STEP])
    shifted = np.array([NO_STEP, NO_STEP, NO_STEP, 0, 0, 0, 1])
    assert token_hits(shifted, whole) == Hits(0, 4, 6)
    assert boundary_hits(shifted, whole).hits == 2
