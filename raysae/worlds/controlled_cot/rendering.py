"""Steps as words, and words as a record: which family, how long, with which cue; and the label of every token."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from raysae.types import CorpusRecord, LabelSpan, Split
from raysae.worlds.controlled_cot.balance import kept
from raysae.worlds.controlled_cot.programs import Fact, Problem, Value
from raysae.worlds.controlled_cot.templates import ANSWER, ASK, CORES, OPERATORS, QUESTION
from raysae.worlds.controlled_cot.traces import Step
from raysae.worlds.controlled_cot.words import CUES_OF, DECOMPOSE, FRAMES, OPERATE, VERIFY, Dialect
from raysae.worlds.word_tokenizer import word_spans

NAME = "controlled_cot"
LICENCE = "MIT"
LENGTHS = (8, 9, 10)
"""Words of a step up to the one that completes it."""
CUED = 0.6
"""Chance of a cue in a step."""


@dataclass(frozen=True)
class Manner:
    """How one step is worded."""

    core: int
    frame: int
    length: int
    cue: str = ""
    cue_last: bool = False
    """Whether the cue stands behind the opener or before it."""


@dataclass(frozen=True)
class Worded:
    """A step in words."""

    step: Step
    manner: Manner
    words: tuple[str, ...]
    complete: int
    """The word that completes it; what follows is its closing."""
    parts: tuple[tuple[int, str, str], ...]
    """(word, variable, value) of its latent variables."""


def draw_manner(
    rng: random.Random, kind: str, families: Sequence[tuple[int, int]], cues: Sequence[str] | None = None
) -> Manner:
    """A family, a length, and for most steps a cue: one that the type allows, or always one of `cues`."""
    core, frame = rng.choice(families)
    cue = rng.choice(cues) if cues else rng.choice(CUES_OF[kind]) if rng.random() < CUED else ""
    return Manner(core, frame, rng.choice(LENGTHS), cue, rng.random() < 0.5)


def word_step(step: Step, manner: Manner, dialect: Dialect) -> Worded:
    """The words of a step: opener with or without a cue, core, closing."""
    content = "value" if step.kind == "FORMAT" else "fact" if step.fact else _content(step)
    slots, named = _slots(step, dialect)
    template = CORES[step.kind][manner.core][content].split()
    core = [slots.get(word, word) for word in template]
    free = manner.length - len(core)
    opener = FRAMES[manner.frame][free - bool(manner.cue)].split()
    cue = [manner.cue] if manner.cue else []
    opener = [*opener, *cue] if manner.cue_last else [*cue, *opener]
    closing = [step.verdict, "."] if step.verdict else ["."]
    parts = [(free + i, *named[word]) for i, word in enumerate(template) if word in named]
    if step.kind in (OPERATE, VERIFY):
        parts.append((manner.length - 1, "error", "wrong" if step.wrong else "right"))
    return Worded(step, manner, (*opener, *core, *closing), manner.length - 1, tuple(parts))


def write_record(
    number: int,
    problem: Problem,
    worded: Sequence[Worded],
    dialect: Dialect,
    *,
    judged: Sequence[int] | None = None,
    cues: Sequence[str] = (),
    native: str | None = None,
    **extras: object,
) -> CorpusRecord:
    """The record of a trace. `judged` are the steps that probes are asked about, by default those that `balance` keeps;
    `cues` is the label that each step's cue suggests, where cues are swapped."""
    question, answer = _asked(problem, dialect), _said(problem.answer, dialect)
    text, position = question, len(question.split())
    spans: list[tuple[int, int]] = []
    labels: list[LabelSpan] = []
    for index, one in enumerate(worded):
        at = word_spans(one.words, len(text) + 1)
        spans.append((at[0][0], at[-1][1]))

        def label(word: int, variable: str, value: str, at: list[tuple[int, int]] = at) -> LabelSpan:
            return LabelSpan(start=at[word][0], end=at[word][1], variable=variable, value=value)

        kind = one.step.kind
        labels.append(LabelSpan(start=spans[-1][0], end=spans[-1][1], variable="step_type", value=kind))
        labels.append(LabelSpan(start=spans[-1][0], end=spans[-1][1], variable="step_index", value=str(index + 1)))
        labels += [label(word, variable, value) for word, variable, value in one.parts]
        if index in judged if judged is not None else kept(number, index, kind, position + one.complete):
            labels.append(label(one.complete, "step_end", kind))
            labels += [label(one.complete, "cue_label", cues[index])] if cues else []
        text, position = f"{text} {' '.join(one.words)}", position + len(one.words)
    body = text[len(question) + 1 :]
    return CorpusRecord(
        record_id=f"{NAME}/generated/{number}",
        question=question,
        answer=answer,
        cot=body,
        steps=tuple(text[start:end] for start, end in spans),
        source_dataset=NAME,
        split=None if native is None else Split(native),
        licence=LICENCE,
        text=f"{text} {ANSWER.format(r=answer)}",
        step_spans=tuple(spans),
        labels=tuple(labels),
        extras={"original_question": question, **extras},
    )


def write_text(problem: Problem, worded: Sequence[Worded], dialect: Dialect) -> str:
    """The text of `write_record` alone."""
    answer = ANSWER.format(r=_said(problem.answer, dialect))
    return " ".join((_asked(problem, dialect), *(word for one in worded for word in one.words), answer))


def _asked(problem: Problem, dialect: Dialect) -> str:
    """The question: facts, and what is to be found."""
    return " ".join((*(_sentence(fact, dialect) for fact in problem.facts), ASK.format(f=" ".join(problem.asked))))


def _content(step: Step) -> str:
    assert step.op is not None
    return step.op.kind if step.op.kind in ("price", "shared") else "sum"


def _slots(step: Step, dialect: Dialect) -> tuple[dict[str, str], dict[str, tuple[str, str]]]:
    """Slot -> its word, and slot -> the (variable, value) that it carries."""
    stated = _said(step.stated, dialect)
    slots = {"{r}": stated}
    named = {"{r}": ("value", str(step.stated))}
    if step.fact:
        slots["{p}"] = step.fact.subject
    elif step.op and step.op.kind in OPERATORS and step.kind != "FORMAT":
        slots |= dict(zip(("{o}", "{n}", "{s}"), OPERATORS[step.op.kind], strict=True))
        slots |= {slot: _said(value, dialect) for slot, value in zip(("{a}", "{b}"), step.op.operands, strict=True)}
        named |= {slot: ("operation", step.op.kind) for slot in ("{o}", "{n}", "{s}")}
        named |= {slot: ("operand", str(value)) for slot, value in zip(("{a}", "{b}"), step.op.operands, strict=True)}
    elif step.op and step.kind != "FORMAT":
        slots |= dict(
            zip(("{i}",) if step.op.kind == "price" else ("{p}", "{q}"), map(str, step.op.operands), strict=True)
        )
    if step.kind == DECOMPOSE:
        del slots["{r}"], named["{r}"]
    return slots, named


def _sentence(fact: Fact, dialect: Dialect) -> str:
    things = dict(zip("ij", fact.things, strict=False)) if fact.things else {"i": fact.subject}
    return QUESTION[fact.kind].format(p=fact.subject, r=_said(fact.number, dialect), **things)


def _said(value: Value, dialect: Dialect) -> str:
    return value if isinstance(value, str) else dialect.numerals[value]
