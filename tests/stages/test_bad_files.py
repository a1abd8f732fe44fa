"""Files as people really have them, through the command line: every row that is not used is in quarantine with its
file, line and reason, and a file that is no data is refused in one line before anything is written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError

from raysae.store import Manifest
from tests.corpora import fixtures
from tests.runs import in_process

from .test_ingest import rows

GOOD = rows(40)
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab\nsize 12345\n"
HTML = b"<!DOCTYPE html>\n<html><title>404</title></html>\n"


def lines(*items: Any) -> bytes:
    """JSON Lines; bytes stay as they are."""
    return b"".join((item if isinstance(item, bytes) else json.dumps(item).encode()) + b"\n" for item in items)


def parquet(items: list[dict[str, Any]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(items), sink, compression="none", use_dictionary=False)
    return sink.getvalue().to_pybytes()


def csv(tmp_path: Path, items: list[dict[str, Any]]) -> bytes:
    return fixtures.write_csv(tmp_path / "made.csv", items).read_bytes()


def run(tmp_path: Path, corpus: dict[str, Any]) -> Any:
    """`raysae ingest`."""
    config = {"corpus": {"splits": {"fit": 0.3, "test": 0.3}, **corpus}, "model": {"name": "tiny-gsm8k"}}
    (tmp_path / "x.yaml").write_text(json.dumps(config, default=str))
    return in_process("ingest", str(tmp_path / "x.yaml"), f"out={tmp_path / 'runs'}")


def refused(tmp_path: Path, corpus: dict[str, Any]) -> str:
    """What it says: one line that names what arrived, what is allowed, what to do; nothing is written."""
    result = run(tmp_path, corpus)
    assert result.returncode == 2, result.stderr
    (said,) = result.stderr.strip().split("\n")
    assert said.count("; ") == 2
    assert not (tmp_path / "runs").exists()
    return said


def quarantined(tmp_path: Path, corpus: dict[str, Any]) -> tuple[int, list[dict[str, Any]]]:
    """(records, rows of quarantine) of a run that goes through."""
    result = run(tmp_path, corpus)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "runs" / "x" / "corpus"
    manifest = Manifest.read(folder)
    files = [folder / name for name in manifest.extra["quarantine_files"]]
    found = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert manifest.extra["quarantined"] == len(found) == sum(manifest.extra["reasons"].values())
    assert f"{len(found)} quarantined" in result.stdout + result.stderr
    return manifest.rows, found


def places(found: list[dict[str, Any]]) -> list[tuple[str, int, str]]:
    return [(Path(row["file"]).name, row["line"], row["reason"].partition(":")[0]) for row in found]


def utf16(encoding: str) -> bytes:
    return lines(*GOOD).decode().encode(encoding)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("train.jsonl", utf16("utf-16-le"), "holds UTF-16 or binary data"),
        ("train.jsonl", utf16("utf-16-be"), "holds UTF-16 or binary data"),
        ("train.jsonl", utf16("utf-16"), "holds UTF-16 text"),
        ("train.jsonl", HTML, "holds an HTML or XML page"),
        ("train.jsonl", LFS, "git lfs pull"),
        ("train.jsonl", parquet(GOOD), "name it .parquet"),
        ("train.parquet", LFS, "git lfs pull"),
        ("train.parquet", HTML, "holds an HTML or XML page"),
        ("train.parquet", b"", "holds no Parquet"),
        ("train.parquet", b"PAR1", "breaks off after row 0"),
        ("train.parquet", parquet(GOOD)[:-20], "breaks off after row 0"),
        ("train.parquet", parquet(GOOD)[: len(parquet(GOOD)) // 2], "breaks off after row 0"),
        ("train.parquet", b"PAR1" + b"\xff" * 2000 + parquet(GOOD)[2004:], "breaks off after row 0"),
    ],
)
def test_a_file_that_is_no_data_is_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / "data" / name
    path.parent.mkdir()
    path.write_bytes(content)
    line = refused(tmp_path, {"name": path.suffix[1:], "path": path.parent})
    assert said in line
    assert str(path) in line


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda data: HTML, "holds an HTML or XML page"),
        (lambda data: data.decode().encode("utf-16-le"), "holds UTF-16 or binary data"),
        (lambda data: data[:-30], "breaks off after row"),
    ],
)
def test_a_csv_that_is_no_data_or_ends_within_a_cell_is_refused(
    tmp_path: Path, spoil: Callable[[bytes], bytes], said: str
) -> None:
    fixtures.write_jsonl(tmp_path / "gsm8k" / "train.jsonl", GOOD)
    made = csv(tmp_path, [fixtures.reveal(0, "Stones\nare dense.", correctness_label="Correct,\nit is said")] * 3)
    (tmp_path / "reveal").mkdir()
    (tmp_path / "reveal" / "reveal_eval.csv").write_bytes(spoil(made))
    assert said in refused(tmp_path, {"name": ["gsm8k", "reveal"], "path": tmp_path})


def test_a_json_array_that_breaks_off_is_refused(tmp_path: Path) -> None:
    row = {"type": "GSM_FOBAR", "query": "q", "original_question": "o", "response": "a\nThe answer is: 1"}
    (tmp_path / "MetaMathQA-395K.json").write_text(json.dumps([row] * 3)[:-10])
    assert "breaks off after row 2" in refused(tmp_path, {"name": "metamath_qa", "path": tmp_path})


def test_rows_that_cannot_be_used_are_in_quarantine_with_file_line_and_reason(tmp_path: Path) -> None:
    broken = [
        b'{"question": "cut o',
        b'{"question": "caf\xe9", "answer": "1"}',
        {"answer": "no question"},
        {"question": 3},
        {"question": ""},
        {"question": "q", "cot": ""},
        {"question": "q", "answer": ["1"]},
        b"x" * 2**20,
        b"7",
        b'{"question": "the last line br',
    ]
    path = tmp_path / "data" / "train.jsonl"
    path.parent.mkdir()
    path.write_bytes(lines(*GOOD[:5], *broken[:-1], *GOOD[5:], broken[-1]).rstrip(b"\n"))
    records, found = quarantined(tmp_path, {"name": "jsonl", "path": path.parent})
    assert records == len(GOOD)
    assert places(found) == [
        ("train.jsonl", line, reason)
        for line, reason in [
            (6, "not JSON"),
            (7, "not UTF-8"),
            (8, "no column 'question'"),
            (9, "question is a int"),
            (10, "question is empty"),
            (11, "cot is empty"),
            (12, "answer.str is a list"),
            (13, "not JSON"),
            (14, "a JSON int, not an object"),
            (50, "not JSON"),
        ]
    ]
    assert max(len(row["text"]) for row in found) == 2000


def test_rows_of_parquet_and_csv_are_counted_from_one(tmp_path: Path) -> None:
    table = [*GOOD[:3], {"question": None, "answer": "1"}, *GOOD[3:]]
    fixtures.write_parquet(tmp_path / "parquet" / "train.parquet", table)
    steps = [fixtures.reveal(i, f"Step {i}.", question=f"Question {i}?") for i in range(5)]
    head, *body = csv(tmp_path, steps).splitlines(keepends=True)
    body[1] = b'"made_up"x,' + body[1]
    body[3] = b"one cell\r\n"
    (tmp_path / "reveal").mkdir()
    (tmp_path / "reveal" / "reveal_eval.csv").write_bytes(b"".join([head, *body]))
    records, found = quarantined(tmp_path, {"name": ["parquet", "reveal"], "path": tmp_path})
    assert records == len(GOOD) + 1
    assert sorted(places(found)) == [
        ("reveal_eval.csv", 2, "not CSV"),
        ("reveal_eval.csv", 4, "another number of cells than the 10 columns"),
        ("train.parquet", 4, "question is a NoneType"),
    ]


def test_a_column_of_another_type_in_parquet_empties_the_corpus_and_says_why(tmp_path: Path) -> None:
    fixtures.write_parquet(tmp_path / "train.parquet", [{"question": i} for i in range(3)])
    assert "(3 x question is a int)" in refused(tmp_path, {"name": "parquet", "path": tmp_path})


def test_a_record_of_a_megabyte_is_a_record(tmp_path: Path) -> None:
    long = {"question": "How many? " * 110_000, "cot": "One\nby one.", "answer": "7"}
    fixtures.write_jsonl(tmp_path / "train.jsonl", [*GOOD, long])
    records, found = quarantined(tmp_path, {"name": "jsonl", "path": tmp_path})
    assert (records, found) == (len(GOOD) + 1, [])


def test_a_gated_corpus_without_access_says_where_to_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object, **__: object) -> None:
        raise LocalEntryNotFoundError("not in the cache")

    def gated(url: str, **_: object) -> None:
        answer = Mock(headers={}, status_code=403, url=url)
        raise GatedRepoError("403 Forbidden.\n\nAccess to dataset google/reveal is restricted.", response=answer)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", absent)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", gated)
    fixtures.write_jsonl(tmp_path / "train.jsonl", GOOD)
    said = refused(tmp_path, {"name": ["gsm8k", "reveal"], "path": {"gsm8k": tmp_path}})
    assert "google/reveal cannot be read from the hub (403 Forbidden. Access to dataset" in said
    assert "accept the terms at huggingface.co/datasets/google/reveal and set HF_TOKEN" in said
