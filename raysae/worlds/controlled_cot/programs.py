"""Problems of two to four operations and the program that solves each: arithmetic, unit conversion, looking a price up,
what two sets have in common."""

import random
from dataclasses import dataclass
from typing import Literal

from raysae.worlds.controlled_cot.templates import BOTH, WITH
from raysae.worlds.controlled_cot.words import LARGEST, Dialect

Value = int | str
"""A number, or a thing by its name."""
Kind = Literal["plus", "minus", "times", "price", "shared"]
AMOUNTS, RATES, PRICES = range(1, 13), range(2, 5), range(1, 10)
RESERVED = 4
"""Problems whose numbers sum to a multiple of it stand in the sets of TEST that have no hash to divide them."""


@dataclass(frozen=True)
class Fact:
    """A sentence of the question."""

    kind: Literal["amount", "rate", "price", "wants"]
    subject: str
    number: int = 0
    things: tuple[str, ...] = ()


@dataclass(frozen=True)
class Op:
    """One operation of a program."""

    kind: Kind
    operands: tuple[Value, ...]
    result: Value
    reads: tuple[Fact, ...] = ()
    """Amounts and rates of the question that it takes."""
    needs: tuple[int, ...] = ()
    """Operations whose results it takes."""


@dataclass(frozen=True)
class Problem:
    """Facts, some of them of no use, and what is asked."""

    facts: tuple[Fact, ...]
    asked: tuple[str, ...]
    ops: tuple[Op, ...]

    @property
    def answer(self) -> Value:
        return self.ops[-1].result

    @property
    def reserved(self) -> bool:
        return sum(fact.number for fact in self.facts) % RESERVED == 0


def compute(kind: str, left: int, right: int) -> int:
    """One step of arithmetic."""
    return {"plus": left + right, "minus": left - right, "times": left * right}[kind]


SHAPES = ("sum", "sum", "priced", "price", "converted", "converted_price", "shared", "tree", "tree")
"""How a program may be built: each is as likely as it is often here."""


def draw_problem(rng: random.Random, dialect: Dialect, *, reserved: bool | None = None, shape: str = "") -> Problem:
    """A problem whose every value lies in 0 to LARGEST; with `reserved`, one that is so or is not; of one shape where
    that is named."""
    while True:
        builder = _Builder(rng, dialect)
        problem = builder.build(shape or rng.choice(SHAPES))
        if problem is not None and reserved in (None, problem.reserved):
            return problem


@dataclass(frozen=True)
class _Term:
    words: tuple[str, ...]
    value: int
    reads: tuple[Fact, ...] = ()
    needs: tuple[int, ...] = ()


class _Builder:
    def __init__(self, rng: random.Random, dialect: Dialect) -> None:
        self.rng = rng
        self.facts: list[Fact] = []
        self.ops: list[Op] = []
        self.names, self.items = (rng.sample(words, len(words)) for words in (dialect.names, dialect.items))
        self.unit = rng.choice(dialect.units)

    def build(self, shape: str) -> Problem | None:
        """None where a value falls out of range, or one operation stands twice and only its first would be new."""
        pick = self.rng.choice
        if shape == "tree":
            left, right = (self._sign(self._amount(), self._amount()) for _ in range(2))
            whole = left and right and self._combine("plus", WITH, left, right)
        else:
            begins = {"price": self._price, "shared": self._shared}
            whole = begins.get(shape, self._amount)()
            if shape.startswith("converted"):
                whole = self._combine("times", "times", whole, self._rate())
            rest = {"priced": ("amount", "price"), "converted_price": ("price",), "converted": ("amount",)}.get(
                shape, ("amount",) * pick((1, 2) if self.ops else (2, 3))
            )
            for kind in rest:
                whole = whole and self._sign(whole, self._price() if kind == "price" else self._amount())
        if not whole or len({(op.kind, op.operands) for op in self.ops}) < len(self.ops):
            return None
        for _ in range(pick((0, 1, 2))):
            if pick((True, False)) and self.names:
                self._amount()
            elif self.items:
                self.facts.append(Fact("price", self.items.pop(), pick(PRICES)))
        self.rng.shuffle(self.facts)
        return Problem(tuple(self.facts), whole.words, tuple(self.ops))

    def _amount(self) -> _Term:
        fact = Fact("amount", self.names.pop(), self.rng.choice(AMOUNTS))
        self.facts.append(fact)
        return _Term((fact.subject,), fact.number, reads=(fact,))

    def _rate(self) -> _Term:
        fact = Fact("rate", self.unit, self.rng.choice(RATES))
        self.facts.append(fact)
        return _Term((fact.subject,), fact.number, reads=(fact,))

    def _price(self, item: str = "", needs: tuple[int, ...] = ()) -> _Term:
        fact = Fact("price", item or self.items.pop(), self.rng.choice(PRICES))
        self.facts.append(fact)
        self.ops.append(Op("price", (fact.subject,), fact.number, needs=needs))
        return _Term((fact.subject,), fact.number, needs=(len(self.ops) - 1,))

    def _shared(self) -> _Term:
        who = (self.names.pop(), self.names.pop())
        common = self.items.pop()
        for name in who:
            things = [common, self.items.pop()]
            self.rng.shuffle(things)
            self.facts.append(Fact("wants", name, things=tuple(things)))
        self.ops.append(Op("shared", who, common))
        priced = self._price(common, needs=(len(self.ops) - 1,))
        return _Term((BOTH, *who), priced.value, needs=priced.needs)

    def _sign(self, left: _Term, right: _Term) -> _Term | None:
        kind = self.rng.choice(("plus", "minus"))
        return self._combine(kind, kind, left, right)

    def _combine(self, kind: Kind, word: str, left: _Term, right: _Term) -> _Term | None:
        value = compute(kind, left.value, right.value)
        if not 0 <= value <= LARGEST:
            return None
        self.ops.append(Op(kind, (left.value, right.value), value, left.reads + right.reads, left.needs + right.needs))
        return _Term((*left.words, word, *right.words), value, needs=(len(self.ops) - 1,))
