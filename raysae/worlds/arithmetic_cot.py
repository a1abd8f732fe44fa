"""Arithmetic chains of thought in a tiny language: text whose every latent variable is known token by token.

    Ann has 3 . Ann gets 4 in b : 3b +4 = 7b . Ann loses 2 in a : 7a -2 = 5a . so 5

A person has a start amount and books two to four changes, each in one of two books. A step tells the change (`Ann
gets 4 in b :`) and then writes the booking: the running total marked with the book (`3b`), the operation with its
operand (`+4`), and the result modulo 10, marked again (`7b`). `so` closes with the plain result. `question` is the
first sentence, `cot` the steps, `answer` the last digit; the text a model reads is the three joined by single spaces,
`so` before the answer. The end-of-text token is the tokenizing stage's to add.

Two things make causal tests of this text fair:

- Words are compounds. After `:` and after `=` the next word needs the total *and* the book, after `3b` the operation
  *and* the operand. So the variable under test and one that must stay as it was are read out at the same place, and an
  edit that copies everything from the source fails (SCIENCE 4.5).
- Writers slip: in 15 % of steps the written total is random, in 8 % the operation, in 8 % the operand; the result
  follows what is written. A model must therefore compute from the written words, so that a changed total changes what
  comes of it; without slips it reads past them to the story, and no edit of what is written has consequences. The three
  slips are independent, so the chance of a compound is the product of the chances of its halves, and a sum of two
  directions can say it exactly.

Labels sit where a value is about to be written, that is, on the token before it: `total` and `book` on `:` (the running
total) and on `=` (the new one), `operation` and `operand` on the written total. They hold what a reader can know there:
`total` on `:` is the running total even where the writer is about to slip.
"""

import random
from collections.abc import Iterator, Sequence

from raysae.types import CorpusRecord, LabelSpan
from raysae.types.experiment import stream_seed
from raysae.worlds.bookings import (
    BOOKS,
    CLOSE,
    COLON,
    COPY,
    EQUALS,
    LABELS,
    OPERATION,
    PEOPLE,
    RESULT,
    SITES,
    SYNONYMS,
    VARIABLES,
    VERBS,
    VOCABULARY,
    Step,
    carried,
    compute,
    tokenizer_json,
)
from raysae.worlds.interchange import InterchangePair, Said, draw_pairs
from raysae.worlds.readings import Detection, Readings
from raysae.worlds.word_tokenizer import word_spans

__all__ = [
    "LABELS",
    "SITES",
    "SYNONYMS",
    "VARIABLES",
    "VOCABULARY",
    "InterchangePair",
    "carried",
    "generate",
    "interchange_pairs",
    "read_steps",
    "readings",
    "tokenizer_json",
]

NAME = "arithmetic_cot"
LICENCE = "MIT"

SLIP_RATES = {"total": 0.15, "operation": 0.08, "operand": 0.08}
"""Chance per step that what is written of a variable is drawn at random (and may be right all the same)."""

ABOUT = {
    COPY: (Said("total", ("total",)), Said("book", ("book",))),
    OPERATION: (Said("operation", ("operation",)), Said("operand", ("operand",))),
    RESULT: (Said("total", ("total", "operation", "operand")), Said("book", ("book",))),
}
"""Word of a step that can be read out -> what it says. `=` is written whatever the state."""


Found = tuple[CorpusRecord, int, Step]
"""A step of a record, and its first character."""


def generate(count: int, seed: int, start: int = 0) -> Iterator[CorpusRecord]:
    """Records `start` to `start + count - 1`; record i depends on (seed, i) alone."""
    for i in range(start, start + count):
        rng = random.Random(stream_seed(seed, f"{NAME}.{i}"))
        first = rng.randrange(10)
        yield _record(i, first, _draw_steps(rng, rng.choice(PEOPLE), first))


def interchange_pairs(
    records: Sequence[CorpusRecord], variable: str, value: str, count: int, seed: int
) -> list[InterchangePair]:
    """At most `count` informative pairs (SCIENCE 4.4) whose source has `variable` = `value`; every base in turn.

    In the exchanged base the word after the site, and what is computed, differ from the base's and from the source's,
    and the half of that word which must stay the base's differs from the source's. Neither step has a slip in it.
    """
    rng = random.Random(stream_seed(seed, f"{NAME}.pairs.{variable}.{value}"))
    steps = [(record, start, step) for record in records for start, step in read_steps(record) if not step.slipped]
    sources = [found for found in steps if found[2].value(variable) == value]
    bases = [found for found in steps if found[2].value(variable) != value]

    def good(base: Found, source: Found) -> bool:
        return base[0].record_id != source[0].record_id and _informative(base[2], source[2], variable)

    return [_pair(variable, *pair) for pair in draw_pairs(bases, sources, count, rng, good)]


def read_steps(record: CorpusRecord) -> list[tuple[int, Step]]:
    """(first character in `text`, step) of each step, read back from the text."""
    total = int(record.question.split()[2])
    found: list[tuple[int, Step]] = []
    for start, end in record.step_spans:
        step = Step.read(record.text[start:end].split(), total)
        found.append((start, step))
        total = step.result
    return found


def readings(record: CorpusRecord) -> Readings:
    """Answer, close, ends of steps and, of each word that a slip made wrong, the one that would have been right."""
    slips: list[Detection] = []
    for start, step in read_steps(record):
        spans, (right, written) = word_spans(step.words, start), (step.right, step.words)
        slips += [
            Detection(spans[at][0], right[at], written[at]) for at in (COPY, OPERATION) if written[at] != right[at]
        ]
    answer = len(record.text) - len(record.answer)
    return Readings(
        answer=answer,
        close=answer - len(f"{CLOSE} "),
        ends=tuple(end + 1 for _, end in record.step_spans),
        detections=tuple(slips),
    )


def _draw_steps(rng: random.Random, person: str, total: int) -> list[Step]:
    steps: list[Step] = []
    for _ in range(rng.randint(2, 4)):
        operation, operand = rng.choice(tuple(VERBS)), rng.randrange(10)
        verb, book = rng.choice(VERBS[operation]), rng.choice(BOOKS)
        written_total = rng.randrange(10) if rng.random() < SLIP_RATES["total"] else total
        written_operation = rng.choice(tuple(VERBS)) if rng.random() < SLIP_RATES["operation"] else operation
        written_operand = rng.randrange(10) if rng.random() < SLIP_RATES["operand"] else operand
        result = compute(written_operation, written_total, written_operand)
        steps.append(
            Step(person, verb, operand, book, total, written_total, written_operation, written_operand, result)
        )
        total = result
    return steps


def _record(i: int, first: int, steps: Sequence[Step]) -> CorpusRecord:
    question = f"{steps[0].person} has {first} ."
    answer = str(steps[-1].result)
    text = question
    spans: list[tuple[int, int]] = []
    labels = [LabelSpan(start=0, end=len(question), variable="step_type", value="PARSE")]
    for step in steps:
        start = len(text) + 1
        text = f"{text} {' '.join(step.words)}"
        spans.append((start, len(text)))
        labels += _step_labels(step, start)
    close = len(text) + 1
    text = f"{text} {CLOSE} {answer}"
    labels.append(LabelSpan(start=close, end=len(text), variable="step_type", value="FORMAT"))
    # The story without its bookings: two records that tell the same story are one problem, however the writers slipped.
    story = " ".join([question, *(" ".join([*step.words[:COLON], "."]) for step in steps)])
    return CorpusRecord(
        record_id=f"{NAME}/generated/{i}",
        question=question,
        answer=answer,
        cot=text[len(question) + 1 : close - 1],
        steps=tuple(text[start:end] for start, end in spans),
        source_dataset=NAME,
        split=None,
        licence=LICENCE,
        text=text,
        step_spans=tuple(spans),
        labels=tuple(labels),
        extras={"original_question": story, "problem": story, "slips": sum(step.slipped for step in steps)},
    )


def _step_labels(step: Step, start: int) -> list[LabelSpan]:
    spans = word_spans(step.words, start)
    held = (
        ("step_type", 0, COLON, "PARSE"),
        ("total", COLON, COLON, step.total),
        ("book", COLON, COLON, step.book),
        ("step_type", COPY, len(spans) - 1, "OPERATE"),
        ("operation", COPY, COPY, step.operation),
        ("operand", COPY, COPY, step.operand),
        ("total", EQUALS, EQUALS, step.result),
        ("book", EQUALS, EQUALS, step.book),
    )
    return [
        LabelSpan(start=spans[first][0], end=spans[last][1], variable=variable, value=str(value))
        for variable, first, last, value in held
    ]


def _informative(base: Step, source: Step, variable: str) -> bool:
    exchanged = base.exchanged(variable, source.value(variable))
    # The exchanged variable and the one beside it stand in one word: that the word differs from the source's, whose
    # value it took over, means that the other half differs too, and must be kept.
    after = SITES[variable] + 1
    if exchanged.words[after] in (base.words[after], source.words[after]):
        return False
    return variable == "book" or exchanged.result not in (base.result, source.result)


def _pair(variable: str, base: Found, source: Found) -> InterchangePair:
    base_record, base_start, base_step = base
    source_record, source_start, source_step = source
    value = source_step.value(variable)
    site = SITES[variable]
    readouts = [word for word in ABOUT if word > site]
    words = (*base_step.words[: site + 1], *base_step.exchanged(variable, value).words[site + 1 :])
    spans = word_spans(words, base_start)
    return InterchangePair(
        variable=variable,
        value=value,
        source_text=source_record.text,
        source_char=word_spans(source_step.words, source_start)[site][0],
        text=base_record.text[:base_start] + " ".join(words),
        char=spans[site][0],
        readouts=tuple(spans[word][0] for word in readouts),
        about=tuple(ABOUT[word] for word in readouts),
        base_record_id=base_record.record_id,
        source_record_id=source_record.record_id,
    )
