"""The words of `controlled_cot`: two dialects that share no name, thing or numeral, the cues, and openers of steps."""

from typing import NamedTuple

LARGEST = 20
"""Numbers run from 0 to this."""


class Dialect(NamedTuple):
    """The open words of a document."""

    names: tuple[str, ...]
    items: tuple[str, ...]
    units: tuple[str, ...]
    numerals: tuple[str, ...]
    """Word of each number."""


TRAINED = Dialect(
    names=("Ann", "Ben", "Cal", "Dee"),
    items=("pen", "cup", "hat", "bag"),
    units=("box", "crate"),
    numerals=tuple(str(number) for number in range(LARGEST + 1)),
)
"""Of TRAIN, FIT and the documents that are held out of them."""
UNSEEN = Dialect(
    names=("Eli", "Fay", "Gus", "Hal"),
    items=("fan", "mug", "key", "jar"),
    units=("pack", "tray"),
    numerals=(
        *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
        *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
    ),
)
"""Of the documents in unseen families alone."""

PARSE, DECOMPOSE, OPERATE, VERIFY, FORMAT = STEP_TYPES = ("PARSE", "DECOMPOSE", "OPERATE", "VERIFY", "FORMAT")
ALLOWED_CUES: dict[str, tuple[str, ...]] = {
    "so": (OPERATE, VERIFY, FORMAT),
    "then": (DECOMPOSE, OPERATE, VERIFY),
    "therefore": (DECOMPOSE, OPERATE, FORMAT),
    "thus": (DECOMPOSE, VERIFY, FORMAT),
    "hence": (PARSE, OPERATE, FORMAT),
    "first": (PARSE, DECOMPOSE, OPERATE),
    "next": (PARSE, DECOMPOSE, VERIFY),
    "now": (PARSE, OPERATE, VERIFY),
    "finally": (PARSE, DECOMPOSE, FORMAT),
    "check": (PARSE, VERIFY, FORMAT),
}
"""Every cue and the three of the five step types that it announces, at equal rates: each set of three once."""
CUES_OF = {kind: tuple(cue for cue, kinds in ALLOWED_CUES.items() if kind in kinds) for kind in STEP_TYPES}

FRAMES: tuple[tuple[str, ...], ...] = (
    ("", "well", "as told", "in this story", "as we can see", "as the story goes on"),
    ("", "okay", "of course", "line by line", "with this in mind", "going on with it all"),
    ("", "here", "this way", "on this line", "at this very point", "to go on from here"),
    ("", "yes", "all right", "for the record", "let it be known", "it may as well be"),
    ("", "indeed", "once more", "as ever before", "in much that manner", "without any more words again"),
)
"""Openers that say nothing, by their number of words."""
TRAINED_FRAMES, UNSEEN_FRAMES = (0, 1, 2), (3, 4)

HOLDS, FAILS = VERDICTS = ("holds", "fails")
"""What a VERIFY step says of the result that was stated."""

STORY = (
    *("walks", "sits", "sings", "sees", "lies", "near", "under", "old", "red", "warm", "small", "day", "tree", "shop"),
    *("road", "lake", "hill"),
)
"""Words of the texts that do not reason."""


def vocabulary(templates: tuple[str, ...]) -> tuple[str, ...]:
    """Word of each token id; `templates` are split at spaces, their slots left out."""
    fixed = {word for text in (*templates, *(text for frame in FRAMES for text in frame)) for word in text.split()}
    known = (*(word for dialect in (TRAINED, UNSEEN) for part in dialect for word in part), *ALLOWED_CUES, *VERDICTS)
    rest = sorted(word for word in {*fixed, *STORY} - set(known) if not word.startswith("{"))
    return ("<pad>", "<eos>", "<unk>", *dict.fromkeys(known), *rest)
