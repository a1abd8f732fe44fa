"""The bracket machines' texts against a reader who knows no stack: matched brackets are struck out of a string."""

from collections import Counter
from pathlib import Path

import pytest
import tokenizers

import raysae
from raysae.corpora.splits import problem
from raysae.types import CorpusRecord
from raysae.worlds.brackets import MACHINES, READOUTS, TEXT_WORDS, VOCABULARY
from raysae.worlds.compiled import COMPILED, tokenizer_json

BOUNDS = {"a": 4, "b": 6, "c": 4, "d": 6, "e": 5, "f": 8}


def struck_out(signs: str) -> str:
    """What is left when `()`, `[]`, `{}` and `<>` are struck out until there are none."""
    for pair in ("()", "[]", "{}", "<>") * len(signs):
        signs = signs.replace(pair, "")
    return signs


def read(program: list[str]) -> dict[str, str]:
    """Every readout behind a program, from its text alone."""
    letter, ground = program[0].split("_")
    left = struck_out("".join(word[1:] for word in program[1:]).replace(".", ""))
    top, last = (ground + left)[-1], program[-1][1:]
    closing = {"(": ")", "[": "]", "{": "}", "<": ">"}[top]
    return {
        "depth": str(len(left)),
        "top": top,
        "operation": "hold" if last == "." else "push" if last in "([{<" else "pop",
        "legal": ("+" if len(left) < BOUNDS[letter] else "") + (closing if left else ""),
        "closed": "open" if left else "closed",
        "parity": "odd" if len(program) % 2 else "even",
    }


@pytest.fixture(scope="module")
def records() -> dict[str, list[CorpusRecord]]:
    return {name: list(world.generate(300, seed=2)) for name, world in COMPILED.items()}


def test_a_reader_who_strikes_out_brackets_agrees_with_every_answer_and_every_label(records) -> None:
    for name, some in records.items():
        for record in some:
            run, *program, end, ask, answers = record.text.split(" ", len(record.question.split()) + 1)
            assert (run, end, ask) == ("run", ":", "is")
            assert answers == record.answer == " ".join(read(program)[readout] for readout in READOUTS)
            labelled = {(label.start, label.variable): label.value for label in record.labels}
            char = len("run ")
            for place, word in enumerate([*program, end]):
                said = read(program[: place + 1])
                for variable in ("depth", "top", "operation"):
                    expected = None if (variable, place) == ("operation", 0) else said[variable]
                    assert labelled.pop((char, f"{name}.{variable}"), None) == expected
                char += len(word) + 1
            assert not labelled


def test_every_machine_comes_to_every_value_and_no_text_is_longer_than_the_models_can_read(records) -> None:
    for name, some in records.items():
        ends = [COMPILED[name].machine.at_delimiter(record.question.split()[1:-1]) for record in some]
        for variable, values in COMPILED[name].machine.values.items():
            counts = Counter(end.value(variable) for end in ends)
            assert set(counts) == set(values) and min(counts.values()) >= 3
        assert max(len(record.text.split()) for record in some) <= TEXT_WORDS


def test_a_record_depends_on_its_number_and_the_seed_alone_and_equal_programs_are_one_problem() -> None:
    world = COMPILED["brackets_a"]
    assert list(world.generate(5, seed=3, start=7)) == list(world.generate(12, seed=3))[7:]
    assert next(world.generate(1, seed=4)) != next(world.generate(1, seed=3))
    seen: dict[str, str] = {}
    for record in world.generate(2000, seed=0):
        assert seen.setdefault(record.question, problem(record)) == problem(record)
    assert len(set(seen.values())) == len(seen)


def test_an_illegal_program_is_refused() -> None:
    machine = COMPILED["brackets_a"].machine
    for words in (["a_(", "a)"], ["a_(", "a(", "a]"], ["a_[", *["a("] * 5], ["a_(", "b("], ["a_(", "a{"]):
        with pytest.raises(ValueError, match="at depth"):
            machine.states(words)


def test_a_pair_is_informative_and_writes_what_the_program_says(records) -> None:
    for name, world in COMPILED.items():
        by_id = {record.record_id: record for record in records[name]}
        for variable, values in world.VARIABLES.items():
            for value in values:
                for pair in world.interchange_pairs(records[name], variable, value, 20, seed=1):
                    base, source = by_id[pair.base_record_id], by_id[pair.source_record_id]
                    kept, brought = (read(record.question.split()[1:-1]) for record in (base, source))
                    changed = variable.partition(".")[2]
                    found = dict(zip(READOUTS, pair.text.split()[-len(READOUTS) :], strict=True))
                    assert found[changed] == brought[changed] == value != kept[changed]
                    others = [readout for readout in ("depth", "top", "operation", "parity") if readout != changed]
                    assert all(found[readout] == kept[readout] for readout in others)
                    assert any(kept[r] != brought[r] for r in ("depth", "top", "operation") if r != changed)
                    assert pair.text.startswith(base.question) and pair.source_text == source.text
                    assert pair.text[pair.char] == pair.source_text[pair.source_char] == ":"
                    assert [pair.text[char:].split(" ")[0] for char in pair.readouts] == [*found.values()]


def test_what_is_legal_follows_from_both_depth_and_top_whatever_else_holds() -> None:
    machine = COMPILED["brackets_a"].machine
    state = machine.at_delimiter(["a_(", "a["])
    said = {depth: machine.readouts(state.exchanged("depth", str(depth)))[3] for depth in range(5)}
    assert said == {0: "+", 1: "+]", 2: "+]", 3: "+]", 4: "]"}
    assert machine.readouts(state.exchanged("top", "("))[:4] == ("1", "(", "push", "+)")


def test_there_are_enough_units_and_the_bundled_tokenizer_knows_every_word() -> None:
    assert len(MACHINES) == 6
    assert sum(len(values) for world in COMPILED.values() for values in world.VARIABLES.values()) == 75
    bundled = Path(raysae.__file__).parent / "models" / "bundled" / "compiled" / "tokenizer.json"
    assert bundled.read_text() == tokenizer_json()
    tokenizer = tokenizers.Tokenizer.from_str(tokenizer_json())
    for world in COMPILED.values():
        for record in world.generate(50, seed=1):
            ids = tokenizer.encode(record.text).ids
            assert [VOCABULARY[i] for i in ids] == record.text.split()
