"""Is the text fit to train on? Figures per corpus, the limits they are held to, and samples for a person to look at.

Pure: the stage of the same name gathers what goes in. SCIENCE 7 (alignment), DESIGN 5 (quarantine).
"""

import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raysae.types.text import QualityConfig

SHOWN_CHARACTERS = 1500
"""Of a sample; the rest is left out, and said to be."""


class Perturbation(NamedTuple):
    """One small change of a text that should leave the tokens elsewhere alone."""

    kind: str
    text: str
    """As changed."""
    place: tuple[int, int]
    """Characters [start, end) of the original from the start of the word before the change to the end of the word
    behind it."""
    longer: int
    """Characters by which the changed text is longer."""


_CHANGES = {
    "space doubled": (re.compile(r"(?<=\S) (?=\S)"), "  "),
    "space made a line break": (re.compile(r"(?<=\S) (?=\S)"), "\n"),
    "space put before a mark": (re.compile(r"(?<=\w)(?=[.,;:!?])"), " "),
    "mark left out": (re.compile(r"(?<=\w)[.,;:!?](?=\s|$)"), ""),
}
_WORD_BEFORE, _WORD_BEHIND = re.compile(r"\S*\s*$"), re.compile(r"\s*\S*")


def perturbations(text: str, rng: random.Random) -> Iterator[Perturbation]:
    """One of each kind at a random place, where the text has a place for it."""
    for kind, (pattern, instead) in _CHANGES.items():
        places = [match.span() for match in pattern.finditer(text)]
        if not places:
            continue
        start, end = rng.choice(places)
        before, behind = _WORD_BEFORE.search(text, 0, start), _WORD_BEHIND.match(text, end)
        place = (before.start() if before else start, behind.end() if behind else end)
        yield Perturbation(kind, text[:start] + instead + text[end:], place, len(instead) - (end - start))


class Tokens(NamedTuple):
    """One text in tokens."""

    ids: NDArray[np.int32]
    begin: NDArray[np.int64]
    """[tokens]: the first visible character of each."""
    end: NDArray[np.int64]
    """[tokens]: one past its last character."""


def changed_ids(before: Tokens, after: Tokens, change: Perturbation) -> tuple[int, int]:
    """(ids that differ, ids compared) among the tokens of the original that lie outside the place of the change."""
    start, end = change.place
    left, right = before.ids[before.end <= start], before.ids[before.begin >= end]
    left_now, right_now = after.ids[after.end <= start], after.ids[after.begin >= end + change.longer]
    return _differing(left, left_now) + _differing(right[::-1], right_now[::-1]), len(left) + len(right)


def _differing(a: NDArray[np.int32], b: NDArray[np.int32]) -> int:
    shared = min(len(a), len(b))
    return int((a[:shared] != b[:shared]).sum()) + max(len(a), len(b)) - shared


def coloured(text: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The text in pieces, each in one stretch or in none, at most `SHOWN_CHARACTERS` of it.

    `rows` are the document's in the alignment table.
    """
    pieces: list[dict[str, Any]] = []
    at = 0
    for row in rows:
        if row["start"] >= SHOWN_CHARACTERS:
            break
        if at < row["start"]:
            pieces.append({"text": text[at : row["start"]]})
        at = min(row["end"], SHOWN_CHARACTERS)
        kept = {"step": row["step"], "type": row["type"], "confidence": round(row["confidence"], 2)}
        pieces.append({"text": text[row["start"] : at], **kept})
    if text[at:SHOWN_CHARACTERS]:
        pieces.append({"text": text[at:SHOWN_CHARACTERS]})
    left = len(text) - SHOWN_CHARACTERS
    return [*pieces, {"left_out": left}] if left > 0 else pieces


def totals(blocks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of a corpus that add up over its blocks, from what `alignment.count` said of each."""
    sums = {
        key: sum(block[key] for block in blocks) for key in ("documents", "document_tokens", "steps", "steps_found")
    }
    claimed, tied = (sum(block[key] for block in blocks) for key in ("claimed_tokens", "tied_tokens"))
    lengths: Counter[int] = Counter()
    types: Counter[str] = Counter()
    for block in blocks:
        lengths.update({int(power): number for power, number in block["lengths"].items()})
        types.update(block["types"])
    return {
        "documents": sums["documents"],
        "tokens": sums["document_tokens"],
        "steps": sums["steps"],
        "coverage": sums["steps_found"] / sums["steps"] if sums["steps"] else None,
        "step_tokens": claimed,
        "abstention": tied / claimed if claimed else None,
        "types": dict(types.most_common()),
        "lengths": {
            "longest": max(block["longest"] for block in blocks),
            "histogram": [[2**power, 2 ** (power + 1) - 1, number] for power, number in sorted(lengths.items())],
        },
    }


class Breach(NamedTuple):
    """A figure beyond its limit."""

    corpus: str
    figure: str
    value: float
    limit: float
    key: str
    """The configuration key of the limit."""

    @property
    def allowed(self) -> str:
        side = "at least" if self.key.startswith("min_") else "at most"
        return f"allowed: {side} {self.limit:g} (quality.{self.key})"

    def __str__(self) -> str:
        return f"{self.corpus}: {self.figure} {self.value:.4g}, {self.allowed}"


def _agreement(figures: Mapping[str, Any]) -> float | None:
    """Votes that agree as well when they are shifted (one step all through, say) show nothing."""
    found = figures["agreement"]
    return None if found["void"] or found["interval"] is None else found["interval"][0]


def _known_spans(figures: Mapping[str, Any]) -> float | None:
    found = figures["known_spans"]
    return None if found is None else min(found["token_f1"]["low"], found["boundary_f1"]["low"])


_LIMITS = {
    "min_coverage": ("share of steps found", lambda figures: figures["coverage"]),
    "max_abstention": ("share of step tokens without a majority", lambda figures: figures["abstention"]),
    "min_agreement": ("lower bound of alpha between the aligners", _agreement),
    "min_known_f1": ("lower bound of F1 against the spans the corpus knows", _known_spans),
    "max_changed_ids": ("share of token ids changed elsewhere", lambda figures: figures["invariance"]["changed"]),
    "max_quarantined": ("share of rows quarantined", lambda figures: figures["quarantined"]["share"]),
}
"""Key of the limit -> what it is of, and where the figure stands."""


def breaches(corpora: Mapping[str, Mapping[str, Any]], limits: QualityConfig) -> list[Breach]:
    """Every figure beyond its limit; one that a corpus does not have (no steps, say) is beyond none."""
    found: list[Breach] = []
    for name, figures in corpora.items():
        for key, (figure, read) in _LIMITS.items():
            value, limit = read(figures), getattr(limits, key)
            if value is not None and (value < limit if key.startswith("min_") else value > limit):
                found.append(Breach(name, figure, value, limit, key))
    return found
