"""The arithmetic world against an interpreter of its text that knows nothing of how the text was made."""

from collections import Counter

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from raysae.types import CorpusRecord
from raysae.worlds import arithmetic_cot as world

MEANING = {
    **{"gets": "+", "finds": "+", "loses": "-", "sells": "-", "copies": "*", "repeats": "*"},
    **{"add": "+", "sub": "-", "mul": "*"},
}


@pytest.fixture(scope="module")
def records() -> list[CorpusRecord]:
    return list(world.generate(600, seed=5))


def interpret(text: str) -> tuple[list[dict[str, str]], str]:
    """What every step of a text says, word by word, each result evaluated from what is written before it."""
    sentences = text.split(" . ")
    start, close = sentences[0].split(), sentences[-1].split()
    total = start[2]
    steps = []
    for sentence in sentences[1:-1]:
        person, verb, operand, _, book, colon, copy, operation, equals, result = sentence.split()
        assert (person, colon, equals) == (start[0], ":", "=")
        assert copy[1:] == book == result[1:]
        assert result[0] == str(eval(copy[0] + operation) % 10)
        steps.append(
            {
                "total": total,
                "operation": MEANING[verb],
                "operand": operand,
                "book": book,
                "copy": copy,
                "written": operation,
            }
            | {"result": result[0]}
        )
        total = result[0]
    assert close[0] == "so"
    return steps, close[1]


def words_at(text: str) -> dict[int, str]:
    """First character -> word."""
    found, at = {}, 0
    for word in text.split(" "):
        found[at] = word
        at += len(word) + 1
    return found


def test_every_result_follows_from_what_is_written_and_the_answer_is_the_last(records: list[CorpusRecord]) -> None:
    for record in records:
        steps, answer = interpret(record.text)
        assert 2 <= len(steps) <= 4
        assert answer == record.answer == steps[-1]["result"]


def test_question_reasoning_and_answer_make_up_the_text(records: list[CorpusRecord]) -> None:
    for record in records:
        assert record.text == f"{record.question} {record.cot} so {record.answer}"
        assert tuple(record.text[start:end] for start, end in record.step_spans) == record.steps
        assert " ".join(record.steps) == record.cot


def test_labels_sit_on_the_token_before_the_value_is_written(records: list[CorpusRecord]) -> None:
    for record in records:
        steps, _ = interpret(record.text)
        words = words_at(record.text)
        following = dict(zip(words, list(words.values())[1:], strict=False))
        for variable in world.VARIABLES:
            labelled = [MEANING.get(label.value, label.value) for label in record.labels if label.variable == variable]
            twice = {"total": ("total", "result"), "book": ("book", "book")}
            assert labelled == [step[name] for step in steps for name in twice.get(variable, (variable,))]
        for label in record.labels:
            if label.variable == "step_type":
                continue
            assert words[label.start] == record.text[label.start : label.end]
            after = following[label.start]
            if words[label.start] == "=":
                assert label.value == (after[1] if label.variable == "book" else after[0])
            elif label.variable in ("total", "book"):
                assert words[label.start] == ":"
            else:
                assert after[0] in "+-*"


def test_step_types_cover_the_text_once(records: list[CorpusRecord]) -> None:
    for record in records:
        spans = sorted(
            (label.start, label.end, label.value) for label in record.labels if label.variable == "step_type"
        )
        assert " ".join(record.text[start:end] for start, end, _ in spans) == record.text
        kinds = [kind for *_, kind in spans]
        assert kinds == ["PARSE", *["PARSE", "OPERATE"] * len(record.steps), "FORMAT"]


def test_writers_slip_at_the_stated_rates_and_labels_keep_what_is_so() -> None:
    steps = [step for record in world.generate(1500, seed=1) for step in interpret(record.text)[0]]
    for variable, written, share_wrong in (
        ("total", [step["copy"][0] for step in steps], 9 / 10),
        ("operation", [step["written"][0] for step in steps], 2 / 3),
        ("operand", [step["written"][1] for step in steps], 9 / 10),
    ):
        wrong = sum(now != step[variable] for now, step in zip(written, steps, strict=True)) / len(steps)
        assert wrong == pytest.approx(world.SLIP_RATES[variable] * share_wrong, abs=0.015)


def test_all_values_of_all_variables_occur_about_equally_often() -> None:
    steps = [step for record in world.generate(1500, seed=2) for _, step in world.read_steps(record)]
    for variable in ("operation", "operand", "book"):
        counts = Counter(step.value(variable) for step in steps)
        assert set(counts) == set(world.VARIABLES[variable])
        assert min(counts.values()) > 0.8 * max(counts.values())


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**40), start=st.integers(0, 1000), skip=st.integers(0, 5))
def test_a_record_depends_on_its_seed_and_number_alone(seed: int, start: int, skip: int) -> None:
    run = list(world.generate(6, seed, start))
    assert list(world.generate(6 - skip, seed, start + skip)) == run[skip:]
    assert run != list(world.generate(6, seed + 1, start))


def test_one_story_is_one_problem_however_the_writers_slip(records: list[CorpusRecord]) -> None:
    for record in records:
        told = [" ".join(step.split(" : ")[0].split()) for step in record.steps]
        assert record.extras["original_question"] == " ".join([record.question, *(f"{story} ." for story in told)])


def test_tokenizer_writes_one_token_per_word_and_gives_the_text_back(records: list[CorpusRecord]) -> None:
    tokenizer = tokenizers.Tokenizer.from_str(world.tokenizer_json())
    for record in records:
        encoding = tokenizer.encode(record.text)
        assert [world.VOCABULARY[i] for i in encoding.ids] == record.text.split(" ")
        assert tokenizer.decode(encoding.ids) == record.text
    assert tokenizer.encode("Ann has 3 . <eos> <pad> Zoe").ids[-3:] == [1, 0, 2]
    assert len(set(world.VOCABULARY)) == tokenizer.get_vocab_size()


# --- interchange pairs ---


def step_at(text: str, char: int) -> tuple[dict[str, str], int]:
    """The step a site lies in, interpreted without its neighbours' help, and the place of the site among its words."""
    words = text.split(" ")
    at = text[:char].count(" ")
    first = max(i for i in range(at + 1) if words[i - 1] == ".")
    before = words[first - 2][0] if words[first - 2] != "has" else words[first - 1]
    _, verb, operand, _, book, _, copy, operation, _, result, *_ = words[first : first + 11]
    values = {"total": before, "operation": MEANING[verb], "operand": operand, "book": book, "result": result[0]}
    return values | {"copy": copy, "written": operation, "ending": result}, at - first


@pytest.mark.parametrize("variable", world.VARIABLES)
def test_pairs_are_informative(records: list[CorpusRecord], variable: str) -> None:
    texts = {record.record_id: record.text for record in records}
    for value in world.VARIABLES[variable]:
        pairs = world.interchange_pairs(records, variable, value, 40, seed=0)
        assert len(pairs) == 40
        assert len({pair.base_record_id for pair in pairs}) > 30
        for pair in pairs:
            original = texts[pair.base_record_id]
            base, place = step_at(original, pair.char)
            source, source_place = step_at(pair.source_text, pair.source_char)
            now, _ = step_at(pair.text, pair.char)
            assert place == source_place == world.SITES[variable]
            assert pair.source_text == texts[pair.source_record_id]
            assert pair.text[: pair.char] == original[: pair.char]
            meant = MEANING.get(pair.value, pair.value)
            assert source[variable] == meant != base[variable]
            # Neither side slips, so what is written is what is so.
            for side in (base, source):
                assert side["copy"] == side["total"] + side["book"]
                assert side["written"] == side["operation"] + side["operand"]
            # The program, run on the base with the one variable exchanged.
            want = {key: base[key] for key in ("total", "operation", "operand", "book")} | {variable: meant}
            want["result"] = str(eval(want["total"] + want["operation"] + want["operand"]) % 10)
            assert now["ending"] == want["result"] + want["book"]
            assert now["written"] == want["operation"] + want["operand"]
            assert now["copy"][0] == want["total"]
            # Neither doing nothing nor copying the source is right, at the site and at the result.
            after = ("copy", "written", "ending")[{5: 0, 6: 1, 8: 2}[place]]
            for word in (after, "ending"):
                assert now[word] not in (base[word], source[word])
            assert sum(now[after][half] == base[after][half] != source[after][half] for half in (0, 1)) == 1
            words = words_at(pair.text)
            assert [words[char] for char in pair.readouts] == [
                now[word] for word, stands in (("copy", 6), ("written", 7), ("ending", 9)) if stands > place
            ]


def test_synonyms_change_the_words_and_no_step_that_they_tell(records: list[CorpusRecord]) -> None:
    for record in records[:50]:
        other = " ".join(world.SYNONYMS.get(word, word) for word in record.text.split())
        assert other != record.text and interpret(other) == interpret(record.text)


def test_pairs_are_repeatable_distinct_and_never_more_than_asked(records: list[CorpusRecord]) -> None:
    once = world.interchange_pairs(records, "total", "3", 150, seed=3)
    assert once == world.interchange_pairs(records, "total", "3", 150, seed=3)
    assert once != world.interchange_pairs(records, "total", "3", 150, seed=4)
    assert len(set(once)) == 150


def test_too_few_records_give_fewer_pairs() -> None:
    few = list(world.generate(3, seed=0))
    assert len(world.interchange_pairs(few, "operation", "mul", 200, seed=0)) < 200
    assert world.interchange_pairs([], "operation", "mul", 200, seed=0) == []


def test_readings_point_at_the_words_they_say(records: list[CorpusRecord]) -> None:
    slipped = 0
    for record in records:
        found, steps = world.readings(record), [step for _, step in world.read_steps(record)]
        starts = [at for at in range(len(record.text)) if at == 0 or record.text[at - 1] == " "]
        words = dict(zip(starts, record.text.split(), strict=True))
        assert words[found.answer] == record.answer and words[found.close] == "so"
        assert [words[at] for at in found.ends] == [*(step.person for step in steps[1:]), "so"]
        assert all(words[at] == wrong != right and right in world.VOCABULARY for at, right, wrong in found.detections)
        # A slip of the operation and one of its operand stand in one word.
        totals = sum(step.written_total != step.total for step in steps)
        operations = sum(
            (step.written_operation, step.written_operand) != (step.operation, step.operand) for step in steps
        )
        assert len(found.detections) == totals + operations
        slipped += totals + operations
    assert slipped > 100
