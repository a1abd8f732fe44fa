"""Where the steps of a record stand in its text: three answers that share nothing but the record.

Each aligner gives a span of characters, or None, for every step in order; spans do not overlap and begin and end on
visible characters. What it may look at is what makes it independent of the others:

- `explicit` looks at the document's own structure (spans the corpus knows, numbering, blank lines, lines, sentences)
  and never at the words of a step. Where no structure has as many units as there are steps it has no answer.
- `similarity` compares bags of words: a monotone dynamic program puts runs of clauses to steps.
- `edit_distance` compares characters in their order: the cheapest way to turn the document into the steps.

The last two first look for an answer that no search could better (equal bags; verbatim text) and search only without
one. Nothing here is fitted. SCIENCE 7.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

from rapidfuzz.distance import Levenshtein

Span = tuple[int, int]
"""Characters [start, end) of the text."""
Spans = list[Span | None]
"""Of each step, in order; None for a step that was not found."""

NO_STEP = -1
"""In place of the index of a step, for text outside of any."""
NO_ANSWER = -2
"""In place of the index of a step, for a vote that was not cast; the least value there is."""

MIN_DICE = 0.5
"""A run of clauses that shares fewer words with a step than this (Dice coefficient of the bags) is not its place."""
NEAR_WORDS, FAR_WORDS = 48, 400
"""Words by which the place of a step may lie off the diagonal: the first, and a quarter of the document, at most the
second, which keeps the dynamic program linear in a long document."""
SEARCH_PAIRS, EDIT_PAIRS = 2_000_000, 10**10
"""Pairs (clause, step) and (character, character) up to which is searched, about a second each; beyond, no answer."""
MIN_EQUAL = 3
"""Equal characters in a row that count as part of a step; shorter ones are chance."""

_STRUCTURES = (
    re.compile(r"\n(?=[ \t]*(?:[Ss]tep[ \t]*)?\d{1,3}[.):][ \t])"),  # numbered
    re.compile(r"\n[ \t]*\n"),  # paragraphs
    re.compile(r"\n"),
    re.compile(r"(?<=[.!?])\s+"),  # sentences
)
"""What stands between two units, coarse to fine."""
_SUBQUESTION = re.compile(r"[^\n]*? \*\* ")
"""Annotates the line it opens (socratic GSM8K); the step stands behind it."""
_CLAUSE = re.compile(r"(?!\*\*\s|(?<=\*)\*\s)\S[^\n.!?;:*]*(?:(?:[.!?;:]+(?!\s)|\*(?!\*\s))[^\n.!?;:*]*)*[.!?;:]*")
"""To the end of a clause or line, or to a mark `**`, which is in none: finer than any step."""


class Document(NamedTuple):
    """A record as far as the aligners need it, in plain values."""

    text: str
    start: int
    """First character of the chain of thought; 0 where there is none, and the whole text is searched."""
    end: int
    steps: Sequence[str]
    """Their words, as the corpus gives them."""
    known: Sequence[Sequence[int]]
    """Their places, where the corpus knows them; empty otherwise."""
    question: str = ""
    answer: str = ""

    @classmethod
    def read(
        cls,
        text: str,
        question: str,
        answer: str,
        cot: str | None,
        steps: Sequence[str],
        known: Sequence[Sequence[int]],
    ) -> "Document":
        """The fields of a `CorpusRecord`."""
        behind = len(question) if text.startswith(question) else 0
        start = text.find(cot, behind) if cot else -1
        if cot is None or start < 0:
            return cls(text, 0, len(text), steps, known, question, answer)
        return cls(text, start, start + len(cot), steps, known, question, answer)


def explicit(doc: Document) -> Spans | None:
    """By structure alone. None where no structure has as many units as there are steps."""
    if len(doc.known) == len(doc.steps):
        return [_trim(doc.text, start, end) for start, end in doc.known]
    for separator in _STRUCTURES:
        units = _units(doc, separator)
        if len(units) == len(doc.steps):
            return [*units]
    return None


def similarity(doc: Document) -> Spans | None:
    """By bags of words: the clauses that share most words with each step, in order. None where that takes too long."""
    spans = [match.span() for match in _CLAUSE.finditer(doc.text, doc.start, doc.end)]
    clauses = [doc.text[start:end].split() for start, end in spans]
    wanted = [step.split() for step in doc.steps]
    runs = _equal_bags(clauses, wanted)
    if runs is None:
        if len(clauses) * len(wanted) > SEARCH_PAIRS:
            return None
        runs = _best_runs([_fold(words) for words in clauses], [_fold(words) for words in wanted])
    return [run and _trim(doc.text, spans[run[0]][0], spans[run[1] - 1][1]) for run in runs]


def edit_distance(doc: Document) -> Spans | None:
    """By characters in order: verbatim where every step occurs so, else along the cheapest edit of the whole. None
    where that takes too long."""
    found: Spans = []
    at = doc.start
    for step in doc.steps:
        words = step.strip()
        if not words:
            found.append(None)
            continue
        start = doc.text.find(words, at, doc.end)
        if start < 0:
            pairs = (doc.end - doc.start) * sum(map(len, doc.steps))
            return None if pairs > EDIT_PAIRS else _along_the_edit(doc)
        at = start + len(words)
        found.append((start, at))
    return found


ALIGNERS: dict[str, Callable[[Document], Spans | None]] = {
    "explicit": explicit,
    "similarity": similarity,
    "edit_distance": edit_distance,
}
"""Every aligner by name, in the order of the votes."""


def _units(doc: Document, separator: re.Pattern[str]) -> list[Span]:
    cuts = [doc.start]
    for match in separator.finditer(doc.text, doc.start, doc.end):
        cuts += match.span()
    cuts.append(doc.end)
    units: list[Span] = []
    for start, end in zip(cuts[::2], cuts[1::2], strict=True):
        subquestion = _SUBQUESTION.match(doc.text, start, end)
        unit = _trim(doc.text, subquestion.end() if subquestion else start, end)
        if unit:
            units.append(unit)
    return units


def _trim(text: str, start: int, end: int) -> Span | None:
    """The span without white space at its ends; None where nothing is left."""
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return (start, end) if start < end else None


def _equal_bags(clauses: list[list[str]], wanted: list[list[str]]) -> list[tuple[int, int] | None] | None:
    """Runs of clauses with exactly the words of the steps, first come first served; None if some step has no such run.

    Every step then has the highest similarity there is, so that the dynamic program could not do better.
    """
    words_before = [0, *accumulate(map(len, clauses))]
    clause_after = {words: clause for clause, words in enumerate(words_before)}
    flat = [word for words in clauses for word in words]
    runs: list[tuple[int, int] | None] = []
    at = 0
    for words in wanted:
        if not words:
            runs.append(None)
            continue
        for first in range(at, len(clauses)):
            start = words_before[first]
            last = clause_after.get(start + len(words))
            if last is None:
                continue
            run = flat[start : words_before[last]]
            if run == words or sorted(run) == sorted(words):
                break
        else:
            return None
        runs.append((first, last))
        at = last
    return runs


def _best_runs(clauses: list[list[str]], wanted: list[list[str]]) -> list[tuple[int, int] | None]:
    """Monotone dynamic program: disjoint runs of clauses in the order of the steps, most words shared in all.

    `best[c]` is the highest score of the steps so far within the first c clauses; a run scores its Dice coefficient
    times the words of its step.
    """
    clause_at = [0, *accumulate(map(len, clauses))]
    step_at = [0, *accumulate(map(len, wanted))]
    stretch = clause_at[-1] / max(step_at[-1], 1)
    band = min(NEAR_WORDS + clause_at[-1] // 4, FAR_WORDS)
    best = [0.0] * (len(clauses) + 1)
    choices: list[dict[int, int]] = []
    for words, before in zip(wanted, step_at, strict=False):
        here, choice = list(best), {}
        for first in range(len(clauses)):
            if abs(clause_at[first] - before * stretch) > band:
                continue
            for last, score in _scores(clauses, first, words):
                if best[first] + score > here[last]:
                    here[last], choice[last] = best[first] + score, first
        for last in range(1, len(here)):  # a clause more never hurts: it may stay unused
            if here[last - 1] > here[last]:
                here[last], choice[last] = here[last - 1], -1
        best = here
        choices.append(choice)
    return _walk_back(choices, len(clauses))


def _scores(clauses: list[list[str]], first: int, words: list[str]) -> list[tuple[int, float]]:
    """(end, score) of the runs from clause `first` that could be the place of a step with these words."""
    left, shared, length = Counter(words), 0, 0
    found: list[tuple[int, float]] = []
    for last in range(first, len(clauses)):
        for word in clauses[last]:
            if left[word] > 0:
                left[word] -= 1
                shared += 1
        length += len(clauses[last])
        dice = 2 * shared / max(length + len(words), 1)
        if dice >= MIN_DICE:
            found.append((last + 1, dice * len(words)))
        if length > 3 * len(words):  # Dice is below one half from here on
            break
    return found


def _walk_back(choices: list[dict[int, int]], last: int) -> list[tuple[int, int] | None]:
    runs: list[tuple[int, int] | None] = []
    for choice in reversed(choices):
        while choice.get(last) == -1:
            last -= 1
        first = choice.get(last)
        runs.append(None if first is None else (first, last))
        last = last if first is None else first
    return runs[::-1]


def _fold(words: list[str]) -> list[str]:
    """Case and punctuation set aside; what is punctuation alone is no word."""
    return [folded for word in words if (folded := word.casefold().strip(".,;:!?\"'()[]*"))]


def _along_the_edit(doc: Document) -> Spans:
    """Each step from the first to the last characters that the cheapest edit into the document leaves as they are."""
    bounds = [0, *accumulate(len(step) + 1 for step in doc.steps)]
    kept: list[list[Span]] = [[] for _ in doc.steps]
    step = 0
    for edit in Levenshtein.opcodes("\n".join(doc.steps), doc.text[doc.start : doc.end]):
        if edit.tag != "equal":
            continue
        shift = doc.start + edit.dest_start - edit.src_start
        while bounds[step + 1] <= edit.src_start:
            step += 1
        for index in range(step, len(doc.steps)):
            first, last = max(edit.src_start, bounds[index]), min(edit.src_end, bounds[index + 1] - 1)
            if last - first >= min(MIN_EQUAL, len(doc.steps[index])) and last > first:
                kept[index].append((first + shift, last + shift))
            if bounds[index + 1] >= edit.src_end:
                break
    return [_trim(doc.text, pieces[0][0], pieces[-1][1]) if pieces else None for pieces in kept]
