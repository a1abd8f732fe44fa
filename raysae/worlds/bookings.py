"""The language of `arithmetic_cot`: its words, its steps, and what a step becomes when one variable is exchanged."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from raysae.worlds.word_tokenizer import word_tokenizer

PEOPLE = ("Ann", "Ben", "Cal", "Dee")
VERBS = {"add": ("gets", "finds"), "sub": ("loses", "sells"), "mul": ("copies", "repeats")}
SYNONYMS = {
    **dict(zip(PEOPLE, (*PEOPLE[1:], PEOPLE[0]), strict=True)),
    **{verb: other for verbs in VERBS.values() for verb, other in zip(verbs, reversed(verbs), strict=True)},
}
"""Word -> another that changes neither what is computed nor any label: the same story of somebody else, retold."""
SYMBOLS = {"add": "+", "sub": "-", "mul": "*"}
BOOKS = ("a", "b")
DIGITS = tuple("0123456789")
CLOSE = "so"
"""The word that ends a chain of steps."""
STEP_TYPES = ("PARSE", "OPERATE", "FORMAT")

VOCABULARY: tuple[str, ...] = (
    *("<pad>", "<eos>", "<unk>", ".", ":", "=", CLOSE, "has", "in"),
    *PEOPLE,
    *(verb for verbs in VERBS.values() for verb in verbs),
    *BOOKS,
    *DIGITS,
    *(digit + book for digit in DIGITS for book in BOOKS),
    *(symbol + digit for symbol in SYMBOLS.values() for digit in DIGITS),
)
"""Word of each token id."""

VARIABLES: dict[str, tuple[str, ...]] = {
    "total": DIGITS,
    "operation": tuple(VERBS),
    "operand": DIGITS,
    "book": BOOKS,
}
"""Causal variables and their values: each can be exchanged at its site with a predictable outcome. The new total on
`=` is not exchanged: nothing is computed from it there, the model would only write what was put in."""

LABELS: dict[str, tuple[str, ...]] = {**VARIABLES, "step_type": STEP_TYPES}
"""All labelled variables: the causal ones, and the kind of step (PARSE story, OPERATE booking, FORMAT close)."""

# Places of the words of a step: Ann gets 4 in b : 3b +4 = 7b .
OPERAND, BOOK, COLON, COPY, OPERATION, EQUALS, RESULT = 2, 4, 5, 6, 7, 8, 9

SITES = {"total": COLON, "operation": COPY, "operand": COPY, "book": EQUALS}
"""Variable -> the word of a step (counted from 0) on whose token it is exchanged. The book is exchanged where it is
written last: on `:` the model would take it from the story again for the result."""

_VERB_MEANS = {verb: operation for operation, verbs in VERBS.items() for verb in verbs}
_SYMBOL_MEANS = {symbol: operation for operation, symbol in SYMBOLS.items()}


@dataclass(frozen=True)
class Step:
    """One change and its booking."""

    person: str
    verb: str
    operand: int
    book: str
    total: int
    """The running total before the step."""
    written_total: int
    written_operation: str
    written_operand: int
    result: int

    @classmethod
    def read(cls, words: Sequence[str], total: int) -> "Step":
        """The inverse of `words`, given the running total before the step."""
        return cls(
            person=words[0],
            verb=words[1],
            operand=int(words[OPERAND]),
            book=words[BOOK],
            total=total,
            written_total=int(words[COPY][0]),
            written_operation=_SYMBOL_MEANS[words[OPERATION][0]],
            written_operand=int(words[OPERATION][1]),
            result=int(words[RESULT][0]),
        )

    @property
    def operation(self) -> str:
        """What the verb means."""
        return _VERB_MEANS[self.verb]

    @property
    def slipped(self) -> bool:
        """Whether what is written differs from what is so."""
        written = (self.written_total, self.written_operation, self.written_operand)
        return written != (self.total, self.operation, self.operand)

    @property
    def words(self) -> tuple[str, ...]:
        """The eleven words of the step."""
        return (
            *(self.person, self.verb, str(self.operand), "in", self.book, ":"),
            *(f"{self.written_total}{self.book}", f"{SYMBOLS[self.written_operation]}{self.written_operand}"),
            *("=", f"{self.result}{self.book}", "."),
        )

    @property
    def right(self) -> tuple[str, ...]:
        """Its words without the slips."""
        return replace(
            self, written_total=self.total, written_operation=self.operation, written_operand=self.operand
        ).words

    def value(self, variable: str) -> str:
        """The value of a causal variable at its site in this step."""
        return str(getattr(self, variable))

    def exchanged(self, variable: str, value: str) -> "Step":
        """The step as the program continues when `variable` has `value` at its site; only for a step without slips."""
        if variable == "book":
            return replace(self, book=value)
        total = int(value) if variable == "total" else self.total
        operation = value if variable == "operation" else self.operation
        operand = int(value) if variable == "operand" else self.operand
        return replace(
            self,
            written_total=total,
            written_operation=operation,
            written_operand=operand,
            result=compute(operation, total, operand),
        )


def compute(operation: str, total: int, operand: int) -> int:
    """One step of the program, modulo 10."""
    return {"add": total + operand, "sub": total - operand, "mul": total * operand}[operation] % 10


def carried(word: str) -> dict[str, str]:
    """Variable -> value of what a word of a booking says: `7b` a total and a book, `+4` an operation and an operand,
    any other word nothing."""
    if len(word) != 2:
        return {}
    if word[0] in _SYMBOL_MEANS:
        return {"operation": _SYMBOL_MEANS[word[0]], "operand": word[1]}
    return {"total": word[0], "book": word[1]} if word[0] in DIGITS and word[1] in BOOKS else {}


def tokenizer_json() -> str:
    """A `tokenizers` JSON of the vocabulary."""
    return word_tokenizer(VOCABULARY, specials=3)
