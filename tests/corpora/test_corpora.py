"""The corpora beside GSM8K: real samples where there are some, else made-up rows of the native schema."""

import json
from pathlib import Path
from typing import Any

import pytest

from raysae.corpora import CORPORA, Malformed
from raysae.errors import BadInput
from raysae.types import CorpusRecord, Split
from raysae.types.text import CorpusConfig
from tests.conftest import ROOT

from . import fixtures

DATA = ROOT / ".." / "shared" / "data"
needs_samples = pytest.mark.skipif(not DATA.is_dir(), reason=f"the samples are not at {DATA}")


def read(name: str, path: Path, **config: Any) -> list[CorpusRecord | Malformed]:
    chosen = CorpusConfig.model_validate({"name": name, "path": path, **config})
    return [row for source in CORPORA[name].sources(chosen) for row in CORPORA[name].read(source, chosen)]


def records(name: str, path: Path, **config: Any) -> list[CorpusRecord]:
    """All rows, none of them malformed; each with its steps where its spans say."""
    found = read(name, path, **config)
    assert [row for row in found if isinstance(row, Malformed)] == []
    kept = [row for row in found if isinstance(row, CorpusRecord)]
    for record in kept:
        assert record.source_dataset == name
        assert (record.cot is None) == (not CORPORA[name].has_cot)
        assert record.extras["has_cot"] == (record.cot is not None)
        if record.step_spans:
            assert tuple(record.text[start:end] for start, end in record.step_spans) == record.steps
        if record.cot is not None:
            assert record.cot in record.text
        assert record.text.startswith(record.question)
        json.dumps(record.extras).encode()
    assert len({record.record_id for record in kept}) == len(kept)
    return kept


def reasons(name: str, path: Path, **config: Any) -> list[str]:
    found = read(name, path, **config)
    assert all(isinstance(row, Malformed) for row in found)
    return [row.reason for row in found if isinstance(row, Malformed)]


@needs_samples
def test_metamath_rows_share_their_original_problem_and_keep_the_response() -> None:
    found = records("metamath_qa", DATA / "metamath" / "metamathqa_6.jsonl")
    assert len(found) == 6
    raw = [json.loads(line) for line in (DATA / "metamath" / "metamathqa_6.jsonl").read_text().splitlines()]
    for record, row in zip(found, raw, strict=True):
        assert record.text == f"{row['query']}\n{row['response']}"
        assert record.answer == row["response"].rpartition("The answer is:")[2].strip()
        assert "####" not in (record.cot or "")
        assert "The answer is" not in (record.cot or "")
        assert record.extras["original_question"] == row["original_question"]
    assert found[0].answer == "\\sqrt{5}"
    assert len(found[1].steps) == 3


def test_metamath_streams_the_hubs_array(tmp_path: Path) -> None:
    row = {"type": "GSM_FOBAR", "query": "q", "original_question": "o", "response": "a\n\nb\n#### 1\nThe answer is: 1"}
    (tmp_path / "MetaMathQA-395K.json").write_text(json.dumps([row, {**row, "response": "The answer is: 1"}, row, 3]))
    first, bare, last, number = read("metamath_qa", tmp_path)
    assert isinstance(first, CorpusRecord)
    assert isinstance(last, CorpusRecord)
    assert (first.cot, first.steps, first.answer, last.record_id) == ("a\n\nb", ("a", "b"), "1", "metamath_qa/train/2")
    assert isinstance(bare, Malformed)
    assert isinstance(number, Malformed)
    assert "no reasoning" in bare.reason
    assert number.reason == "a JSON int, not an object"


@needs_samples
def test_wiqa_is_the_same_nested_and_flat() -> None:
    nested = {record.extras["question_id"]: record for record in records("wiqa", DATA / "wiqa")}
    flat = {record.extras["question_id"]: record for record in records("wiqa", DATA / "wiqa" / "hub_columns.jsonl")}
    assert len(nested) == len(flat) == 6
    for key, record in nested.items():
        other = flat[key]
        assert record.model_dump(exclude={"record_id"}) == other.model_dump(exclude={"record_id"})
        assert record.cot is None
        assert record.answer in ("more", "less", "no_effect")
        assert record.extras["steps_are_context"]
        assert all(step.strip() for step in record.steps)
    splits = [record.split for record in nested.values()]
    assert {split: splits.count(split) for split in Split} == {Split.TRAIN: 2, Split.FIT: 2, Split.TEST: 2}


@needs_samples
def test_a_wiqa_label_must_be_its_letter(tmp_path: Path) -> None:
    row = json.loads((DATA / "wiqa" / "hub_columns.jsonl").read_text().splitlines()[0])
    path = fixtures.write_jsonl(
        tmp_path / "train.jsonl", [{**row, "answer_label_as_choice": "B"}, {**row, "choices": 3}]
    )
    wrong, broken = reasons("wiqa", path)
    assert "choice 'B' is 'less', the label 'more'" in wrong
    assert "choices is a int" in broken


def test_cot_collection_is_one_object_keyed_by_id(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "CoT_collection_en.json").write_text(json.dumps(fixtures.COT_COLLECTION))
    first, second = records("cot_collection", tmp_path)
    assert first.steps == (
        "Stones are dense.",
        "Mr. Hall says a leaf weighs e.g. 1.5 g!",
        "So the stone is heavier.",
    )
    assert first.text == "\n".join([first.question, first.cot or "", "a stone"])
    assert first.extras["record_id"] == "17"
    assert first.extras["step_split"] == "sentences"
    assert second.steps == ("One sentence",)


def test_openr1_takes_the_first_complete_trace_that_was_judged_right(tmp_path: Path) -> None:
    rows = [fixtures.openr1(), fixtures.openr1(correctness_math_verify=[False, False], correctness_llama=[None, True])]
    fixtures.write_parquet(tmp_path / "data" / "train-00000-of-00001.parquet", rows)
    verified, judged = records("openr1_math", tmp_path)
    assert verified.steps == ("First, 2 + 2 = 4.", "Then 4 * 2 = 8.\nThat is it.")
    assert verified.text == f"What is $2(2+2)$?\n{fixtures.THOUGHT}"
    assert (verified.answer, verified.extras["response"]) == ("8", "The answer is $8$.")
    assert (verified.extras["generation_index"], verified.extras["verified_by"]) == (1, "math_verify")
    assert judged.extras["verified_by"] == "llama"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"correctness_math_verify": [False, False]}, "no generation is complete"),
        ({"correctness_math_verify": [False]}, "no generation is complete"),
        ({"is_reasoning_complete": [True, False]}, "no generation is complete"),
        ({"generations": ["x", "<think>cut off"]}, "has no <think> ... </think>"),
        ({"generations": "x"}, "generations is a str"),
        ({"problem": None}, "problem is a NoneType"),
        ({"problem": " "}, "problem is empty"),
    ],
)
def test_an_openr1_row_without_a_usable_trace_says_why(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    (found,) = reasons("openr1_math", fixtures.write_jsonl(tmp_path / "rows.jsonl", [fixtures.openr1(**changes)]))
    assert said in found


def test_reveal_groups_rows_by_answer_and_orders_steps_by_number(tmp_path: Path) -> None:
    rows = [
        fixtures.reveal(10, "So no.", evidence="e3"),
        fixtures.reveal(2, "Dense things sink.", evidence="e2"),
        fixtures.reveal(0, "Nothing of the answer.", answer_id="a2"),
        fixtures.reveal(0, "Stones are dense.", evidence="e1"),
        fixtures.reveal(0, "Stones are dense.", evidence="e1b"),
        {**fixtures.reveal(0, "x"), "step_idx": "first"},
    ]
    fixtures.write_csv(tmp_path / "eval" / "reveal_eval.csv", rows)
    malformed, grouped, elsewhere = read("reveal", tmp_path)
    assert isinstance(malformed, Malformed)
    assert "step_idx is 'first'" in malformed.reason
    assert isinstance(grouped, CorpusRecord)
    assert grouped.steps == ("Stones are dense.", "Dense things sink.", "So no.")
    assert tuple(grouped.text[a:b] for a, b in grouped.step_spans) == grouped.steps
    assert grouped.extras["evidence"] == [["e1", "e1b"], ["e2"], ["e3"]]
    assert grouped.extras["eval_only"]
    assert grouped.split is Split.TEST
    assert isinstance(elsewhere, CorpusRecord)
    assert (elsewhere.steps, elsewhere.step_spans) == (("Nothing of the answer.",), ())


def test_trip_asks_for_the_plausible_story_and_has_no_chain_of_thought(tmp_path: Path) -> None:
    for part in ("Train", "Dev", "Test"):
        fixtures.write_jsonl(tmp_path / f"trip-Cloze{part}.jsonl", [fixtures.trip()])
        fixtures.write_jsonl(tmp_path / f"trip-Order{part}.jsonl", [fixtures.trip()])
    found = records("trip", tmp_path)
    assert [record.split for record in found] == [Split.TRAIN, Split.FIT, Split.TEST]
    assert [record.record_id for record in found][0] == "trip/cloze_train/0"
    assert found[0].answer == "A"
    assert found[0].steps == ("John took a chair.", "John broke his radio.", "John turned on the radio.")
    assert found[0].text.count("John took a chair.") == 2
    assert len(records("trip", tmp_path, config="order")) == 3
    assert len(records("trip", tmp_path, config=["cloze", "order"])) == 6


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"label": 1}, "label 1 is not the one plausible story"),
        ({"stories": []}, "0 stories"),
        ({"label": "0"}, "label is a str"),
        ({"stories": [{"sentences": [3], "plausible": True}] * 2}, "stories.0.sentences.0 is a int"),
    ],
)
def test_a_trip_row_that_contradicts_itself_says_how(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    (found,) = reasons("trip", fixtures.write_jsonl(tmp_path / "rows.jsonl", [fixtures.trip(**changes)]))
    assert said in found


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_anybodys_columns_are_mapped(tmp_path: Path, kind: str) -> None:
    rows = [{"q": "How many?", "a": 4, "why": "2 + 2 = 4\nso 4", "parts": ["2 + 2 = 4", "so 4"]}]
    write = {"jsonl": fixtures.write_jsonl, "parquet": fixtures.write_parquet}[kind]
    for stem in ("train", "dev", "test_2", "more"):
        write(tmp_path / f"{stem}.{kind}", rows)
    columns = {"question": "q", "answer": "a", "cot": "why", "steps": "parts"}
    found = records(kind, tmp_path, columns=columns)
    assert [record.split for record in found] == [Split.TRAIN, Split.FIT, Split.TEST, None]
    assert found[0].text == "How many?\n2 + 2 = 4\nso 4\n4"
    assert found[0].steps == ("2 + 2 = 4", "so 4")
    by_line = records(kind, tmp_path, columns={"question": "q", "cot": "why"})
    assert by_line[0].steps == found[0].steps


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = fixtures.write_jsonl(tmp_path / "rows.jsonl", [{"q": "x", "steps": ["y"], "cot": "z"}, {"question": "x"}])
    assert reasons("jsonl", path, columns={"answer": "a"}) == ["no column 'question'", "no column 'a'"]
    assert reasons("jsonl", path, columns={"question": "q", "answer": "a"}) == ["no column 'a'", "no column 'q'"]
    assert "does not stand in the cot" in reasons("jsonl", path, columns={"question": "q"})[0]
    with pytest.raises(BadInput, match="corpus.columns names 'text'; allowed: question"):
        read("jsonl", path, columns={"text": "t"})


def test_every_corpus_has_its_row_in_the_table() -> None:
    for name, corpus in CORPORA.items():
        assert corpus.name == name
        assert corpus.licence
        assert (corpus.hub_id is None) == (corpus.revision is None) == (name in ("jsonl", "parquet"))
    assert [name for name, corpus in CORPORA.items() if corpus.eval_only] == ["reveal"]
    assert [name for name, corpus in CORPORA.items() if not corpus.has_cot] == ["trip", "wiqa"]
