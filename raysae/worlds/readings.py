"""Where a text shows what a reader makes of it."""

from dataclasses import dataclass
from typing import NamedTuple


class Detection(NamedTuple):
    """A word by which an error is found, or passed over."""

    char: int
    right: str
    wrong: str
    """What stands in its place where the error is passed over."""


@dataclass(frozen=True)
class Readings:
    """First characters, in the text of a record, of words that must be predicted."""

    answer: int
    close: int
    """Of the word that ends the chain."""
    ends: tuple[int, ...]
    """Of the word behind each step: the next step's first, or the close."""
    detections: tuple[Detection, ...]
