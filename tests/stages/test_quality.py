"""The stage on whole runs: what it measures, that it stops beyond a limit, and that a wider limit lets it go on."""

import json
from pathlib import Path
from typing import Any

import pytest

from raysae.store import Manifest
from tests.runs import in_process

CONFIG = "corpus: {name: arithmetic_cot, records: 300, block_records: 100}\nquality: {sample_documents: 120}\n"


def run(folder: Path, *overrides: str) -> tuple[int, str]:
    (folder / "x.yaml").write_text(CONFIG)
    done = in_process("quality", str(folder / "x.yaml"), f"out={folder / 'runs'}", *overrides)
    return done.returncode, done.stderr


def report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "runs" / "x" / "quality" / "quality.json").read_text())


def test_the_figures_of_a_generated_corpus(tmp_path: Path) -> None:
    assert run(tmp_path)[0] == 0
    found = report(tmp_path)
    (figures,) = found["corpora"].values()
    tokens = Manifest.read(tmp_path / "runs" / "x" / "tokens").extra["tokens"]
    assert (figures["documents"], figures["tokens"], figures["with_cot"]) == (300, tokens, 1.0)
    assert figures["quarantined"] == {"rows": 0, "share": 0.0, "reasons": {}}
    assert (figures["coverage"], figures["abstention"]) == (1.0, 0.0)
    assert sum(count for *_, count in figures["lengths"]["histogram"]) == 300
    assert figures["agreement"]["documents"] == figures["known_spans"]["documents"] == 120
    assert figures["agreement"]["alpha"] == 1.0
    assert figures["agreement"]["null_p95"] < 0.67
    assert 0.95 < figures["known_spans"]["token_f1"]["low"] < 1, "perfect on 120 documents is no proof of perfection"
    assert figures["invariance"]["changed"] == 0
    assert figures["invariance"]["documents"] == 12
    assert len(found["samples"]) == len({sample["record"] for sample in found["samples"]}) == 20


def test_a_figure_beyond_its_limit_stops_the_run_and_a_wider_limit_lets_it_go_on(tmp_path: Path) -> None:
    status, said = run(tmp_path, "quality.min_known_f1=1.0")
    assert status == 2
    assert "allowed: at least 1 (quality.min_known_f1)" in said
    assert said.count("\n") == 1
    assert report(tmp_path)["breaches"], "what was measured stays to be looked at"
    assert not Manifest.exists(tmp_path / "runs" / "x" / "quality")
    assert run(tmp_path, "quality.min_known_f1=1.0")[0] == 2, "the second attempt is held to it too"
    tokens = tmp_path / "runs" / "x" / "tokens" / "manifest.json"
    before = tokens.stat().st_mtime_ns
    assert run(tmp_path)[0] == 0
    assert tokens.stat().st_mtime_ns == before
    assert Manifest.exists(tmp_path / "runs" / "x" / "quality")


def test_the_same_seed_draws_the_same_documents_and_another_seed_others(tmp_path: Path) -> None:
    ends = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        assert run(tmp_path / name, f"seed={seed}")[0] == 0
        ends.append([sample["record"] for sample in report(tmp_path / name)["samples"]])
    assert ends[0] == ends[1] != ends[2]


def test_malformed_rows_are_counted_by_corpus_and_reason_and_held_to_a_limit(tmp_path: Path) -> None:
    rows = [
        {"question": f"Ann has {n}. More?", "answer": f"{n}+1=<<{n}+1={n + 1}>>{n + 1}.\n#### {n + 1}"}
        for n in range(40)
    ]
    bad = [{"question": f"Q {n}?", "answer": "no mark"} for n in range(10)]
    corpus = tmp_path / "rows.jsonl"
    corpus.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *bad]))
    chosen = ["corpus.name=gsm8k", "corpus.records=null", "corpus.splits.fit=0.3", "corpus.splits.test=0.3"]
    chosen += [f"corpus.path={corpus}", "model.name=tiny-gsm8k"]
    status, said = run(tmp_path, *chosen)
    assert status == 2
    assert "share of rows quarantined is 0.2; allowed: at most 0.1" in said
    found = report(tmp_path)["corpora"]["gsm8k"]
    assert found["quarantined"]["rows"] == sum(found["quarantined"]["reasons"].values()) == 10
    assert found["agreement"]["alpha"] is None, "documents of one step have nothing to disagree on"
    assert run(tmp_path, *chosen, "quality.max_quarantined=0.2")[0] == 0


@pytest.mark.parametrize("layout", ["packed", "documents"])
def test_the_alignment_does_not_depend_on_how_rows_are_laid_out(tmp_path: Path, layout: str) -> None:
    assert run(tmp_path, f"tokenizer.layout={layout}", "tokenizer.ctx_len=16")[0] == 0
    figures = report(tmp_path)["corpora"]["arithmetic_cot"]
    assert figures["coverage"] == 1.0
    assert figures["known_spans"]["boundary_f1"]["value"] == 1.0
