"""Several corpora in one run: duplicates share a split, weights thin, evaluation-only text never trains."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from raysae.store import Manifest
from raysae.store import records as blocks_of_records
from tests.conftest import GSM8K
from tests.corpora import fixtures
from tests.runs import in_process

WORDS = [f"word{i}" for i in range(300)]


def question(number: int, changed: int = 0) -> str:
    """Thirty words of its own; `changed` of them replaced."""
    words = [WORDS[(number * 37 + 11 * i) % 300] + str(number) for i in range(30)]
    return " ".join(["other"] * changed + words[changed:]) + "?"


def rows(count: int, start: int = 0, changed: int = 0) -> list[dict[str, str]]:
    return [
        {"question": question(i, changed), "answer": f"{i} = <<{i}={i}>>{i}\n#### {i}"}
        for i in range(start, start + count)
    ]


def ingest(tmp_path: Path, corpus: dict[str, Any], status: int = 0) -> tuple[list[dict[str, Any]], Manifest] | str:
    """(records, manifest) of a run; what it said where it is refused."""
    config = {"corpus": {"splits": {"fit": 0.3, "test": 0.3}, "block_records": 40, **corpus}}
    (tmp_path / "x.yaml").write_text(json.dumps({**config, "model": {"name": "tiny-gsm8k"}}, default=str))
    result = in_process("ingest", str(tmp_path / "x.yaml"), f"out={tmp_path / 'runs'}")
    assert result.returncode == status, result.stderr
    if status:
        assert len(result.stderr.strip().split("\n")) == 1
        assert not (tmp_path / "runs").exists()
        return result.stderr
    folder = tmp_path / "runs" / "x" / "corpus"
    assert not (folder / "problems").exists()
    manifest = Manifest.read(folder)
    found = [row for block in manifest.blocks for row in pq.read_table(folder / block.file).to_pylist()]
    assert all(
        block.facts["split"] == row["split"]
        for block in manifest.blocks
        for row in pq.read_table(folder / block.file).to_pylist()
    )
    return found, manifest


def test_duplicates_across_splits_and_corpora_share_the_more_locked_side(tmp_path: Path) -> None:
    fixtures.write_jsonl(tmp_path / "gsm8k" / "train.jsonl", rows(60) + rows(10, start=60, changed=1))
    fixtures.write_jsonl(tmp_path / "gsm8k" / "test.jsonl", rows(5) + rows(10, start=60))
    theirs = [
        {
            "type": "GSM_Rephrased",
            "query": f"again {i}",
            "original_question": question(i),
            "response": f"s\nThe answer is: {i}",
        }
        for i in range(40)
    ]
    fixtures.write_jsonl(tmp_path / "metamath_qa" / "rows.jsonl", theirs * 2)
    found, manifest = ingest(tmp_path, {"name": ["gsm8k", "metamath_qa"], "path": tmp_path})
    assert len(found) == 165
    of = lambda row: int(row["answer"])  # noqa: E731
    sides: dict[int, set[str]] = {}
    for row in found:
        sides.setdefault(of(row), set()).add(row["split"])
    assert all(len(splits) == 1 for splits in sides.values())
    assert all(sides[i] == {"TEST"} for i in [*range(5), *range(60, 70)])
    duplicates = manifest.extra["duplicates"]
    assert duplicates["problems"] == 80
    assert duplicates["exact"] == {"across_splits": 5, "across_corpora": 40}
    assert duplicates["near"] == {
        "across_splits": 10,
        "across_corpora": 0,
        "groups": 10,
        "problems": 20,
        "largest_group": 2,
    }


def test_without_near_only_equal_problems_are_joined(tmp_path: Path) -> None:
    fixtures.write_jsonl(tmp_path / "train.jsonl", rows(40, changed=1))
    fixtures.write_jsonl(tmp_path / "test.jsonl", rows(40))
    splits = {"fit": 0.3, "test": 0.3, "near": None}
    found, manifest = ingest(tmp_path, {"name": "gsm8k", "path": tmp_path, "splits": splits})
    assert {row["split"] for row in found if "/train/" in row["record_id"]} == {"TRAIN", "FIT"}
    assert manifest.extra["duplicates"]["near"]["groups"] == 0


@pytest.mark.skipif(not GSM8K.is_dir(), reason=f"the GSM8K files are not at {GSM8K}")
def test_both_configurations_of_gsm8k_stand_on_one_side(tmp_path: Path) -> None:
    found, manifest = ingest(tmp_path, {"name": "gsm8k", "config": ["main", "socratic"], "path": GSM8K, "records": 300})
    assert Counter(row["record_id"].split("/")[1] for row in found) == {"train": 300, "test": 300, "test_socratic": 300}
    by_question: dict[str, set[str]] = {}
    for row in found:
        by_question.setdefault(row["question"], set()).add(row["split"])
    assert {frozenset(splits) for splits in by_question.values()} == {
        frozenset({split}) for split in ("TRAIN", "FIT", "TEST")
    }


def test_weights_thin_train_alone(tmp_path: Path) -> None:
    fixtures.write_jsonl(tmp_path / "gsm8k" / "train.jsonl", rows(400))
    fixtures.write_jsonl(tmp_path / "jsonl" / "train.jsonl", rows(100, start=1000))
    whole, _ = ingest(tmp_path, {"name": ["gsm8k", "jsonl"], "path": tmp_path})
    (tmp_path / "runs" / "x").rename(tmp_path / "whole")
    found, manifest = ingest(
        tmp_path, {"name": ["gsm8k", "jsonl"], "path": tmp_path, "weights": {"gsm8k": 1, "jsonl": 1}}
    )
    counts = Counter((row["source_dataset"], row["split"]) for row in found)
    before = Counter((row["source_dataset"], row["split"]) for row in whole)
    assert counts["jsonl", "TRAIN"] == before["jsonl", "TRAIN"]
    assert counts["gsm8k", "TRAIN"] == pytest.approx(counts["jsonl", "TRAIN"], rel=0.4)
    assert {key: n for key, n in counts.items() if key[1] != "TRAIN"} == {
        key: n for key, n in before.items() if key[1] != "TRAIN"
    }
    assert manifest.extra["left_out_by_weights"] == len(whole) - len(found)


def test_evaluation_only_text_is_test_with_all_its_problems(tmp_path: Path) -> None:
    fixtures.write_jsonl(tmp_path / "gsm8k" / "train.jsonl", rows(60))
    judged = [fixtures.reveal(0, "Stones are dense.", answer_id=str(i), question=question(i)) for i in range(20)]
    fixtures.write_csv(tmp_path / "reveal" / "eval" / "reveal_eval.csv", judged)
    found, _ = ingest(tmp_path, {"name": ["gsm8k", "reveal"], "path": tmp_path})
    assert {row["split"] for row in found if row["source_dataset"] == "reveal"} == {"TEST"}
    shared = {question(i) for i in range(20)}
    assert {row["split"] for row in found if row["question"] in shared} == {"TEST"}
    assert {row["split"] for row in found if row["question"] not in shared} == {"TRAIN", "FIT", "TEST"}


def test_evaluation_only_text_alone_is_refused(tmp_path: Path) -> None:
    said = ingest(tmp_path, {"name": "reveal", "path": tmp_path}, status=2)
    assert "evaluation only" in said


def test_a_block_holds_no_more_text_than_fits_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fixtures.write_jsonl(tmp_path / "train.jsonl", rows(60))
    _, whole = ingest(tmp_path, {"name": "gsm8k", "path": tmp_path})
    (tmp_path / "runs" / "x").rename(tmp_path / "whole")
    monkeypatch.setattr(blocks_of_records, "BLOCK_CHARACTERS", 2000)
    _, small = ingest(tmp_path, {"name": "gsm8k", "path": tmp_path})
    assert len(small.blocks) > len(whole.blocks)
    assert small.rows == whole.rows


@pytest.mark.parametrize(
    ("corpus", "said"),
    [
        ({"name": ["gsm8k", "wiqa"], "weights": {"trip": 1}}, "weights names 'trip'"),
        ({"name": "gsm8k", "weights": {"gsm8k": 0}}, "weights.gsm8k"),
        ({"name": ["gsm8k", "wiqa"], "config": "sokratic"}, "corpus.config=sokratic"),
        ({"name": "jsonl"}, "without corpus.path"),
        ({"name": "gsm8k", "path": {"wiqa": "x"}}, "path names 'wiqa'"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, corpus: dict[str, Any], said: str) -> None:
    assert said in ingest(tmp_path, corpus, status=2)


def test_the_table_of_corpora_says_everything() -> None:
    result = in_process("datasets")
    for said in (
        "kaist-ai/CoT-Collection",
        "740312add88f781978c0658806c59bc2815b9866",
        "main/train 7,473",
        "evaluation only",
    ):
        assert said in result.stdout
    assert "google/reveal (gated)" in result.stdout


def test_a_source_is_not_swept_away_while_another_worker_begins_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a worker has written and not yet moved stays locked against the others, which sweep before they write."""
    from raysae.store import manifest
    from raysae.store.atomic import move, sweep

    def swept(temporary: Path, path: Path) -> None:
        sweep(path.parent)
        move(temporary, path)

    monkeypatch.setattr(manifest, "move", swept)
    _, found = ingest(tmp_path, {"name": "arithmetic_cot", "records": 90})
    assert found.rows == 90
    assert not list((tmp_path / "runs").rglob(".*.rows"))
