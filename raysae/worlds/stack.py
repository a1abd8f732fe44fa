"""A deterministic pushdown machine with a bounded stack (SCIENCE 3.1).

It reads a tape of symbols, a symbol per micro-step. Control state, symbol and top of the stack decide the operation:

    push    put the symbol on the stack
    pop     take the top away
    swap    exchange the two topmost symbols
    add     replace the top by the sum of top and symbol

An operation that cannot be done becomes one that can: `add` on a full stack instead of `push`, `push` where the stack
has too few symbols for the others.
"""

import random
from collections.abc import Sequence

from raysae.worlds.states import Step, System, Trace

SYMBOLS = tuple("abcdef")
CONTROLS = 5
OPERATIONS = ("push", "pop", "swap", "add")
CELLS = ("top", "second", "third", "fourth", "fifth")
TAPE = 32

REGISTERS = {
    "control": tuple(map(str, range(CONTROLS))),
    "input": SYMBOLS,
    "operation": OPERATIONS,
    **dict.fromkeys(CELLS, SYMBOLS),
}


def chosen(control: int, symbol: int, stack: Sequence[int]) -> str:
    """The operation; `stack` has its top last."""
    wanted = OPERATIONS[(control + symbol + (stack[-1] if stack else 0)) % len(OPERATIONS)]
    if wanted == "push" and len(stack) == len(CELLS):
        return "add"
    return "push" if len(stack) < {"push": 0, "pop": 1, "swap": 2, "add": 1}[wanted] else wanted


def execute(operation: str, symbol: int, stack: Sequence[int]) -> list[int]:
    """The stack after it."""
    if operation == "push":
        return [*stack, symbol]
    if operation == "pop":
        return [*stack[:-1]]
    if operation == "swap":
        return [*stack[:-2], stack[-1], stack[-2]]
    return [*stack[:-1], (stack[-1] + symbol) % len(SYMBOLS)]


def run(rng: random.Random) -> Trace:
    tape = [rng.randrange(len(SYMBOLS)) for _ in range(TAPE)]
    control, stack, steps = 0, list[int](), list[Step]()
    for symbol in tape:
        operation = chosen(control, symbol, stack)
        held = {"control": str(control), "input": SYMBOLS[symbol], "operation": operation}
        held |= {cell: SYMBOLS[value] for cell, value in zip(CELLS, reversed(stack), strict=False)}
        steps.append(Step(SYMBOLS[symbol], held))
        stack, control = execute(operation, symbol, stack), (2 * control + symbol + 1) % CONTROLS
    written = " ".join(SYMBOLS[symbol] for symbol in tape)
    return Trace(written, f"tape {written}", " ".join(SYMBOLS[value] for value in stack) or "empty", steps)


SYSTEM = System("stack_machine", REGISTERS, run, SYMBOLS)
