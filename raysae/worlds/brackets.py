"""The bounded bracket machine: a stack, a bound on its depth, and the words it is driven by (SCIENCE 4.1, T1).

    run a_( a[ a( a) a. : is 1 [ hold +] open odd

The ground word (`a_(`) names the machine and the bracket its stack stands on. Each word after it opens a bracket,
closes the one on top, or does nothing (`a.`); `:` ends the program. What follows `is` are the readouts: the depth, the
bracket on top, the last operation, what could legally come next (`+`: any bracket may be opened, `]`: that one may be
closed), whether all is closed, and whether the number of words so far is even, which the stack does not decide.

The ground is not counted and cannot be closed. It is there so that the top says nothing of the depth: on a stack that
can be empty, "depth 0" and "nothing on top" are one event, and no data could tell which of the two a latent means.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

OPENING = "([{<"
CLOSING = ")]}>"
OPERATIONS = ("push", "pop", "hold")
START, DELIMITER, ASK = "run", ":", "is"
CLOSED, PARITIES = ("open", "closed"), ("even", "odd")
FOLLOWS: dict[str, tuple[str, ...]] = {
    "depth": ("depth",),
    "top": ("top",),
    "operation": ("operation",),
    "legal": ("depth", "top"),
    "closed": ("depth",),
    "parity": (),
}
"""Readout -> the circuit variables that it follows from."""
READOUTS = tuple(FOLLOWS)
"""In the order in which they are written."""
SHORTEST, LONGEST = 4, 16
"""Words of a program behind its ground."""
TURN, REST = 0.15, 0.25
"""Chance that a program which goes up turns down, or the reverse, before a word; chance that a word does nothing."""
LEGAL = ("+", *CLOSING, *("+" + sign for sign in CLOSING))


@dataclass(frozen=True)
class State:
    """What a machine holds behind a word."""

    depth: int
    top: str
    operation: str | None
    """That of the word; null on the ground."""
    parity: str
    """Of the number of words so far, `run` included."""

    def exchanged(self, variable: str, value: str) -> "State":
        """The same with another value of a circuit variable."""
        return replace(self, **{variable: int(value) if variable == "depth" else value})

    def value(self, variable: str) -> str | None:
        held = getattr(self, variable)
        return None if held is None else str(held)


@dataclass(frozen=True)
class Machine:
    """One machine: its letter, its brackets and how deep its stack may grow."""

    letter: str
    alphabet: str
    """A prefix of OPENING."""
    bound: int

    @property
    def name(self) -> str:
        return f"brackets_{self.letter}"

    @property
    def values(self) -> dict[str, tuple[str, ...]]:
        """Circuit variable -> the values it can have."""
        return {"depth": tuple(map(str, range(self.bound + 1))), "top": tuple(self.alphabet), "operation": OPERATIONS}

    @property
    def hold(self) -> str:
        return f"{self.letter}."

    def ground(self, bracket: str) -> str:
        return f"{self.letter}_{bracket}"

    def opened(self, bracket: str) -> str:
        return f"{self.letter}{bracket}"

    def closed(self, bracket: str) -> str:
        return f"{self.letter}{CLOSING[OPENING.index(bracket)]}"

    @property
    def words(self) -> tuple[str, ...]:
        """All that only this machine reads."""
        kinds = (self.ground, self.opened, self.closed)
        return (*(kind(bracket) for kind in kinds for bracket in self.alphabet), self.hold)

    def states(self, program: Sequence[str]) -> list[State]:
        """Behind each word of a program, its ground first. ValueError for a word that is not legal where it stands."""
        stack, found = [program[0][-1]], list[State]()
        for place, word in enumerate(program):
            depth, operation = len(stack) - 1, None
            if place:
                operation = self._operation(word)
                if (
                    operation is None
                    or (operation == "push" and depth == self.bound)
                    or (operation == "pop" and (depth == 0 or word != self.closed(stack[-1])))
                ):
                    raise ValueError(f"{word} at depth {depth} on {stack[-1]}")
                if operation == "push":
                    stack.append(word[-1])
                elif operation == "pop":
                    stack.pop()
            found.append(State(len(stack) - 1, stack[-1], operation, PARITIES[place % 2]))
        return found

    def at_delimiter(self, program: Sequence[str]) -> State:
        """The last state again, one word later."""
        return replace(self.states(program)[-1], parity=PARITIES[len(program) % 2])

    def readouts(self, state: State) -> tuple[str, ...]:
        """The words behind `is`; a function of the state alone, so that a state no program reaches has readouts too."""
        legal = "+" if state.depth < self.bound else ""
        legal += CLOSING[OPENING.index(state.top)] if state.depth > 0 else ""
        return (str(state.depth), state.top, str(state.operation), legal, CLOSED[state.depth == 0], state.parity)

    def draw(self, rng: random.Random) -> list[str]:
        """A program that goes up and down the whole of its stack."""
        stack, rising = [rng.choice(self.alphabet)], True
        words = [self.ground(stack[0])]
        for _ in range(rng.randint(SHORTEST, LONGEST)):
            depth = len(stack) - 1
            turned = rising != (rng.random() < TURN)
            rising = depth == 0 or (turned and depth < self.bound)
            if rng.random() < REST:
                words.append(self.hold)
            elif rising:
                stack.append(rng.choice(self.alphabet))
                words.append(self.opened(stack[-1]))
            else:
                words.append(self.closed(stack.pop()))
        return words

    def _operation(self, word: str) -> str | None:
        if word == self.hold:
            return "hold"
        if word[:1] != self.letter or len(word) != 2:
            return None
        if word[1] in self.alphabet:
            return "push"
        return "pop" if word[1] in CLOSING[: len(self.alphabet)] else None


MACHINES = tuple(
    Machine(letter, OPENING[:size], bound)
    for letter, size, bound in (("a", 2, 4), ("b", 2, 6), ("c", 3, 4), ("d", 3, 6), ("e", 4, 5), ("f", 4, 8))
)
"""To add one: its place in this line. The bundled tokenizer must then be written anew."""

ANSWERS: dict[str, tuple[str, ...]] = {
    "depth": tuple(map(str, range(max(machine.bound for machine in MACHINES) + 1))),
    "top": tuple(OPENING),
    "operation": OPERATIONS,
    "legal": LEGAL,
    "closed": CLOSED,
    "parity": PARITIES,
}
"""Readout -> the words it can be. No two share a word, so that a word says what is asked next."""

VOCABULARY: tuple[str, ...] = (
    *("<unk>", START, DELIMITER, ASK),
    *(word for machine in MACHINES for word in machine.words),
    *(word for words in ANSWERS.values() for word in words),
)
"""Word of each token id."""
TEXT_WORDS = 2 + LONGEST + 2 + len(READOUTS)
"""Of the longest text."""
