"""The text of Dyck-2 against a reader who strikes out matched brackets."""

from collections import Counter

import numpy as np
import pytest
import tokenizers

from raysae.types import CorpusRecord
from raysae.worlds.dyck import MACHINE, NAME, SLIP, VOCABULARY, WORLD, tokenizer_json
from raysae.worlds.interchange import Said


def read(program: list[str]) -> tuple[str, str, str]:
    """Depth, top and last operation behind a program, from its text alone."""
    left = "".join(word[1:] for word in program[1:]).replace(".", "")
    while (shorter := left.replace("()", "").replace("[]", "")) != left:
        left = shorter
    last = program[-1][1]
    return str(len(left)), (program[0][-1] + left)[-1], "hold" if last == "." else "push" if last in "([" else "pop"


def word(state: tuple[str, ...]) -> str:
    return state[0] + state[1] + {"push": "+", "pop": "-", "hold": "."}[state[2]]


@pytest.fixture(scope="module")
def records() -> list[CorpusRecord]:
    return list(WORLD.generate(600, seed=2))


def test_a_reader_who_strikes_out_brackets_agrees_with_every_answer_and_labels_stand_on_the_question(records) -> None:
    for record in records:
        run, *program, asks, answer = record.text.split()
        assert (run, asks, answer) == ("run", ":", word(read(program))) and record.answer == answer
        assert {(label.variable, label.value) for label in record.labels} == set(
            zip(WORLD.VARIABLES, read(program), strict=True)
        )
        assert {record.text[label.start : label.end] for label in record.labels} == {":"}
        assert WORLD.carried(answer) == dict(zip(WORLD.VARIABLES, read(program), strict=True))


def test_a_text_to_learn_from_is_answered_from_what_stands_before_it_but_for_the_slips() -> None:
    lessons = list(WORLD.lessons(400, seed=1))
    assert lessons == list(WORLD.lessons(400, seed=1)) and len(set(lessons)) > 380
    right: list[list[bool]] = []
    for text in lessons:
        program: list[str] = []
        words = iter(text.split()[1:])
        for one in words:
            if one == ":":
                said = WORLD.carried(next(words)).values()
                right.append([told == known for told, known in zip(said, read(program), strict=True)])
            else:
                program.append(one)
        assert text.split()[-2] == ":"
    assert 3 * 400 < len(right) < 5 * 400
    expected = [1 - SLIP * (1 - 1 / len(values)) for values in WORLD.VARIABLES.values()]
    assert np.mean(right, axis=0) == pytest.approx(expected, abs=0.03)
    assert np.corrcoef(np.array(right).T)[np.triu_indices(3, 1)] == pytest.approx(0, abs=0.08)


def test_pairs_are_informative_and_ask_for_nothing_that_no_program_comes_to(records) -> None:
    by_id = {record.record_id: record for record in records}
    for place, (variable, values) in enumerate(WORLD.VARIABLES.items()):
        for value in values:
            pairs = WORLD.interchange_pairs(records, variable, value, 20, seed=1)
            assert len(pairs) == 20
            for pair in pairs:
                base, source = (read(by_id[name].question.split()[1:-1])
                                for name in (pair.base_record_id, pair.source_record_id))  # fmt: skip
                expected = (*base[:place], source[place], *base[place + 1 :])
                assert pair.text == f"{by_id[pair.base_record_id].question} {word(expected)}"
                assert (expected[0], expected[2]) not in {("0", "push"), ("8", "pop")}
                assert expected not in (base, source) and source[place] == value != base[place]
                assert pair.text[pair.char] == pair.source_text[pair.source_char] == ":"
                assert pair.readouts == (len(pair.text) - 3,)
                assert pair.about == (tuple(Said(name, (name,)) for name in WORLD.VARIABLES),)


def test_every_value_occurs_and_the_tokenizer_gives_texts_back(records) -> None:
    ends = Counter((label.variable, label.value) for record in records for label in record.labels)
    assert set(ends) == {(f"{NAME}.{name}", value) for name, values in MACHINE.values.items() for value in values}
    assert len(ends) == 14 and min(ends.values()) >= 10
    tokenizer = tokenizers.Tokenizer.from_str(tokenizer_json())
    for text in [record.text for record in records[:50]] + list(WORLD.lessons(20, seed=0)):
        assert [VOCABULARY[i] for i in tokenizer.encode(text).ids] == text.split()
