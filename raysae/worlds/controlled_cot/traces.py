"""A program as a chain of thought: which steps, in which order, and what each states."""

import random
from dataclasses import dataclass, replace

from raysae.worlds.controlled_cot.programs import Fact, Op, Problem, Value
from raysae.worlds.controlled_cot.words import DECOMPOSE, FAILS, FORMAT, HOLDS, LARGEST, OPERATE, PARSE, VERIFY

MOST_STEPS = 9
PARSED, PLANNED, REPORTED, VERIFIED, REPEATED = 0.5, 0.5, 0.4, 0.5, 0.5
"""Chances: of each fact an operation reads, of a plan before it, of a report and of a verification after it; and that
some step is said again."""
_WRONG_BY = (-3, -2, -1, 1, 2, 3)


@dataclass(frozen=True)
class Step:
    """One step, before it has words."""

    kind: str
    number: int = -1
    """Of its operation in the program; -1 for a fact."""
    op: Op | None = None
    fact: Fact | None = None
    stated: Value = 0
    """The result, value or amount that it writes."""
    verdict: str = ""
    """Of a VERIFY step."""
    wrong: bool = False
    """Whether an OPERATE step states another result than the true one."""


def draw_trace(problem: Problem, rng: random.Random, slip: int | None = None) -> tuple[Step, ...]:
    """A trace of at most MOST_STEPS; the operation called `slip` states a wrong number and is verified in time."""
    while True:
        steps = _order(problem, rng, slip)
        if len(steps) <= MOST_STEPS:
            return tuple(_stated(problem, steps, wrong_result(problem, rng, slip)))


def may_slip(problem: Problem) -> list[int]:
    """Operations whose result is a number."""
    return [number for number, op in enumerate(problem.ops) if isinstance(op.result, int)]


def wrong_result(problem: Problem, rng: random.Random, slip: int | None) -> dict[int, int]:
    """Operation -> the wrong number it states."""
    if slip is None:
        return {}
    true = problem.ops[slip].result
    assert isinstance(true, int)
    return {slip: rng.choice([true + by for by in _WRONG_BY if 0 <= true + by <= LARGEST])}


def operate(problem: Problem, number: int, kind: str = OPERATE) -> Step:
    """The true statement of an operation."""
    op = problem.ops[number]
    return Step(kind, number, op=op, stated=op.result, verdict=HOLDS if kind == VERIFY else "")


def parse(fact: Fact) -> Step:
    return Step(PARSE, fact=fact, stated=fact.number)


def report(problem: Problem, number: int) -> Step:
    return Step(FORMAT, number, op=problem.ops[number], stated=problem.ops[number].result)


def _order(problem: Problem, rng: random.Random, slip: int | None) -> list[Step]:
    """True statements in the order of the grammar."""
    steps: list[Step] = []
    for number in _program_order(problem, rng):
        op = problem.ops[number]
        before = [parse(fact) for fact in op.reads if rng.random() < PARSED]
        before += [Step(DECOMPOSE, number, op=op)] if rng.random() < PLANNED else []
        rng.shuffle(before)
        steps += [*before, operate(problem, number)]
        if rng.random() < REPORTED and number != len(problem.ops) - 1 and isinstance(op.result, int):
            steps.append(report(problem, number))
    for number in range(len(problem.ops)):
        if number == slip or rng.random() < VERIFIED:
            first = 1 + next(i for i, step in enumerate(steps) if step.kind == OPERATE and step.number == number)
            used = [i for i, step in enumerate(steps) if step.op and number in step.op.needs]
            # A wrong result is found before anything is built on it.
            last = used[0] if used and number == slip else len(steps)
            steps.insert(rng.randint(first, last), operate(problem, number, VERIFY))
    again = [i for i, step in enumerate(steps) if step.kind != OPERATE]
    if again and rng.random() < REPEATED:
        place = rng.choice(again)
        steps.insert(rng.randint(place + 1, len(steps)), steps[place])
    return [*steps, report(problem, len(problem.ops) - 1)]


def _program_order(problem: Problem, rng: random.Random) -> list[int]:
    """The operations in a random order in which each comes after what it needs."""
    left, order = set(range(len(problem.ops))), []
    while left:
        ready = sorted(number for number in left if not left & set(problem.ops[number].needs))
        order.append(rng.choice(ready))
        left.remove(order[-1])
    return order


def _stated(problem: Problem, steps: list[Step], wrong: dict[int, int]) -> list[Step]:
    """The same steps with what a slip makes of them: reports say what was stated last."""
    said: list[Step] = []
    verified: set[int] = set()
    for step in steps:
        if step.number not in wrong:
            said.append(step)
        elif step.kind == OPERATE:
            said.append(replace(step, stated=wrong[step.number], wrong=True))
        elif step.kind == VERIFY:
            verified.add(step.number)
            said.append(replace(step, verdict=FAILS))
        elif step.kind == FORMAT and step.number not in verified:
            said.append(replace(step, stated=wrong[step.number]))
        else:
            said.append(step)
    return said
