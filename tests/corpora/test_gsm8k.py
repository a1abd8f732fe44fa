"""Rows of GSM8K's shape -> records: normalisation, malformed rows, files that are something else."""

import json
import pickle
from pathlib import Path

import pytest

from raysae.corpora import CORPORA, Malformed, Source
from raysae.corpora.gsm8k import parse_row
from raysae.errors import BadInput
from raysae.types import CorpusRecord, Split
from raysae.types.text import CorpusConfig

NATALIA = {
    "question": "Natalia sold clips to 48 friends, then half as many. How many in all?",
    "answer": "She sold 48/2 = <<48/2=24>>24 clips in May.\nShe sold 48+24 = <<48+24=72>>72 clips in all.\n#### 72",
}
SOURCE = Source("gsm8k", Split.TRAIN, "train.jsonl", "main")
GSM8K = CORPORA["gsm8k"]


def record(question: str, answer: str, source: Source = SOURCE, line: int = 1) -> CorpusRecord:
    found = parse_row({"question": question, "answer": answer}, source, line)
    assert isinstance(found, CorpusRecord), found
    return found


def write(path: Path, *rows: object) -> Path:
    lines = [row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode() for row in rows]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def read(path: Path, **config: object) -> list[CorpusRecord | Malformed]:
    corpus = CorpusConfig.model_validate({"name": "gsm8k", "path": path, **config})
    return [row for source in GSM8K.sources(corpus) for row in GSM8K.read(source, corpus)]


def test_a_row_becomes_question_steps_and_answer() -> None:
    got = record(NATALIA["question"], NATALIA["answer"], line=3)
    assert got.record_id == "gsm8k/train/2"
    assert got.answer == "72"
    assert got.cot == "She sold 48/2 = 24 clips in May.\nShe sold 48+24 = 72 clips in all."
    assert got.steps == ("She sold 48/2 = 24 clips in May.", "She sold 48+24 = 72 clips in all.")
    assert got.text == f"{NATALIA['question']}\n{got.cot}\n#### 72"
    assert tuple(got.text[start:end] for start, end in got.step_spans) == got.steps
    assert got.extras["annotations"] == [[["48/2", "24"]], [["48+24", "72"]]]
    assert got.extras["config"] == "main"
    assert got.extras["answer_raw"] == NATALIA["answer"]
    assert got.split is Split.TRAIN
    assert got.licence == "MIT"


@pytest.mark.parametrize(
    ("written", "answer"),
    [("1,234", "1234"), ("-5", "-5"), (" 1,234,567 ", "1234567"), ("3, 4", "3, 4"), ("12,34", "12,34")],
)
def test_only_thousands_commas_leave_the_answer(written: str, answer: str) -> None:
    assert record("q", f"a step\n####{written}").answer == answer


def test_the_answer_stands_after_the_last_mark() -> None:
    got = record("q", "one #### two\n#### 3")
    assert got.answer == "3"
    assert got.steps == ("one #### two",)


def test_blank_lines_are_no_steps_but_stay_in_the_chain_of_thought() -> None:
    got = record("q", "one\n\ntwo\n#### 3")
    assert got.steps == ("one", "two")
    assert got.cot == "one\n\ntwo"
    assert tuple(got.text[start:end] for start, end in got.step_spans) == got.steps


def test_steps_end_at_the_newline_only() -> None:
    odd = "a\u2028b\u0085c\x0bd\x0ce"
    assert record("q\u2028r", f"{odd}\nf\n#### 3").steps == (odd, "f")


def test_a_raw_line_separator_inside_a_row_does_not_end_it(tmp_path: Path) -> None:
    row = {"question": "one\u2028two", "answer": "step\u0085step\n#### 1"}
    (got,) = read(write(tmp_path / "rows.jsonl", row))
    assert isinstance(got, CorpusRecord)
    assert got.question == "one\u2028two"


def test_socratic_steps_follow_their_subquestions() -> None:
    source = Source("gsm8k", Split.TEST, "test_socratic.jsonl", "socratic")
    got = record("q", "How many? ** 1+1 = <<1+1=2>>2 ** two.\nAnd then? ** three\n#### 3", source)
    assert got.steps == ("1+1 = 2 ** two.", "three")
    assert got.extras["subquestions"] == ["How many?", "And then?"]
    assert tuple(got.text[start:end] for start, end in got.step_spans) == got.steps


def test_the_folder_gives_train_then_test_and_never_socratic(tmp_path: Path) -> None:
    for name in ("train", "test", "test_socratic"):
        write(tmp_path / f"{name}.jsonl", {"question": f"of {name}", "answer": "s\n#### 1"})
    got = [row for row in read(tmp_path) if isinstance(row, CorpusRecord)]
    assert [(row.question, row.split) for row in got] == [("of train", Split.TRAIN), ("of test", Split.TEST)]
    (socratic,) = read(tmp_path, config="socratic")
    assert isinstance(socratic, CorpusRecord)
    assert socratic.question == "of test_socratic"


def test_a_train_only_folder_is_enough(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", NATALIA)
    assert len(read(tmp_path)) == 1


@pytest.mark.parametrize(("name", "split"), [("test", Split.TEST), ("train", Split.TRAIN), ("mine", None)])
def test_a_single_file_keeps_the_split_of_its_official_name(tmp_path: Path, name: str, split: Split | None) -> None:
    (got,) = read(write(tmp_path / f"{name}.jsonl", NATALIA))
    assert isinstance(got, CorpusRecord)
    assert got.split is split


def test_records_limits_each_native_split(tmp_path: Path) -> None:
    for name in ("train", "test"):
        write(tmp_path / f"{name}.jsonl", b"{broken", *[NATALIA] * 5)
    got = read(tmp_path, records=2)
    assert sum(isinstance(row, CorpusRecord) for row in got) == 4
    assert sum(isinstance(row, Malformed) for row in got) == 2


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b'{"question": "q", "answer": ', "not JSON"),
        (b'{"question": "caf\xe9", "answer": "s\\n#### 1"}', "not UTF-8"),
        (b"3", "a JSON int"),
        (b"null", "a JSON NoneType"),
        (b"[" * 5000, "not JSON"),
        ({"answer": "s\n#### 1"}, "no column 'question'"),
        ({"question": "q"}, "no column 'answer'"),
        ({"question": None, "answer": "s\n#### 1"}, "question is a NoneType"),
        ({"question": "q", "answer": 72}, "answer is a int"),
        ({"question": " ", "answer": "s\n#### 1"}, "question is empty"),
        ({"question": "q", "answer": ""}, "answer is empty"),
        ({"question": "q", "answer": "no mark"}, "no '####'"),
        ({"question": "q", "answer": "s\n#### "}, "nothing stands after"),
        ({"question": "q", "answer": "#### 1"}, "no reasoning stands before"),
        ({"question": "q", "answer": "<<1+1=2>>\n#### 1"}, "no reasoning stands before"),
        (b'{"question": "q\\ud800", "answer": "s\\n#### 1"}', "surrogate"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_and_the_next_one_is_read(tmp_path: Path, row: object, reason: str) -> None:
    path = write(tmp_path / "rows.jsonl", NATALIA, row, NATALIA)
    first, bad, last = read(path)
    assert isinstance(first, CorpusRecord)
    assert isinstance(last, CorpusRecord)
    assert isinstance(bad, Malformed)
    assert reason in bad.reason
    assert (bad.file, bad.line) == (str(path), 2)
    assert last.record_id.endswith("/2")
    json.dumps(bad.text)
    bad.text.encode()


def test_a_byte_order_mark_windows_line_ends_and_blank_lines_are_no_harm(tmp_path: Path) -> None:
    line = json.dumps(NATALIA).encode()
    (tmp_path / "train.jsonl").write_bytes(b"\xef\xbb\xbf" + line + b"\r\n\r\n  \n" + line)
    assert [type(row) for row in read(tmp_path)] == [CorpusRecord, CorpusRecord]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"<!DOCTYPE html><html></html>", "HTML"),
        (b"\n  <html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "LFS"),
        ("a".encode("utf-16"), "UTF-16"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"PAR1", "Parquet"),
        (b'[{"question": 1}]', "JSON array"),
    ],
)
def test_a_file_that_is_something_else_is_refused_by_its_kind(tmp_path: Path, content: bytes, named: str) -> None:
    (tmp_path / "train.jsonl").write_bytes(content)
    with pytest.raises(BadInput, match=named):
        GSM8K.sources(CorpusConfig(name="gsm8k", path=tmp_path))


def test_what_is_missing_or_of_another_configuration_is_refused(tmp_path: Path) -> None:
    def refused(match: str, **config: object) -> None:
        with pytest.raises(BadInput, match=match) as error:
            GSM8K.sources(CorpusConfig.model_validate({"name": "gsm8k", **config}))
        assert "\n" not in str(error.value)

    refused("no such file or folder", path=tmp_path / "absent")
    refused("holds nothing; main reads train.jsonl or test.jsonl", path=tmp_path)
    refused("gsm8k has main, socratic", path=tmp_path, config="sokratic")
    socratic = write(tmp_path / "test_socratic.jsonl", NATALIA)
    refused("never reads socratic files", path=socratic)
    refused("holds test_socratic.jsonl", path=tmp_path)


def test_an_empty_file_gives_no_rows(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(b"")
    assert read(tmp_path) == []


def test_sources_and_malformed_rows_travel(tmp_path: Path) -> None:
    for thing in (SOURCE, Malformed("f", 1, "r", "t")):
        assert pickle.loads(pickle.dumps(thing)) == thing


@pytest.mark.parametrize(
    ("written", "answer"),
    [
        ("so 3 + 4 = 7\n#### 7\nNext", "7"),
        ("#### $1,234.", "1234"),
        ("####-5", "-5"),
        ("#### 0.5 kg", "0.5"),
        ("#### 1\n#### 2", "1"),
        ("####\n12", None),
        ("the answer is 7", None),
    ],
)
def test_the_answer_of_a_written_solution_is_the_number_behind_the_mark(written: str, answer: str | None) -> None:
    assert GSM8K.read_answer is not None
    assert GSM8K.read_answer(written) == answer
