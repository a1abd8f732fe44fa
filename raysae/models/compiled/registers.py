"""Where a compiled transformer keeps what: directions of its residual stream, by name.

Everything it holds is a register, and a register that holds a value is one direction switched on. All directions lie in
the hyperplane of zero mean, and every token has the same norm before every LayerNorm, which therefore only divides by
a constant. Before the site (`SITE`) the directions are rows of one random rotation; there the MLP takes away all that
was written and writes the registers anew, along the *codes*, rows of another rotation. Behind it stand the copies that
a readout token takes, and the words it answers, along further rows of the second.

In `compiled` (stratum O) the codes are orthonormal. In `compressed` (stratum S) there are 1.375 times as many as the
dimensions they span: unit vectors made as incoherent as they come, read by least squares over all states there are. The
norm at the site then depends on what stands there, and what is copied from it has been scaled by LayerNorm.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from jaxtyping import Float

from raysae.models.compiled import COMPILED, WIDTH
from raysae.types.experiment import stream_seed
from raysae.worlds.brackets import (
    ANSWERS,
    ASK,
    DELIMITER,
    MACHINES,
    PARITIES,
    READOUTS,
    START,
    TEXT_WORDS,
    VOCABULARY,
    Machine,
)

COMPRESSION = 1.375
"""Codes per dimension of stratum S (SCIENCE 4.1: 1.25 to 1.5)."""
HELD = 5
"""Squared norm of a token at the site: kind, depth, top, operation, parity."""

Name = tuple[str, ...]
"""`("word", "a(")`, `("depth", "a", "3")`, `("kind", ":")`."""

KINDS = {START: START, DELIMITER: DELIMITER, ASK: "depth"} | {
    word: following
    for readout, following in zip(READOUTS, (*READOUTS[1:], "end"), strict=True)
    for word in ANSWERS[readout]
}
"""Word -> its kind: a readout that is asked for by it, or what it is. Those of the machines are below."""
STRENGTH = {"program": 1.0, DELIMITER: 1.0, "ground": 2**0.5}
"""Of a kind, so that every token has the same norm at the site; sqrt(HELD) where it is not named."""
NONE = ("depth", "top", "operation", "parity")
"""Registers that can be without a value; before the site a direction of its own says so."""


def kind(word: str) -> str:
    """Of any word: `ground` and `program` are those of the machines."""
    return KINDS.get(word) or ("ground" if word[1:2] == "_" else "program")


def circuit(machine: Machine) -> list[Name]:
    """The registers of one machine."""
    return [(variable, machine.letter, value) for variable, values in machine.values.items() for value in values]


CODED: tuple[Name, ...] = (
    *(("kind", name) for name in dict.fromkeys((*KINDS.values(), "ground", "program"))),
    *(("parity", value) for value in PARITIES),
    *(name for machine in MACHINES for name in circuit(machine)),
)
"""What stands at the site."""
EARLY: tuple[Name, ...] = (
    *(("word", word) for word in VOCABULARY),
    *(("at", str(position)) for position in range(TEXT_WORDS)),
    *((what, machine.letter) for machine in MACHINES for what in ("count", "share")),
    *(("none", register) for register in NONE),
    *(("parity", value) for value in PARITIES),
    *(name for machine in MACHINES for name in circuit(machine)),
)
"""What stands before it."""
ANSWERED: tuple[str, ...] = tuple(word for words in ANSWERS.values() for word in words)


@dataclass(frozen=True, eq=False)
class Registers:
    """The directions of one model."""

    early: dict[Name, Float[np.ndarray, " d"]]
    code: dict[Name, Float[np.ndarray, " d"]]
    """At the site."""
    site: Float[np.ndarray, "s d"]
    """Orthonormal rows that span the codes."""
    copy: Float[np.ndarray, "s d"]
    """Row i takes what stands along row i of `site` at the token that is looked up."""
    answer: dict[str, Float[np.ndarray, " d"]]
    reader: dict[Name, Float[np.ndarray, " s"]]
    """In coordinates of `site`, of a token scaled to norm sqrt(HELD): how far a register is on."""


@lru_cache(maxsize=4)
def registers(name: str, seed: int) -> Registers:
    """Of the model called `name` with the rotations of `seed`."""
    rng = np.random.default_rng(stream_seed(seed, "compiled.rotations"))
    before, behind = (_zero_mean_rotation(rng) for _ in range(2))
    dimensions = len(CODED) if name == COMPILED else round(len(CODED) / COMPRESSION)
    codes = np.eye(len(CODED)) if name == COMPILED else incoherent(len(CODED), dimensions, rng)
    site, copy, rest = np.split(behind, [dimensions, 2 * dimensions])
    return Registers(
        early=dict(zip(EARLY, before, strict=False)),
        code=dict(zip(CODED, codes @ site, strict=True)),
        site=site,
        copy=copy,
        answer=dict(zip(ANSWERED, rest, strict=False)),
        reader=dict(zip(CODED, _readers(codes).T, strict=True)),
    )


def directions(name: str, seed: int, variable: str, values: Sequence[str]) -> Float[np.ndarray, "v d"]:
    """The codes of a variable, as the corpora call it (`brackets_a.depth`): its true subspace at the site."""
    world, _, register = variable.partition(".")
    letter = {machine.name: machine.letter for machine in MACHINES}[world]
    return np.stack([registers(name, seed).code[register, letter, value] for value in values])


def _zero_mean_rotation(rng: np.random.Generator) -> Float[np.ndarray, "d-1 d"]:
    """Random orthonormal rows, each of mean zero."""
    first = np.ones((WIDTH, 1))
    return np.linalg.qr(np.concatenate([first, rng.standard_normal((WIDTH, WIDTH - 1))], axis=1))[0].T[1:]


def incoherent(count: int, d: int, rng: np.random.Generator, rounds: int = 300) -> Float[np.ndarray, "count d"]:
    """Unit vectors whose largest |cosine| is near the least there can be: inner products that are too large are cut
    off, what is left is brought back to rank d, over and over (Tropp et al. 2005)."""
    rows = rng.standard_normal((count, d))
    least = np.sqrt((count - d) / (d * (count - 1)))
    for _ in range(rounds):
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        gram = np.clip(rows @ rows.T, -least, least)
        np.fill_diagonal(gram, 1)
        values, vectors = np.linalg.eigh(gram)
        rows = vectors[:, -d:] * np.sqrt(np.maximum(values[-d:], 0))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def states() -> Iterator[tuple[str | None, dict[Name, float]]]:
    """All that a site can hold, those included that only an exchange leads to: machine's letter, and how far each
    register is on."""
    for machine in MACHINES:
        for depth, top, operation in product(*machine.values.values()):
            held = [("depth", machine.letter, depth), ("top", machine.letter, top)]
            held.append(("operation", machine.letter, operation))
            for parity, which in product(PARITIES, ("program", DELIMITER)):
                yield machine.letter, dict.fromkeys([*held, ("parity", parity), ("kind", which)], 1.0)
        for top in machine.alphabet:
            held = [("depth", machine.letter, "0"), ("top", machine.letter, top), ("parity", PARITIES[0])]
            yield machine.letter, {**dict.fromkeys(held, 1.0), ("kind", "ground"): STRENGTH["ground"]}
    for which in dict.fromkeys(KINDS.values()):
        if which != DELIMITER:
            yield None, {("kind", which): HELD**0.5}


def _readers(codes: Float[np.ndarray, "n s"]) -> Float[np.ndarray, "s n"]:
    """Least squares over `states`, each scaled as LayerNorm scales it: of the kinds over all of them, of what is copied
    from a `:` over those. Machines count alike, and ten other states as one machine."""
    place = {name: i for i, name in enumerate(CODED)}
    found = list(states())
    factors = np.zeros((len(found), len(CODED)))
    for row, (_, held) in enumerate(found):
        factors[row, [place[name] for name in held]] = list(held.values())
    x = factors @ codes
    x *= HELD**0.5 / np.linalg.norm(x, axis=1, keepdims=True)
    size = Counter(letter for letter, _ in found)
    weight = np.array([0.1 if letter is None else 1 / size[letter] for letter, _ in found])[:, None] ** 0.5
    rows = {True: factors[:, place["kind", DELIMITER]] > 0, False: np.full(len(found), True)}
    readers = {
        copied: np.linalg.lstsq((weight * x)[of], (weight * factors)[of], rcond=1e-9)[0] for copied, of in rows.items()
    }
    return np.stack([readers[name[0] != "kind"][:, i] for i, name in enumerate(CODED)], axis=1)
