"""Dyck-2 as text: two kinds of brackets nested up to eight deep, and a question that only the stack answers.

    run y_( y[ y( y) y. : 1[.

A program is that of a bracket machine (`brackets.py`): on a ground bracket words open a bracket, close the one on top,
or do nothing (`y.`); what may be closed follows from the stack, so any model of the text must follow it. One word
behind `:` says the depth, the bracket on top and the last operation (`+` opened, `-` closed, `.` held).

- The word is a compound, so that the variable under test and those that must stay as they were are read out at the
  same place, on the `:` itself. A model that learnt from text alone need not read a state back from a token into which
  it was put, it can always look at the brackets again.
- In the texts to learn from (`lessons`) each third of the word is drawn at random in one case of eight, independently:
  the chance of a compound is then the product of the chances of its thirds, which a sum of three directions says
  exactly. The records are free of such slips.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from raysae.types.experiment import stream_seed
from raysae.worlds.brackets import DELIMITER, OPERATIONS, START, Machine, State
from raysae.worlds.compiled import Compiled
from raysae.worlds.interchange import Said
from raysae.worlds.word_tokenizer import word_tokenizer

NAME = "dyck"
SIGNS: dict[str, str] = dict(zip(OPERATIONS, "+-.", strict=True))
ASKED = 0.3
"""Chance that a text to learn from asks behind a word; it always asks behind the last."""
SLIP = 0.125
"""Chance that what its answer says of a variable is drawn at random, and may be right all the same."""


class _Dyck(Machine):
    @property
    def name(self) -> str:
        return NAME


MACHINE = _Dyck("y", "([", 8)


@dataclass(frozen=True)
class Dyck(Compiled):
    """The text of one machine, with one answer for all."""

    asked: ClassVar[tuple[str, ...]] = ()
    labelled: ClassVar[slice] = slice(-1, None)

    @property
    def about(self) -> tuple[tuple[Said, ...], ...]:
        return (tuple(Said(variable, (variable,)) for variable in self.VARIABLES),)

    def answers(self, state: State) -> tuple[str, ...]:
        return (f"{state.depth}{state.top}{SIGNS[str(state.operation)]}",)

    def carried(self, word: str) -> dict[str, str]:
        if len(word) != 3 or not word[0].isdigit():
            return {}
        operation = next(name for name, sign in SIGNS.items() if sign == word[2])
        return dict(zip(self.VARIABLES, (word[0], word[1], operation), strict=True))

    def lessons(self, count: int, seed: int) -> Iterator[str]:
        """Texts to learn from: asked in their midst as well, and answered by somebody who slips."""
        for i in range(count):
            rng = random.Random(stream_seed(seed, f"{NAME}.lesson.{i}"))
            program = self.machine.draw(rng)
            words = [START, program[0]]
            for place, state in enumerate(self.machine.states(program)[1:], start=1):
                words.append(program[place])
                if place == len(program) - 1 or rng.random() < ASKED:
                    words += [DELIMITER, *self.answers(self._slipped(state, rng))]
            yield " ".join(words)

    def _informative(self, base: State, source: State, variable: str) -> bool:
        """Only where a program comes to the exchanged state: none is on the ground behind an opening bracket, none at
        the bound behind a closing one, and no model has ever been shown how that would be."""
        state = base.exchanged(variable, str(source.value(variable)))
        never = {(0, "push"), (self.machine.bound, "pop")}
        return (state.depth, state.operation) not in never and super()._informative(base, source, variable)

    def _slipped(self, state: State, rng: random.Random) -> State:
        for variable, values in self.machine.values.items():
            if rng.random() < SLIP:
                state = state.exchanged(variable, rng.choice(values))
        return state


WORLD = Dyck(MACHINE)
VOCABULARY: tuple[str, ...] = (
    *("<pad>", "<eos>", "<unk>", START, DELIMITER),
    *MACHINE.words,
    *(
        f"{depth}{top}{sign}"
        for depth in MACHINE.values["depth"]
        for top in MACHINE.alphabet
        for sign in SIGNS.values()
    ),
)
"""Word of each token id."""


def tokenizer_json() -> str:
    """A `tokenizers` JSON of the vocabulary."""
    return word_tokenizer(VOCABULARY, specials=3)
