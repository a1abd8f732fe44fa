"""Ground-truth labels of a GSM8K text, read from its `<<expression=result>>` annotations.

- `step_type`: PARSE on the question, OPERATE on a step with an annotation, DECOMPOSE on one without, FORMAT on the
  answer line. The kind of a step holds from its first character, where a reader may not know it yet.
- `step_index`: 1, 2, 3, 4 or 5+ on the characters of a step.
- `role`: `operand` on the numbers of the written expression, `equals` on the sign before the result, `result` on it.
- `operation`: add, sub, mul, div, or mixed for several kinds, from the operator that settles it to the end of the
  result (in `48/2+3 = 27`: mixed from the `+` on), because a left-to-right reader does not know it before.

The written expression is matched to the annotation number by number and sign by sign (`5 jerseys × $2/jersey =` matches
`5*2`); where it does not match (`20% of 40` for `40*.01*20`), the step gets no `operation` and no `operand`.
"""

import re
from itertools import pairwise
from typing import NamedTuple

STEP_TYPES = ("PARSE", "DECOMPOSE", "OPERATE", "FORMAT")
STEP_INDICES = ("1", "2", "3", "4", "5+")
ROLES = ("operand", "equals", "result")
OPERATIONS = ("add", "sub", "mul", "div", "mixed")
VARIABLES: dict[str, tuple[str, ...]] = {
    "step_type": STEP_TYPES,
    "step_index": STEP_INDICES,
    "role": ROLES,
    "operation": OPERATIONS,
}

_SIGNS = {
    "+": "add",
    "-": "sub",
    "−": "sub",
    "–": "sub",
    "*": "mul",
    "x": "mul",
    "X": "mul",
    "×": "mul",
    "/": "div",
    "÷": "div",
}
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?|\.\d+")
_SIGN = re.compile(r"(?<![^\W\d_])[xX](?![^\W\d_])|[-+−–*×/÷]")
_BEFORE_RESULT = re.compile(r"=[\s$€£]*$")
_RESULT = re.compile(r"[\s$€£]*([-−]?(?:\d[\d,]*(?:\.\d+)?|\.\d+))")


class Label(NamedTuple):
    """A value of a variable on characters [start, end)."""

    start: int
    end: int
    variable: str
    value: str


class Annotation(NamedTuple):
    """`<<expression=result>>`, taken out of a line at character `at` of what is left."""

    at: int
    expression: str
    result: str


class _Written(NamedTuple):
    """Where an expression stands in the line: spans of its numbers, position and kind of its signs."""

    operands: list[tuple[int, int]]
    signs: list[tuple[int, str]]


def question_labels(end: int) -> list[Label]:
    """The question, characters [0, end)."""
    return [Label(0, end, "step_type", "PARSE")]


def answer_labels(start: int, end: int) -> list[Label]:
    """The `#### answer` line."""
    return [Label(start, end, "step_type", "FORMAT")]


def step_labels(line: str, start: int, annotations: list[Annotation], number: int) -> list[Label]:
    """Labels of step `number` (from 1), which is `line[start:]`; positions are characters of `line`."""
    index = str(number) if number < 5 else "5+"
    kind = "OPERATE" if annotations else "DECOMPOSE"
    labels = [
        Label(start, len(line), "step_type", kind),
        Label(start, len(line), "step_index", index),
    ]
    after = start
    for annotation in annotations:
        result = _result_span(line, annotation)
        labels += _annotation_labels(line, after, annotation, result)
        after = result[1] if result else max(after, annotation.at)
    return labels


def _annotation_labels(line: str, after: int, annotation: Annotation, result: tuple[int, int] | None) -> list[Label]:
    labels: list[Label] = []
    equals = _BEFORE_RESULT.search(line, after, annotation.at)
    written = _written_expression(line[: equals.start()], after, annotation.expression) if equals else None
    if equals and written:
        labels += [Label(start, end, "role", "operand") for start, end in written.operands]
        known_from, operation = _operation(written.signs)
        end = result[1] if result else equals.start() + 1
        labels.append(Label(known_from, end, "operation", operation))
    if equals:
        labels.append(Label(equals.start(), equals.start() + 1, "role", "equals"))
    if result:
        labels.append(Label(result[0], result[1], "role", "result"))
    return labels


def _result_span(line: str, annotation: Annotation) -> tuple[int, int] | None:
    """The number right after the annotation, if it is the annotated result."""
    match = _RESULT.match(line, annotation.at)
    if match is None:
        return None
    # "4, then" and "4,000" both begin with digits and a comma; only the second comma belongs to the number.
    text = match[1].rstrip(",")
    return (
        (match.start(1), match.start(1) + len(text)) if _value(text) == _value(annotation.result) is not None else None
    )


def _written_expression(prefix: str, after: int, expression: str) -> _Written | None:
    """Match `expression` against the end of `prefix[after:]`, last number first; None when it is written otherwise."""
    numbers = list(_NUMBER.finditer(expression))
    if len(numbers) < 2:
        return None
    # Signs between neighbouring numbers of the annotation; "5*-2" keeps the first, which is the binary one.
    between = [_SIGN.search(expression, left.end(), right.start()) for left, right in pairwise(numbers)]
    candidates = list(_NUMBER.finditer(prefix, after))[-len(numbers) :]
    if len(candidates) < len(numbers) or any(sign is None for sign in between):
        return None
    if any(_value(found[0]) != _value(wanted[0]) for found, wanted in zip(candidates, numbers, strict=True)):
        return None
    signs: list[tuple[int, str]] = []
    for (left, right), wanted in zip(pairwise(candidates), between, strict=True):
        kind = _SIGNS[wanted[0]] if wanted else ""
        found = next((m for m in _SIGN.finditer(prefix, left.end(), right.start()) if _SIGNS[m[0]] == kind), None)
        if found is None:
            return None
        signs.append((found.start(), kind))
    spans = [(m.start(), m.start() + len(m[0].rstrip(","))) for m in candidates]
    return _Written(spans, signs)


def _operation(signs: list[tuple[int, str]]) -> tuple[int, str]:
    """Where the kind of the whole expression is settled, and the kind."""
    first = signs[0][1]
    other = next((at for at, kind in signs if kind != first), None)
    return (signs[0][0], first) if other is None else (other, "mixed")


def _value(text: str) -> float | None:
    try:
        return float(text.replace(",", "").replace("−", "-").strip())
    except ValueError:
        return None
