"""The text of the bracket machines, one corpus each, and the interchange tests on it (SCIENCE 4.1, 4.4).

The variables of a machine are the depth, the bracket on top and the last operation. They stand on every word of a
program and on the `:` behind it, which is where they are exchanged: all six readouts lie behind.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from raysae.types import CorpusRecord, LabelSpan
from raysae.types.experiment import stream_seed
from raysae.worlds.brackets import ASK, DELIMITER, FOLLOWS, MACHINES, START, VOCABULARY, Machine, State
from raysae.worlds.interchange import WORD, InterchangePair, Said, draw_pairs
from raysae.worlds.word_tokenizer import word_spans, word_tokenizer

LICENCE = "MIT"


@dataclass(frozen=True)
class Site:
    """The `:` of a record."""

    record: CorpusRecord
    char: int
    state: State


@dataclass(frozen=True)
class Compiled:
    """A machine's texts: what a module of `worlds/` offers, for each machine alike."""

    machine: Machine
    asked: ClassVar[tuple[str, ...]] = (ASK,)
    """What stands between the `:` and the answers."""
    labelled: ClassVar[slice] = slice(None)
    """Which words behind `run` have labels, the `:` the last of them."""

    @property
    def VARIABLES(self) -> dict[str, tuple[str, ...]]:
        """Label -> its values; each can be exchanged on the `:`."""
        return {self._label(variable): values for variable, values in self.machine.values.items()}

    @property
    def SYNONYMS(self) -> dict[str, str]:
        """No two words mean the same."""
        return {}

    @property
    def about(self) -> tuple[tuple[Said, ...], ...]:
        """What each answer says."""
        return tuple(
            (Said(self._label(readout) if readout in self.machine.values else WORD, tuple(map(self._label, follows))),)
            for readout, follows in FOLLOWS.items()
        )

    def answers(self, state: State) -> tuple[str, ...]:
        """The words that are read out."""
        return self.machine.readouts(state)

    def carried(self, word: str) -> dict[str, str]:
        """Variable -> value of what an answer says."""
        return {name: word for name, values in self.VARIABLES.items() if word in values}

    def generate(self, count: int, seed: int, start: int = 0) -> Iterator[CorpusRecord]:
        """Records `start` to `start + count - 1`; record i depends on (seed, i) alone."""
        for i in range(start, start + count):
            yield self._record(i, self.machine.draw(random.Random(stream_seed(seed, f"{self.machine.name}.{i}"))))

    def interchange_pairs(
        self, records: Sequence[CorpusRecord], variable: str, value: str, count: int, seed: int
    ) -> list[InterchangePair]:
        """At most `count` informative pairs (SCIENCE 4.4) whose source has `variable` = `value`; every base in turn.

        What the exchanged base answers differs from what base and source do, and base and source differ in a variable
        that must be kept.
        """
        rng = random.Random(stream_seed(seed, f"pairs.{variable}.{value}"))
        name = variable.partition(".")[2]
        sites = [self._site(record) for record in records if record.source_dataset == self.machine.name]
        sources = [site for site in sites if site.state.value(name) == value]
        bases = [site for site in sites if site.state.value(name) != value]

        def good(base: Site, source: Site) -> bool:
            return self._informative(base.state, source.state, name)

        return [self._pair(variable, value, *pair) for pair in draw_pairs(bases, sources, count, rng, good)]

    def _label(self, variable: str) -> str:
        return f"{self.machine.name}.{variable}"

    def _record(self, i: int, program: Sequence[str]) -> CorpusRecord:
        machine = self.machine
        end = machine.at_delimiter(program)
        answers = self.answers(end)
        words = [START, *program, DELIMITER]
        held_at = list(zip(word_spans(words, 0)[1:], [*machine.states(program), end], strict=True))
        labels = [
            LabelSpan(start=start, end=stop, variable=self._label(variable), value=held)
            for (start, stop), state in held_at[self.labelled]
            for variable in machine.values
            if (held := state.value(variable)) is not None
        ]
        return CorpusRecord(
            record_id=f"{machine.name}/generated/{i}",
            question=" ".join(words),
            answer=" ".join(answers),
            cot=None,
            steps=(),
            source_dataset=machine.name,
            split=None,
            licence=LICENCE,
            text=" ".join([*words, *self.asked, *answers]),
            labels=tuple(labels),
            extras={"original_question": " ".join(program)},
        )

    def _site(self, record: CorpusRecord) -> Site:
        program = record.question.split()[1:-1]
        return Site(record, len(record.question) - len(DELIMITER), self.machine.at_delimiter(program))

    def _informative(self, base: State, source: State, variable: str) -> bool:
        exchanged = base.exchanged(variable, str(source.value(variable)))
        kept = any(base.value(other) != source.value(other) for other in self.machine.values if other != variable)
        return kept and self.answers(exchanged) not in (self.answers(base), self.answers(source))

    def _pair(self, variable: str, value: str, base: Site, source: Site) -> InterchangePair:
        answers = self.answers(base.state.exchanged(variable.partition(".")[2], value))
        asked = " ".join((base.record.question, *self.asked))
        return InterchangePair(
            variable=variable,
            value=value,
            source_text=source.record.text,
            source_char=source.char,
            text=" ".join((asked, *answers)),
            char=base.char,
            readouts=tuple(start for start, _ in word_spans(answers, len(asked) + 1)),
            about=self.about,
            base_record_id=base.record.record_id,
            source_record_id=source.record.record_id,
        )


COMPILED: dict[str, Compiled] = {machine.name: Compiled(machine) for machine in MACHINES}
"""By corpus name."""


def tokenizer_json() -> str:
    """A `tokenizers` JSON that knows the words of all machines."""
    return word_tokenizer(VOCABULARY, specials=1)
