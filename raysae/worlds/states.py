"""Systems whose whole state is known at every micro-step: what `stack` and `traversal` have in common (SCIENCE 3.1).

A system runs on a problem drawn at random and leaves a trace. A micro-step is one word of the record's text, so one
token, and the state in which it is taken is labelled there: a register per variable, prefixed with the system
(`bfs.node`), and nothing for a register that holds no value (a queue's third place when two wait). Registers are
complete: with the problem, they decide every later step.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from raysae.types import CorpusRecord, LabelSpan
from raysae.types.experiment import stream_seed

LICENCE = "MIT"


class Step(NamedTuple):
    """One micro-step."""

    word: str
    """What a reader of the trace sees of it."""
    state: dict[str, str]
    """Register, without its prefix -> value, as it was before the step; a register without a value is absent."""


class Trace(NamedTuple):
    """One run of a system."""

    problem: str
    """The same for two problems that are one: equal, or equal up to the names of nodes."""
    question: str
    answer: str
    steps: Sequence[Step]


@dataclass(frozen=True)
class System:
    """A system by name; a generated corpus like any other."""

    name: str
    registers: Mapping[str, tuple[str, ...]]
    """Register, without its prefix -> the values it can hold."""
    run: Callable[[random.Random], Trace]
    """Draws a problem and runs the system on it."""
    words: tuple[str, ...]
    """All that its text can hold."""

    @property
    def variables(self) -> dict[str, tuple[str, ...]]:
        """Label -> its values."""
        return {f"{self.name}.{register}": values for register, values in self.registers.items()}

    def generate(self, count: int, seed: int, start: int = 0) -> Iterator[CorpusRecord]:
        """Records `start` to `start + count - 1`; record i depends on (seed, i) alone."""
        for i in range(start, start + count):
            yield self._record(i, self.run(random.Random(stream_seed(seed, f"{self.name}.{i}"))))

    def _record(self, i: int, trace: Trace) -> CorpusRecord:
        labels: list[LabelSpan] = []
        end = -1
        for word, state in trace.steps:
            start, end = end + 1, end + 1 + len(word)
            labels += [
                LabelSpan(start=start, end=end, variable=f"{self.name}.{register}", value=value)
                for register, value in state.items()
            ]
        text = " ".join(step.word for step in trace.steps)
        return CorpusRecord(
            record_id=f"{self.name}/generated/{i}",
            question=trace.question,
            answer=trace.answer,
            cot=text,
            steps=(),
            source_dataset=self.name,
            split=None,
            licence=LICENCE,
            text=text,
            labels=tuple(labels),
            extras={"original_question": f"{self.name} {trace.problem}"},
        )


def factor_names(systems: Sequence[System]) -> tuple[str, ...]:
    """`register=value` for every value that a register of these systems can hold, in the order of their declaration."""
    return tuple(
        f"{name}={value}" for system in systems for name, values in system.variables.items() for value in values
    )


def resampled(labels: Mapping[str, np.ndarray], systems: Sequence[System], seed: int) -> dict[str, np.ndarray]:
    """The interventional distribution: every register drawn by itself, as often at each value as in `labels` (variable
    -> object [n]), so that within a system no register tells anything of another. Which tokens are whose stays."""
    rng = np.random.default_rng(seed)
    found = dict(labels)
    for system in systems:
        own = [name for name in system.variables if name in labels]
        present = [np.array([value is not None for value in labels[name]]) for name in own]
        rows = np.flatnonzero(np.any(present, axis=0)) if own else np.empty(0, np.int64)
        for name in own:
            drawn = labels[name].copy()
            drawn[rows] = labels[name][rng.permutation(rows)]
            found[name] = drawn
    return found
