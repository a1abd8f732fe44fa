"""Interchange without a model: does exchanging a register's latents lead to the state that the program says.

A pair is two TEST tokens of one system from different documents. The base's activation takes over the source's values
of the latents chosen for one register, then the whole state is read by the true directions of its system. It must be
the base's state with the source's value in that register: doing nothing fails because the register differs, copying
everything because another register does. What the system does next follows from the state, so equal states have equal
futures.
"""

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch

from raysae.falsification.criterion import CEILING_J
from raysae.falsification.metrics import causal
from raysae.falsification.metrics.matching import permuted_rows
from raysae.stages.capture import MAIN
from raysae.stages.court import PERMUTED, Court, Examination
from raysae.stages.exhibits.base import Plain
from raysae.stages.exhibits.pairs import drawn_sets
from raysae.stages.measure import Sample, by_variable
from raysae.stages.seal import pair_seed
from raysae.stages.states import truth
from raysae.types import Split
from raysae.types.experiment import stream_seed
from raysae.worlds.states import System
from raysae.worlds.systems import SYSTEMS

HELD = 0.5
"""A register holds the value with the largest amplitude, if that is above half of what a factor is written with."""
ABSENT = -1
ELSEWHERE = -2
"""Code of a token of another system."""


class Codes(NamedTuple):
    """A sample's states of one system, as numbers."""

    registers: dict[str, tuple[str, ...]]
    values: np.ndarray
    """int64 [n, R]: place of each register's value, ABSENT, or ELSEWHERE on tokens of other systems."""


def edited_units(exam: Examination) -> Plain:
    """Units of every registered register value, and for the real arm those of latents chosen on permuted labels."""
    registered = by_variable(exam.protocol.causal_units)
    permuted = exam.arm == MAIN and PERMUTED in exam.experiment.protocol.nulls
    found: Plain = {"units": [], **({PERMUTED: []} if permuted else {})}
    for name in exam.experiment.corpus.names:
        system = SYSTEMS[name]
        judge = StateEdits(exam, system)
        for variable in (variable for variable in registered if variable in system.variables):
            units, null = judge.units(variable, registered[variable], permuted)
            found["units"] += [unit._asdict() for unit in units]
            if permuted:
                found[PERMUTED] += [unit._asdict() for unit in null]
    return found


class StateEdits:
    """One SAE and one system."""

    def __init__(self, exam: Examination, system: System) -> None:
        self.exam, self.system = exam, system
        known = truth(exam.experiment, exam.source)
        own = [i for i, name in enumerate(known.names) if name.partition("=")[0] in system.variables]
        self.directions = torch.from_numpy(known.directions[own]).float()
        sizes = [len(values) for values in system.variables.values()]
        self.first = np.concatenate([[0], np.cumsum(sizes)])
        """Place of each register's first value among the directions."""
        self.fit = codes(exam.fit, system)
        self.W_dec = exam.sae.W_dec.detach()
        self.reader = reader(self.directions)
        self.read_dec = self.W_dec @ self.reader
        """[m, F] what is read of each latent's row: edits are read without being written out."""

    def units(self, variable: str, values: Sequence[str], permuted: bool) -> tuple[list[Any], list[Any]]:
        exam, draws = self.exam, self.exam.protocol.permutations
        register = list(self.system.variables).index(variable)
        names = self.system.variables[variable]
        pairs = state_pairs(exam.court, self.system.name, variable, tuple(values))
        seed = exam.seed(f"matched_latents/{variable}")
        h_base, h_source = exam.test_latents[pairs.base], exam.test_latents[pairs.source]
        read = partial(causal.interchange, h_base, h_source, self.read_dec)
        base = exam.test.x[pairs.base] @ self.reader

        def measure(amplitude: torch.Tensor) -> np.ndarray:
            return self.success(pairs, base + amplitude)

        wanted, held = pairs.expected[:, register], pairs.states[:, register]
        supervised = self._written(register, wanted) - self._written(register, held)
        ceiling = measure(supervised @ self.reader)
        chosen = self._choose(self.fit.values[:, register], names)
        mine = self.fit.values[:, register] > ELSEWHERE
        rates = (exam.fit_latents[torch.from_numpy(mine)] > 0).double().mean(dim=0).numpy()
        sizes = causal.step_sizes(h_base, h_source, self.W_dec)
        able = bool(ceiling.max() >= CEILING_J)
        sets = drawn_sets(rates, chosen, draws, seed, exam.alive.numpy(), sizes, able)
        matched = np.stack([measure(read(torch.from_numpy(taken))) for taken in sets.distinct], axis=1)[:, sets.place]
        latents = torch.tensor(chosen, dtype=torch.int64)
        edit = causal.interchange(h_base, h_source, self.W_dec, latents)
        j, direction = measure(read(latents)), measure(causal.random_direction(edit, seed) @ self.reader)

        def unit(u: int, value: str, success: np.ndarray) -> causal.Unit:
            return causal.Unit(
                variable, value, pairs.values.count(value), float(success[u]), float(ceiling[u]),
                tuple(matched[u].tolist()), float(direction[u]), sets=sets.different,
            )  # fmt: skip

        real = [unit(u, value, j) for u, value in enumerate(values)]
        if not permuted:
            return real, []
        rows = permuted_rows(exam.fit.document.numpy(), exam.seed(f"{PERMUTED}/{variable}"), mine)
        other = self._choose(self.fit.values[rows, register], names)
        null = measure(read(torch.tensor(other, dtype=torch.int64)))
        return real, [unit(u, value, null) for u, value in enumerate(values)]

    def _choose(self, held: np.ndarray, names: tuple[str, ...]) -> list[int]:
        """All latents of a register: one for each of its values, by F1 on the FIT tokens of the system."""
        rows = np.flatnonzero(held > ELSEWHERE)
        per_value, least = self.exam.protocol.latents_per_value, self.exam.protocol.least_f1
        chosen = causal.select_latents(
            self.exam.fit_latents[rows], held[rows], names, per_value, self.exam.alive, least
        )
        return sorted({latent for taken in chosen.values() for latent in taken})

    def _written(self, register: int, held: np.ndarray) -> torch.Tensor:
        """[n, d] the direction of the value that each row holds in the register; 0 where it holds none."""
        rows = self.directions[self.first[register] : self.first[register + 1]]
        return rows[np.maximum(held, 0)] * torch.from_numpy(held >= 0)[:, None]

    def success(self, pairs: "StatePairs", amplitude: torch.Tensor) -> np.ndarray:
        """float64 [v]: for each value, in how many of its pairs the state read from `amplitude` [n, F] is what it must
        be in every register."""
        found = amplitude.numpy()
        largest = np.maximum.reduceat(found, self.first[:-1], axis=1)
        wanted = np.take_along_axis(found, self.first[:-1] + np.maximum(pairs.expected, 0), axis=1)
        held = (wanted == largest) & (largest > HELD)
        right = np.where(pairs.expected == ABSENT, largest <= HELD, held).all(axis=1)
        return (pairs.of_value & right).sum(axis=1) / np.maximum(pairs.of_value.sum(axis=1), 1)


class StatePairs(NamedTuple):
    """All pairs of one register; rows are pairs."""

    values: list[str]
    """[n] the source's value, which the edit brings in"""
    base: np.ndarray
    """int64 [n], row of TEST"""
    source: np.ndarray
    states: np.ndarray
    """int64 [n, R] the base's state"""
    expected: np.ndarray
    """int64 [n, R] the same with the source's value"""
    of_value: np.ndarray
    """bool [v, n], which pairs are of each value"""


@lru_cache(maxsize=64)
def state_pairs(court: Court, name: str, variable: str, values: tuple[str, ...]) -> StatePairs:
    """The registered number of informative pairs for each value, the same for every SAE of a run."""
    system, test = SYSTEMS[name], court.sample(MAIN, Split.TEST)
    state = codes(test, system).values
    register, names = list(system.variables).index(variable), system.variables[variable]
    document = test.document.numpy()
    rng = np.random.default_rng(stream_seed(pair_seed(court.experiment), f"{variable}"))
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for value in values:
        code = names.index(value)
        sources = np.flatnonzero(state[:, register] == code)
        bases = np.flatnonzero((state[:, register] != code) & (state[:, register] > ELSEWHERE))
        # Twelve are drawn for each that is wanted: nearly all that meet are of two documents and differ elsewhere.
        base, source = (rng.choice(rows, 12 * court.protocol.pairs) if len(rows) else rows for rows in (bases, sources))
        least = min(len(base), len(source))
        base, source = base[:least], source[:least]
        differs = (state[base] != state[source]).sum(axis=1) > 1
        good = np.flatnonzero(differs & (document[base] != document[source]))[: court.protocol.pairs]
        found.append((base[good], source[good]))
    base, source = (np.concatenate([pair[side] for pair in found]) for side in (0, 1))
    counts = [len(pair[0]) for pair in found]
    expected = state[base].copy()
    expected[:, register] = state[source, register]
    brought = np.repeat(np.arange(len(values)), counts)
    of_value = brought == np.arange(len(values))[:, None]
    return StatePairs([values[v] for v in brought], base, source, state[base], expected, of_value)


def reader(directions: torch.Tensor) -> torch.Tensor:
    """[d, F]: activations @ it are the amplitudes of the directions [F, d], by least squares. Of a rotation these are
    inner products; in superposition they are exact as long as one system has no more factors than dimensions."""
    return torch.linalg.pinv(directions.double()).float()


def codes(sample: Sample, system: System) -> Codes:
    """States of one system on every token of a sample."""
    columns = []
    for variable, names in system.variables.items():
        places: dict[Any, int] = {value: i for i, value in enumerate(names)} | {None: ABSENT}
        labels = sample.labels.get(variable, np.full(len(sample.x), None))
        columns.append(np.array([places[value] for value in labels], dtype=np.int64))
    values = np.stack(columns, axis=1)
    values[(values == ABSENT).all(axis=1)] = ELSEWHERE
    return Codes(dict(system.variables), values)
