"""Text without a thought in it, in the same small language: where a detector of reasoning steps has no business."""

import random

from raysae.types import CorpusRecord, Split
from raysae.worlds.controlled_cot.rendering import LICENCE, NAME
from raysae.worlds.controlled_cot.words import ALLOWED_CUES, TRAINED

PLACES, QUALITIES, VERBS = (
    ("tree", "shop", "road", "lake", "hill"),
    ("old", "red", "warm", "small"),
    ("walks", "sits", "sings"),
)
SENTENCES = (5, 9)


def text(rng: random.Random, *, cued: bool) -> str:
    """Some sentences, each with a cue in front or none."""
    return " ".join(_sentence(rng, cued) for _ in range(rng.randint(*SENTENCES)))


def record(number: int, rng: random.Random) -> CorpusRecord:
    """A story with injected cues."""
    told = text(rng, cued=True)
    return CorpusRecord(
        record_id=f"{NAME}/generated/{number}",
        question=told,
        answer="",
        cot=None,
        steps=(),
        source_dataset=NAME,
        split=Split.TEST,
        licence=LICENCE,
        text=told,
        extras={"set": "INJECTION"},
    )


def _sentence(rng: random.Random, cued: bool) -> str:
    name, item, place = rng.choice(TRAINED.names), rng.choice(TRAINED.items), rng.choice(PLACES)
    quality, verb = rng.choice(QUALITIES), rng.choice(VERBS)
    said = rng.choice(
        (
            f"{name} {verb} near the {quality} {place} .",
            f"the {quality} {item} lies under the {place} .",
            f"{name} sees a {quality} {item} by the {place} .",
            f"it is a {quality} day and {name} {verb} .",
        )
    )
    return f"{rng.choice(tuple(ALLOWED_CUES))} {said}" if cued else said
