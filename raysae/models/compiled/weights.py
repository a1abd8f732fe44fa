"""The bracket machines as the weights of a GPT-2: set by hand, three blocks, nothing learnt (SCIENCE 4.1, T1).

    block 0   a head counts open brackets (uniform attention), another fetches the last operation; the MLP turns the
              count into a depth and the position into a parity
    block 1   a head finds the last bracket that led to this depth; the MLP moves all registers to their codes
    (site)    layers.1.resid_post
    block 2   an asking word looks back at the `:` and copies its codes; the MLP answers by AND gates

LayerNorm divides by a constant that is known (`registers.py`), so every matrix that reads is multiplied by it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from raysae.models.compiled import WIDTH
from raysae.models.compiled.registers import (
    CODED,
    EARLY,
    HELD,
    NONE,
    STRENGTH,
    Name,
    Registers,
    kind,
    registers,
)
from raysae.worlds.brackets import (
    CLOSED,
    CLOSING,
    DELIMITER,
    LONGEST,
    MACHINES,
    OPENING,
    PARITIES,
    READOUTS,
    START,
    TEXT_WORDS,
    VOCABULARY,
    Machine,
)

EPSILON = 1e-5
"""Of LayerNorm."""
TRACE = 0.01
"""How strongly a count is written: too little to be seen in the norm."""
SHARP = 25.0
"""Nats between the best key and the next: what attention gives to any other is below 1e-10."""
STEEP = 2.0 * (LONGEST + 3)
"""So steep that a count which is off by one is never half way up: counts are divided by the number of words."""
OFF = 1000.0
LOUD = 20.0
"""Logit of an answer."""
INITIAL = 6
"""Squared norm before the site: word, position, and four registers, with or without a value."""

Vector = Float[np.ndarray, " d"]


@dataclass(frozen=True)
class Head:
    """One attention head: scores are `query` . `key`, what is attended to is read by `value` and written by `out`."""

    query: Float[np.ndarray, "d r"]
    key: Float[np.ndarray, "d r"]
    value: Float[np.ndarray, "d c"]
    out: Float[np.ndarray, "c d"]


@dataclass(frozen=True)
class Neuron:
    """relu(reads . x + bias), written along `writes`."""

    reads: Vector
    bias: float
    writes: Vector


def weights(name: str, seed: int, neurons: int) -> dict[str, Tensor]:
    """The state of a GPT2LMHeadModel with an MLP of `neurons` in each of three blocks."""
    known = registers(name, seed)
    early = known.early
    none = sum(early["none", register] for register in NONE)
    found: dict[str, np.ndarray] = {
        "transformer.wte.weight": np.stack([early["word", word] + none for word in VOCABULARY]),
        "transformer.wpe.weight": np.stack([early["at", str(p)] for p in range(TEXT_WORDS)]),
        "transformer.ln_f.weight": np.ones(WIDTH),
        "transformer.ln_f.bias": np.zeros(WIDTH),
        "lm_head.weight": np.stack([LOUD * known.answer.get(word, np.zeros(WIDTH)) for word in VOCABULARY]),
    }
    blocks = (
        (INITIAL, [counting(early), last_operation(early)], INITIAL, [*depths(early), *parities(early)]),
        (INITIAL, [last_opened(early)], INITIAL, moved(known)),
        (HELD, [looking_back(known)], 2 * HELD, answers(known)),
    )
    for number, (norm, heads, norm_behind, gates) in enumerate(blocks):
        for layer in ("ln_1", "ln_2"):
            found[f"transformer.h.{number}.{layer}.weight"] = np.ones(WIDTH)
            found[f"transformer.h.{number}.{layer}.bias"] = np.zeros(WIDTH)
        found |= {f"transformer.h.{number}.attn.{key}": value for key, value in _attention(heads, norm).items()}
        found |= {
            f"transformer.h.{number}.mlp.{key}": value for key, value in _mlp(gates, norm_behind, neurons).items()
        }
    return {key: torch.from_numpy(np.ascontiguousarray(value)).float() for key, value in found.items()}


def counting(early: dict[Name, Vector]) -> Head:
    """To `count` and `share` of a machine: its open brackets and its ground, each over the number of words so far."""
    value, out = [], []
    for machine in MACHINES:
        opened, closed = (_words_that(early, machine, operation) for operation in ("push", "pop"))
        value += [opened - closed, _sum(early["word", machine.ground(bracket)] for bracket in machine.alphabet)]
        out += [TRACE * early["count", machine.letter], TRACE * early["share", machine.letter]]
    nothing = np.zeros((WIDTH, 1))
    return Head(nothing, nothing, np.stack(value, axis=1), np.stack(out))


def last_operation(early: dict[Name, Vector]) -> Head:
    """A word of a program looks at itself, `:` at the word before it, any other at `run`, which has no operation."""
    own = _words(early, "program")
    asking = own + early["word", DELIMITER]
    recent = _positions(early)
    far = 2 * TEXT_WORDS * SHARP
    return Head(
        query=np.stack([asking, _words(early) - asking], axis=1),
        key=np.stack([far * own + SHARP * recent, far * early["word", START]], axis=1),
        value=np.stack([_words_that(early, machine, operation) for machine, operation in _operations()], axis=1),
        out=np.stack(
            [
                early["operation", machine.letter, operation] - early["none", "operation"]
                for machine, operation in _operations()
            ]
        ),
    )


def depths(early: dict[Name, Vector]) -> list[Neuron]:
    """count / share is the depth: a step at each value, and a value is the step to it without the next."""
    holding = _holding(early)
    others = _words(early) - holding
    found = []
    for machine in MACHINES:
        count, share = early["count", machine.letter] / TRACE, early["share", machine.letter] / TRACE
        before = early["none", "depth"]
        for value in range(machine.bound + 1):
            here = early["depth", machine.letter, str(value)]
            # From 0 to 1 between a quarter below the value and the value, whatever the number of words.
            reads = STEEP * (count + (0.75 - value) * share) - OFF * others
            found += [Neuron(reads, 0.0, here - before), Neuron(reads, -1.0, before - here)]
            before = here
        found += [Neuron(early[what, machine.letter], 0.0, -early[what, machine.letter]) for what in ("count", "share")]
    return found


def parities(early: dict[Name, Vector]) -> list[Neuron]:
    """Of the position, on the words that hold registers."""
    holding = _holding(early)
    found = []
    for which, parity in enumerate(PARITIES):
        # `run` stands at position 0, so the first word of a program, which is even, at position 1.
        places = _sum(early["at", str(position)] for position in range(1 + which, TEXT_WORDS, 2))
        found.append(Neuron(holding + places, -1.0, early["parity", parity] - early["none", "parity"]))
    return found


def last_opened(early: dict[Name, Vector]) -> Head:
    """The last opening bracket that led to this depth, at depth 0 the ground; without a depth, `run`."""
    opened = _sum(early["word", machine.opened(bracket)] for machine in MACHINES for bracket in machine.alphabet)
    all_depths = [early[name] for name in EARLY if name[0] == "depth"]
    far = 2 * TEXT_WORDS * SHARP
    tops = [(machine, bracket) for machine in MACHINES for bracket in machine.alphabet]
    # Two for the depth and an opening bracket, one and a half for the ground: it wins where no bracket has both.
    rank = far * opened + 1.5 * far * _words(early, "ground") + SHARP * _positions(early)
    return Head(
        query=np.stack([*all_depths, _sum(all_depths), early["none", "depth"]], axis=1),
        key=np.stack([*(far * depth for depth in all_depths), rank, far * early["word", START]], axis=1),
        value=np.stack(
            [early["word", m.opened(bracket)] + early["word", m.ground(bracket)] for m, bracket in tops], axis=1
        ),
        out=np.stack([early["top", m.letter, bracket] - early["none", "top"] for m, bracket in tops]),
    )


def moved(known: Registers) -> list[Neuron]:
    """Everything is taken from where it was; what is to stay is written along its code."""
    found = []
    for name, direction in known.early.items():
        if name[0] in ("count", "share"):
            continue  # gone already
        written = known.code.get(name, np.zeros(WIDTH))
        if name[0] == "word":
            which = kind(name[1])
            written = STRENGTH.get(which, HELD**0.5) * known.code["kind", which]
        found.append(Neuron(direction, 0.0, written - direction))
    return found


def looking_back(known: Registers) -> Head:
    """A word that asks copies the codes at `:`, any other those at `run`."""

    def reads(*kinds: str) -> Vector:
        return _sum(known.reader["kind", which] / STRENGTH.get(which, HELD**0.5) for which in kinds) @ known.site

    others = [name[1] for name in CODED if name[0] == "kind" and name[1] not in READOUTS]
    far = 8 * SHARP
    return Head(
        query=np.stack([reads(*READOUTS), reads(*others)], axis=1),
        key=np.stack([far * reads(DELIMITER), far * reads(START)], axis=1),
        value=known.site.T,
        out=known.copy,
    )


def answers(known: Registers) -> list[Neuron]:
    """One AND gate for each thing that can be said: the readout is asked for, and every register it follows from is
    on."""
    found = []

    def gate(readout: str, word: str, *groups: Iterable[Name]) -> None:
        asked = known.reader["kind", readout] @ known.site / HELD**0.5
        held = [_sum(known.reader[name] for name in group) @ known.copy for group in groups]
        # Half way between all of them and one less.
        found.append(Neuron(2 * (asked + _sum(held)), -2 * (len(held) + 0.5), known.answer[word]))

    for parity in PARITIES:
        gate("parity", parity, [("parity", parity)])
    for machine in MACHINES:
        for variable, values in machine.values.items():
            for value in values:
                gate(variable, value, [(variable, machine.letter, value)])
        depth = [("depth", machine.letter, value) for value in machine.values["depth"]]
        gate("closed", CLOSED[True], depth[:1])
        gate("closed", CLOSED[False], depth[1:])
        gate("legal", "+", depth[:1])
        for bracket in machine.alphabet:
            sign, top = CLOSING[OPENING.index(bracket)], [("top", machine.letter, bracket)]
            gate("legal", "+" + sign, depth[1:-1], top)
            gate("legal", sign, depth[-1:], top)
    return found


def _attention(heads: Sequence[Head], norm: float) -> dict[str, np.ndarray]:
    width = WIDTH // 2
    scale = (norm / WIDTH + EPSILON) ** 0.5
    inside, outside = np.zeros((WIDTH, 3 * WIDTH)), np.zeros((WIDTH, WIDTH))
    for h, head in enumerate(heads):
        for part, matrix in enumerate((head.query, head.key * width**0.5, head.value)):
            first = part * WIDTH + h * width
            inside[:, first : first + matrix.shape[1]] = scale * matrix
        outside[h * width : h * width + len(head.out)] = head.out
    return {
        "c_attn.weight": inside,
        "c_attn.bias": np.zeros(3 * WIDTH),
        "c_proj.weight": outside,
        "c_proj.bias": np.zeros(WIDTH),
    }


def _mlp(gates: Sequence[Neuron], norm: float, neurons: int) -> dict[str, np.ndarray]:
    scale = (norm / WIDTH + EPSILON) ** 0.5
    inside, bias, outside = np.zeros((WIDTH, neurons)), np.zeros(neurons), np.zeros((neurons, WIDTH))
    for i, neuron in enumerate(gates):
        inside[:, i], bias[i], outside[i] = scale * neuron.reads, neuron.bias, neuron.writes
    return {"c_fc.weight": inside, "c_fc.bias": bias, "c_proj.weight": outside, "c_proj.bias": np.zeros(WIDTH)}


def _sum(vectors: Iterable[Vector]) -> Vector:
    return np.sum(list(vectors), axis=0)


def _words(early: dict[Name, Vector], *kinds: str) -> Vector:
    """Reads whether a word is of one of these kinds; without any, whether there is a word: always."""
    return _sum(early["word", word] for word in VOCABULARY if not kinds or kind(word) in kinds)


def _holding(early: dict[Name, Vector]) -> Vector:
    """Reads whether a word holds registers."""
    return _words(early, "ground", "program") + early["word", DELIMITER]


def _positions(early: dict[Name, Vector]) -> Vector:
    """Reads the position."""
    return _sum(p * early["at", str(p)] for p in range(TEXT_WORDS))


def _operations() -> list[tuple[Machine, str]]:
    return [(machine, operation) for machine in MACHINES for operation in machine.values["operation"]]


def _words_that(early: dict[Name, Vector], machine: Machine, operation: str) -> Vector:
    """Reads whether a word of a machine does this."""
    if operation == "hold":
        return early["word", machine.hold]
    kind_of = machine.opened if operation == "push" else machine.closed
    return _sum(early["word", kind_of(bracket)] for bracket in machine.alphabet)
