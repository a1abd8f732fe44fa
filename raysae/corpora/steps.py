"""The steps of a record on its text: three aligners vote, two of three decide, a tie abstains.

`align` is the whole of it. It gives the stretches of text that some aligner takes for part of a step, with the vote of
each. Confidence is the share of the aligners behind the outcome: 1 when all three agree, 2/3 when one differs or has no
answer, 0 when there is no majority. Text that no aligner takes for a step is in no stretch.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from raysae.corpora.aligners import ALIGNERS, NO_STEP, Document, Span, Spans
from raysae.corpora.step_types import STEP_TYPES, step_types
from raysae.types import CorpusRecord

Vote = int | None
"""Index of a step, `NO_STEP` for text outside the steps, None from an aligner without an answer."""


class Stretch(NamedTuple):
    """A run of characters on which the votes are the same."""

    start: int
    """First and last character are visible."""
    end: int
    step: int
    """Index into `CorpusRecord.steps`, `NO_STEP` where the majority says outside or there is none."""
    type: str | None
    """Of the step, one of `STEP_TYPES`; None without a step."""
    confidence: float
    votes: tuple[Vote, ...]
    """In the order of `ALIGNERS`."""

    @property
    def abstains(self) -> bool:
        return self.confidence == 0


def align(record: CorpusRecord) -> list[Stretch]:
    """The stretches of `record.text` in order; none where the record has no steps."""
    return align_document(
        Document.read(record.text, record.question, record.answer, record.cot, record.steps, record.step_spans)
    )


def align_document(doc: Document) -> list[Stretch]:
    """`align` for a record in plain values: a corpus block is read without making records of it."""
    if not doc.steps:
        return []
    proposals = [aligner(doc) for aligner in ALIGNERS.values()]
    types = step_types(doc.steps, doc.question, doc.answer)
    first = proposals[0]
    if first is not None and all(other == first for other in proposals[1:]):
        return [
            Stretch(*span, index, types[index], 1.0, (index,) * len(proposals))
            for index, span in enumerate(first)
            if span
        ]
    return [_decide(span, votes, types) for span, votes in _ballots(doc.text, proposals)]


def _ballots(text: str, proposals: Sequence[Spans | None]) -> list[tuple[Span, tuple[Vote, ...]]]:
    """Every maximal run of characters with the same votes, one of them for a step; white space at its ends left out."""
    edges = sorted({edge for spans in proposals for span in spans or () if span for edge in span})
    voters = [None if spans is None else _Voter(spans) for spans in proposals]
    found: list[tuple[Span, tuple[Vote, ...]]] = []
    for start, end in pairwise(edges):
        votes = tuple(None if voter is None else voter.at(start) for voter in voters)
        while start < end and text[start].isspace():
            start += 1
        while start < end and text[end - 1].isspace():
            end -= 1
        if start < end and any(vote is not None and vote != NO_STEP for vote in votes):
            found.append(((start, end), votes))
    return found


class _Voter:
    """The spans of one aligner, asked for characters in order."""

    def __init__(self, spans: Spans) -> None:
        self.spans = [(span, index) for index, span in enumerate(spans) if span]
        self.next = 0

    def at(self, character: int) -> int:
        while self.next < len(self.spans) and self.spans[self.next][0][1] <= character:
            self.next += 1
        if self.next < len(self.spans) and self.spans[self.next][0][0] <= character:
            return self.spans[self.next][1]
        return NO_STEP


def _decide(span: Span, votes: tuple[Vote, ...], types: Sequence[str]) -> Stretch:
    winner = next((vote for vote in votes if vote is not None and 2 * votes.count(vote) > len(votes)), None)
    if winner is None:
        return Stretch(*span, NO_STEP, None, 0.0, votes)
    kind = None if winner == NO_STEP else types[winner]
    return Stretch(*span, winner, kind, votes.count(winner) / len(votes), votes)


__all__ = ["ALIGNERS", "NO_STEP", "STEP_TYPES", "Stretch", "Vote", "align"]
