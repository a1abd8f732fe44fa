"""What kind of move a step is, where its words tell: a cascade of cues, nothing fitted, UNKNOWN where none holds.

PARSE restates a given, DECOMPOSE sets up an unknown, a sub-goal or a plan, OPERATE computes, VERIFY checks, FORMAT only
states the answer. These are readings of the words alone, not ground truth, and never become labels that a claim is
judged by: those come from a world or from a data set's own annotations, which is why no annotation is looked at here.
"""

import re
from collections.abc import Sequence

STEP_TYPES = ("UNKNOWN", "PARSE", "DECOMPOSE", "OPERATE", "VERIFY", "FORMAT")
"""By the code that token blocks store."""

_STATED = ("####", "\\boxed{")
_CHECKED = re.compile(
    r"\W*(?:(?:so|now),?\s)?(?:(?:let(?:'s| us| me)|we|i|to)\s(?:can\s|should\s|will\s)?)?"
    r"(?:double[- ]?check|check\s(?:that|if|whether|this|our|my|the|by)|checking\b|verify|verification|confirm|wait\b)",
    re.IGNORECASE,
)
_EQUATION = re.compile(r"=\s*[$€£(]*[-−]?\.?\d")
_COMPUTED = re.compile(
    r"\bequals\s*[$€£(]*[-−]?\.?\d|\d\s[-+*×÷/−–x]\s[$€£(]*\.?\d|\d[*×÷+]\d|\\(?:frac|times|cdot|div|sqrt)\b"
    r"|<<[^<>]*[-+*/][^<>]*=[^<>]*>>"
)
"""`equals` before a number, an operator between two, or an annotation that computes. `1/2` alone is a number."""
_ANSWERED = re.compile(r"\W*(?:(?:so|thus|therefore|hence),?\s)?(?:the\s)?(?:final\s)?answer\b", re.IGNORECASE)
_PLANNED = re.compile(
    r"\W*(?:(?:so|now|next|then|first(?:ly)?|finally),?\s)*(?:let\b|suppose\b|assume\b|denote\b|(?:find|determine|set)\s"
    r"|to\s(?:find|solve|get|determine|calculate|compute)\b|(?:we|i)\s(?:need|want|have\sto|must|will|can)\b)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def step_types(steps: Sequence[str], question: str, answer: str) -> list[str]:
    """The type of each step of a record."""
    last = len(steps) - 1
    return [_by_its_words(step, question, answer if index == last else None) for index, step in enumerate(steps)]


def _by_its_words(step: str, question: str, answer: str | None) -> str:
    """`answer` is given for the last step only: who states it earlier is still on the way."""
    if _STATED[0] in step or _STATED[1] in step:
        return "FORMAT"
    if _CHECKED.match(step):
        return "VERIFY"
    if _EQUATION.search(step) or _COMPUTED.search(step):
        return "OPERATE"
    if _ANSWERED.match(step):
        return "FORMAT"
    if _PLANNED.match(step):
        return "DECOMPOSE"
    numbers = _numbers(step)
    if answer and _numbers(answer) & numbers:
        return "FORMAT"
    return "PARSE" if numbers and numbers <= _numbers(question) else "UNKNOWN"


def _numbers(text: str) -> set[str]:
    return {found.replace(",", "").rstrip(".") for found in _NUMBER.findall(text)}
