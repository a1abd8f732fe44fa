"""A world's interchange test as text: what its program writes on when one variable has another text's value."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

P = TypeVar("P")

WORD = ""
TRIES = 20
"""Sources tried per base of an interchange pair, at most."""


class Said(NamedTuple):
    """One of the things that a readout says, and whose it is."""

    part: str
    """A variable whose value the world's `carried` finds in the word; WORD: the word as such."""
    follows: tuple[str, ...]
    """The variables that decide it; none for a distractor."""


@dataclass(frozen=True)
class InterchangePair:
    """One interchange test (SCIENCE 4.3-4.5): put the source's `variable` into the base and read what follows."""

    variable: str
    value: str
    """The source's value, which the edit brings in."""
    source_text: str
    source_char: int
    """First character, in `source_text`, of the token that carries the value."""
    text: str
    """The base up to the site, then what the program writes when the variable has the source's value."""
    char: int
    """First character, in `text`, of the token to be edited."""
    readouts: tuple[int, ...]
    """First characters, in `text`, of the words that must be predicted, each at the token before it: those that follow
    from the exchanged value and those that must stay the base's. All of them right is one joint success."""
    about: tuple[tuple[Said, ...], ...]
    """What the word of each readout says."""
    base_record_id: str
    source_record_id: str


def draw_pairs(
    bases: Sequence[P], sources: Sequence[P], count: int, rng: random.Random, good: Callable[[P, P], bool]
) -> list[tuple[P, P]]:
    """At most `count` different pairs (base, source) that are `good`; every base in turn."""
    order = list(range(len(bases)))
    rng.shuffle(order)
    found: list[tuple[P, P]] = []
    used: set[tuple[int, int]] = set()
    for _ in range(TRIES if sources else 0):
        for base in order:
            if len(found) == count:
                return found
            source = rng.randrange(len(sources))
            if (base, source) not in used and good(bases[base], sources[source]):
                used.add((base, source))
                found.append((bases[base], sources[source]))
    return found
