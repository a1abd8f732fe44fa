"""The controlled chains of thought: against an interpreter of their text that knows nothing of how it was made, and
against the shortcuts that they promise to leave out."""

from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest
import tokenizers
from scipy import stats
from sklearn.linear_model import LogisticRegression

from raysae.falsification.metrics import surface
from raysae.types import CorpusRecord, Split
from raysae.worlds import controlled_cot as world
from raysae.worlds.controlled_cot.rendering import LENGTHS
from raysae.worlds.controlled_cot.templates import CORES, UNSEEN_CORES
from raysae.worlds.controlled_cot.words import ALLOWED_CUES, CUES_OF, FRAMES, TRAINED, UNSEEN, UNSEEN_FRAMES

NUMBERS = {word: number for dialect in (TRAINED, UNSEEN) for number, word in enumerate(dialect.numerals)}
SIGNS = {
    **{"plus": "plus", "sum": "plus", "+": "plus", "times": "times", "product": "times", "*": "times"},
    **{"minus": "minus", "difference": "minus", "-": "minus"},
}
DOES = {"plus": lambda a, b: a + b, "minus": lambda a, b: a - b, "times": lambda a, b: a * b}


@pytest.fixture(scope="module")
def records() -> list[CorpusRecord]:
    return list(world.generate(2600, seed=3))


@pytest.fixture(scope="module")
def sets(records: list[CorpusRecord]) -> dict[str, list[CorpusRecord]]:
    found = defaultdict(list)
    for record in records:
        found[record.extras["set"]].append(record)
    return found


def told(question: str) -> tuple[dict[str, int], dict[str, set[str]], list[str]]:
    """What a question says: numbers by their name, sets by theirs, and the words of what is asked."""
    *sentences, asked = question.removesuffix(" ?").split(" . ")
    numbers, wants = {}, {}
    for words in (sentence.split() for sentence in sentences):
        if "wants" in words:
            wants[words[0]] = set(words[2:])
        else:
            numbers[words[1] if words[0] == "per" else words[0]] = NUMBERS[words[-1]]
    assert asked.split()[0] == "find"
    return numbers, wants, asked.split()[1:]


def solve(question: str) -> int:
    """Left to right, but `with` adds what stands on its two sides."""
    numbers, wants, asked = told(question)
    sides = " ".join(asked).split(" with ")
    found = []
    for side in sides:
        words, value, sign = side.split(), 0, "plus"
        while words:
            if words[0] == "both":
                (common,) = wants[words[1]] & wants[words[2]]
                operand, words = numbers[common], words[3:]
            else:
                operand, words = numbers[words[0]], words[1:]
            value = DOES[sign](value, operand)
            sign, words = (words[0], words[1:]) if words else ("", [])
        found.append(value)
    return sum(found)


def equation(record: CorpusRecord, step: str) -> tuple[str, str, int]:
    """(what is worked out, what is stated, what is so) of an OPERATE or VERIFY step."""
    numbers, wants, _ = told(record.question)
    words = step.removesuffix(" .").removesuffix(" holds").removesuffix(" fails").split()
    *said, stated = words
    values = [NUMBERS[word] for word in said if word in NUMBERS]
    signs = [SIGNS[word] for word in said if word in SIGNS]
    if signs:
        return f"{values[0]} {signs[0]} {values[1]}", stated, DOES[signs[0]](*values)
    who = [word for word in said if word in wants]
    if len(who) == 2:
        (common,) = wants[who[0]] & wants[who[1]]
        return " ".join(sorted(who)), stated, common  # type: ignore[return-value]
    (item,) = [word for word in said if word in (*TRAINED.items, *UNSEEN.items)]
    return item, stated, numbers[item]


def kinds(record: CorpusRecord) -> list[str]:
    return [label.value for label in record.labels if label.variable == "step_type"]


def ends(record: CorpusRecord) -> list[tuple[int, str]]:
    """(word of the text, type) of each step that probes are asked about."""
    return [
        (len(record.text[: label.start].split()), label.value)
        for label in record.labels
        if label.variable == "step_end"
    ]


def test_the_interpreter_agrees_with_every_trace(records: list[CorpusRecord]) -> None:
    for record in records:
        if record.cot is None:
            continue
        answer = solve(record.question)
        assert NUMBERS[record.answer] == answer
        assert record.text == f"{record.question} {record.cot} done {record.answer}"
        assert " ".join(record.steps) == record.cot
        assert tuple(record.text[start:end] for start, end in record.step_spans) == record.steps
        stated: dict[str, str] = {}
        for kind, step in zip(kinds(record), record.steps, strict=True):
            if kind not in ("OPERATE", "VERIFY"):
                continue
            what, says, so = equation(record, step)
            says = NUMBERS.get(says, says)
            # New in an OPERATE step; stated before in a VERIFY step, which is right and says whether that was.
            assert (what in stated) == (kind == "VERIFY"), record.text
            if kind == "VERIFY":
                assert says == so
                assert step.endswith(" holds ." if stated[what] == so else " fails .")
            stated.setdefault(what, says)
        assert kinds(record)[-1] == "FORMAT"
        assert NUMBERS[record.steps[-1].split()[-2]] == answer


def test_a_wrong_result_is_found_before_the_last_operation_builds_on_it(sets: dict[str, list[CorpusRecord]]) -> None:
    wrong = 0
    for record in sets["PLAIN"]:
        pending, left = None, kinds(record).count("OPERATE")
        for kind, step in zip(kinds(record), record.steps, strict=True):
            if kind == "OPERATE":
                what, says, so = equation(record, step)
                left -= 1
                assert pending is None or left
                if NUMBERS.get(says, says) != so:
                    pending, wrong = what, wrong + 1
            elif kind == "VERIFY" and equation(record, step)[0] == pending:
                pending = None
        assert pending is None
    assert 0.2 < wrong / len(sets["PLAIN"]) < 0.4


def test_programs_have_two_to_four_operations_and_orders_vary(sets: dict[str, list[CorpusRecord]]) -> None:
    plain = sets["PLAIN"]
    assert {kinds(record).count("OPERATE") for record in plain} == {2, 3, 4}
    assert len({tuple(kinds(record)) for record in plain}) > 0.5 * len(plain)
    following = Counter(pair for record in plain for pair in pairwise(kinds(record)))
    assert len(following) >= 20  # of 25: almost any step may follow any other


def test_labels_say_what_stands_there(records: list[CorpusRecord]) -> None:
    for record in records[:600]:
        for label in record.labels:
            said = record.text[label.start : label.end]
            if label.variable in ("operand", "value"):
                assert label.value == str(NUMBERS.get(said, said))
            elif label.variable == "operation":
                assert SIGNS[said] == label.value
            elif label.variable == "step_end":
                assert label.value == next(
                    other.value
                    for other in record.labels
                    if other.variable == "step_type" and other.start <= label.start < other.end
                )


def test_every_step_type_has_24_families_and_none_is_on_both_sides() -> None:
    trained, unseen = (set(world.FAMILIES[side]) for side in ("TRAINED", "UNSEEN"))
    assert len(trained | unseen) >= 24
    for part in (0, 1):  # neither the core nor the opener of an unseen family is ever trained on
        assert not {family[part] for family in trained} & {family[part] for family in unseen}
    for cores in CORES.values():
        texts = [text for core in cores for text in core.values()]
        assert len(set(texts)) == len(texts)


def test_documents_hold_the_families_of_their_side_alone(sets: dict[str, list[CorpusRecord]]) -> None:
    """By words that only one side's cores or openers have."""
    words = [
        {word for kind in CORES for i, core in enumerate(CORES[kind]) if (i in UNSEEN_CORES) is side
         for text in core.values() for word in text.split()}
        | {word for i, frame in enumerate(FRAMES) if (i in UNSEEN_FRAMES) is side for t in frame for word in t.split()}
        for side in (False, True)
    ]  # fmt: skip
    only_trained, only_unseen = words[0] - words[1], words[1] - words[0]
    for name, never in (("PLAIN", only_unseen), ("CUE", only_unseen), ("PAIR", only_unseen), ("UNSEEN", only_trained)):
        for record in sets[name]:
            assert not set(record.cot.split()) & never


def test_dialects_share_no_word(sets: dict[str, list[CorpusRecord]]) -> None:
    trained, unseen = ({word for part in dialect for word in part} for dialect in (TRAINED, UNSEEN))
    assert not trained & unseen
    for name, records in sets.items():
        used = {word for record in records for word in record.text.split()}
        assert not used & (trained if name == "UNSEEN" else unseen), name


def test_each_cue_announces_three_types_at_equal_rates(sets: dict[str, list[CorpusRecord]]) -> None:
    assert {len(kinds) for kinds in ALLOWED_CUES.values()} == {3}
    assert {len(cues) for cues in CUES_OF.values()} == {6}
    found: dict[str, Counter[str]] = defaultdict(Counter)
    steps: Counter[str] = Counter()
    for record in sets["PLAIN"]:
        for kind, step in zip(kinds(record), record.steps, strict=True):
            steps[kind] += 1
            cues = [word for word in step.split() if word in ALLOWED_CUES]
            assert len(cues) <= 1
            found[kind].update(cues)
    for cue, allowed in ALLOWED_CUES.items():
        assert {kind for kind in steps if found[kind][cue]} == set(allowed)
        rates = [found[kind][cue] / steps[kind] for kind in allowed]
        assert max(rates) - min(rates) < 0.04, cue


def test_a_swapped_cue_is_another_types(sets: dict[str, list[CorpusRecord]]) -> None:
    for record in sets["CUE"]:
        suggested = {label.start: label.value for label in record.labels if label.variable == "cue_label"}
        assert len(suggested) == len(ends(record))
        for (start, end), kind in zip(record.step_spans, kinds(record), strict=True):
            (cue,) = [word for word in record.text[start:end].split() if word in ALLOWED_CUES]
            assert kind not in ALLOWED_CUES[cue]
            assert all(said in ALLOWED_CUES[cue] for at, said in suggested.items() if start <= at < end)


def test_neither_length_nor_place_tells_the_type(sets: dict[str, list[CorpusRecord]]) -> None:
    lengths: dict[str, Counter[int]] = defaultdict(Counter)
    for record in sets["PLAIN"]:
        for kind, step in zip(kinds(record), record.steps, strict=True):
            lengths[kind][len(step.removesuffix(" .").removesuffix(" holds").removesuffix(" fails").split())] += 1
    table = np.array([[lengths[kind][size] for size in LENGTHS] for kind in world.STEP_TYPES])
    assert table.sum() == sum(sum(counts.values()) for counts in lengths.values())
    assert stats.chi2_contingency(table).pvalue > 1e-3
    places = defaultdict(list)
    for record in sets["PLAIN"]:
        for at, kind in ends(record):
            places[kind].append(at)
    assert min(map(len, places.values())) > 0.8 * max(map(len, places.values())) > 500
    assert stats.kruskal(*places.values()).pvalue > 1e-3


def test_minimal_pairs_differ_in_history_alone(sets: dict[str, list[CorpusRecord]]) -> None:
    pairs = defaultdict(list)
    for record in sets["PAIR"]:
        pairs[record.extras["group"]].append(record)
    assert len(pairs) == 200
    first = Counter()
    for members in pairs.values():
        one, other = members
        assert one.question == other.question
        ((at, kind),), ((other_at, other_kind),) = ends(one), ends(other)
        assert at == other_at
        assert {kind, other_kind} == {"OPERATE", "VERIFY"}
        first[kind] += 1
        a, b = one.text.split(), other.text.split()
        assert len(a) == len(b)
        # The surface model's window, and the whole step, are the same.
        assert a[at - 8 : at + 1] == b[at - 8 : at + 1]
        differ = [i for i in range(at + 1) if a[i] != b[i]]
        (step,) = {
            index
            for index, (start, end) in enumerate(one.step_spans)
            for i in differ
            if len(one.text[:start].split()) <= i < len(one.text[:end].split())
        }
        assert kinds(one)[step] == kinds(other)[step] == "OPERATE"
    assert 70 < first["OPERATE"] < 130  # which comes first is a matter of chance


def test_a_surface_model_is_at_chance_on_minimal_pairs(sets: dict[str, list[CorpusRecord]]) -> None:
    ids = {word: i for i, word in enumerate(world.VOCABULARY)}

    def rows(records: list[CorpusRecord]) -> tuple[object, np.ndarray]:
        texts = [[ids[word] for word in record.text.split()] for record in records]
        starts = np.cumsum([0, *map(len, texts)])
        document = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
        read = surface.features(np.concatenate(texts), document, len(ids))
        at = [(starts[i] + place, kind) for i, record in enumerate(records) for place, kind in ends(record)]
        return read[[place for place, _ in at]], np.array([kind for _, kind in at])

    x, y = rows(sets["PLAIN"])
    found = LogisticRegression(max_iter=200).fit(x, y)
    pairs, truth = rows(sets["PAIR"])
    said = found.predict(pairs)
    assert (said[::2] == said[1::2]).all()  # it cannot tell the members of a pair apart
    assert np.mean(said == truth) <= 0.5


def test_renderings_keep_the_steps(sets: dict[str, list[CorpusRecord]]) -> None:
    for original, cue_free, paraphrase in zip(*(sets[n] for n in ("ORIGINAL", "CUE_FREE", "PARAPHRASE")), strict=True):
        assert ends(original) == ends(cue_free) == ends(paraphrase)
        assert not set(cue_free.text.split()) & set(ALLOWED_CUES)
        assert all(set(step.split()) & set(ALLOWED_CUES) for step in original.steps)
        assert original.question == paraphrase.question


def test_twins_differ_in_one_result_and_what_is_said_of_it(sets: dict[str, list[CorpusRecord]]) -> None:
    for clean, corrupted in zip(sets["CLEAN"], sets["CORRUPTED"], strict=True):
        a, b = clean.text.split(), corrupted.text.split()
        assert len(a) == len(b)
        result, *verdicts = [i for i in range(len(a)) if a[i] != b[i]]
        assert a[result] in NUMBERS and b[result] in NUMBERS
        assert {(a[i], b[i]) for i in verdicts} == {("holds", "fails")}
        assert ends(clean) == ends(corrupted) == [(verdicts[0] - 1, "VERIFY")]


def test_stories_reason_about_nothing(sets: dict[str, list[CorpusRecord]]) -> None:
    for record in sets["INJECTION"]:
        assert record.cot is None and not record.steps and not record.labels
        assert all(sentence.split()[0] in ALLOWED_CUES for sentence in record.text.removesuffix(" .").split(" . "))


def test_problems_of_the_sets_of_test_are_none_of_training(records: list[CorpusRecord]) -> None:
    divided = {r.question for r in records if r.extras["set"] == "PLAIN"}
    fixed = {r.question for r in records if r.extras["set"] != "PLAIN"}
    assert not divided & fixed
    assert all((record.split is None) == (record.extras["set"] == "PLAIN") for record in records)
    assert {record.split for record in records} == {None, Split.TEST}


def test_a_record_depends_on_seed_and_number_alone(records: list[CorpusRecord]) -> None:
    assert list(world.generate(40, seed=3, start=17)) == records[17:57]
    assert [record.text for record in world.generate(30, seed=4)] != [record.text for record in records[:30]]


def test_the_tokenizer_knows_every_word_and_gives_texts_back(records: list[CorpusRecord]) -> None:
    tokenizer = tokenizers.Tokenizer.from_str(world.tokenizer_json())
    assert tokenizer.get_vocab_size() == len(world.VOCABULARY) <= 512
    for text in (*(record.text for record in records[:300]), *world.mixed(300, seed=1)):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_readings_point_at_the_answer_the_close_the_words_behind_steps_and_the_verdicts(
    records: list[CorpusRecord],
) -> None:
    failed = 0
    for record in records:
        found = world.readings(record)
        if record.extras["set"] == "INJECTION":
            assert found is None
            continue
        assert found is not None
        at = dict(zip(starts(record.text), record.text.split(), strict=True))
        assert at[found.answer] == record.answer and at[found.close] == "done"
        assert [at[char] for char in found.ends] == [*(step.split()[0] for step in record.steps[1:]), "done"]
        assert {(at[one.char], one.right, one.wrong) for one in found.detections} <= {("fails", "fails", "holds")}
        assert len({one.char for one in found.detections}) == record.cot.split().count("fails")
        failed += len(found.detections)
    assert failed > 200


def starts(text: str) -> list[int]:
    """First character of each word."""
    return [at for at in range(len(text)) if at == 0 or text[at - 1] == " "]
