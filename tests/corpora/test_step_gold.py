"""The consensus on real text, against 225 steps of 60 GSM8K problems that were labelled by reading them.

The bounds are what was measured, rounded down: a change that makes the alignment worse is seen here. Five lines hold
two steps each; the aligners keep to the lines, and that is all the spans they get wrong.
"""

import hashlib
import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysae.corpora import CORPORA
from raysae.corpora.agreement import boundary_hits, token_hits
from raysae.corpora.blocks import known_steps, tokenize_table
from raysae.corpora.encoding import Encoder
from raysae.corpora.steps import align
from raysae.falsification.resampling import ratio_over_documents
from raysae.models.load import load_tokenizer, tokenizer_definition
from raysae.types import CorpusRecord
from raysae.types.experiment import ModelConfig
from raysae.types.text import CorpusConfig, TokenizerConfig
from tests.corpora.tables import records_table, renumbered

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "gsm8k"
GOLD = json.loads((Path(__file__).parent / "gold" / "gsm8k_steps.json").read_text())

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the GSM8K files are not at {FOLDER}")


@cache
def records(name: str = "main") -> dict[str, CorpusRecord]:
    file = {"main": "test.jsonl", "socratic": "test_socratic.jsonl"}[name]
    config = CorpusConfig(name="gsm8k", config=name, path=FOLDER / file)
    (source,) = CORPORA["gsm8k"].sources(config)
    rows = [row for row in CORPORA["gsm8k"].read(source, config) if isinstance(row, CorpusRecord)]
    return {row.record_id: row for row in rows}


def unseen(record: CorpusRecord) -> CorpusRecord:
    """Without what the corpus knows of the steps' places."""
    return record.model_copy(update={"step_spans": (), "labels": (), "extras": {}})


def on_tokens(record: CorpusRecord, gold: list[list[Any]], blind: bool) -> tuple[np.ndarray, np.ndarray]:
    """Step index per token: of the consensus, and of the gold."""
    seen = unseen(record) if blind else record
    behind = record.text.index(record.cot or "", len(record.question))
    read = record.model_copy(update={"step_spans": tuple((behind + start, behind + end) for start, end, _ in gold)})
    rows, _, _ = tokenize_table(encoder(), records_table([seen]), 4096, "truncate", {})
    return rows.columns["step"], known_steps(encoder().encode([record.text]), records_table([read]))


@cache
def encoder() -> Encoder:
    tokenizer = load_tokenizer(ModelConfig(name="tiny-gsm8k"), TokenizerConfig())
    return Encoder(tokenizer_definition(tokenizer), eos=0)


def test_the_gold_is_of_this_text() -> None:
    assert len(GOLD["records"]) == 60
    assert sum(len(row["steps"]) for row in GOLD["records"]) == 225
    for row in GOLD["records"]:
        cot = records()[row["record"]].cot or ""
        assert hashlib.sha256(cot.encode()).hexdigest()[:16] == row["cot_sha256"], row["record"]
        for start, end, _ in row["steps"]:
            assert cot[start:end] == cot[start:end].strip() != ""


@pytest.mark.parametrize(("name", "lines"), [("main", 4819), ("socratic", 4821)])
def test_the_annotated_lines_are_found_without_being_told_where_they_are(name: str, lines: int) -> None:
    """Two of the socratic lines end at their `**` and have no step to find."""
    total = 0
    for record in records(name).values():
        known = [words for start, end in record.step_spans if (words := record.text[start:end].strip())]
        found = [record.text[stretch.start : stretch.end] for stretch in align(unseen(record)) if stretch.step >= 0]
        assert known == found
        total += len(record.step_spans)
    assert total == lines


def test_every_annotated_computation_lies_in_one_step() -> None:
    annotated = 0
    for record in records().values():
        cot = record.extras["answer_raw"].rpartition("####")[0].strip()
        given = tuple(line for line in cot.split("\n") if line.strip())
        raw = record.model_copy(update={"text": f"{record.question}\n{cot}", "cot": cot, "steps": given})
        held = [(stretch.start, stretch.end) for stretch in align(unseen(raw)) if stretch.step >= 0]
        behind = len(record.question) + 1
        for match in re.finditer("<<.*?>>", cot):
            annotated += 1
            assert any(start <= behind + match.start() and behind + match.end() <= end for start, end in held)
    assert annotated == 4282


@pytest.mark.parametrize("blind", [False, True])
def test_the_consensus_agrees_with_the_gold_on_tokens_and_bounds(blind: bool) -> None:
    pairs = [on_tokens(records()[row["record"]], row["steps"], blind) for row in GOLD["records"]]
    tokens = [token_hits(renumbered(found, wanted), wanted) for found, wanted in pairs]
    bounds = [boundary_hits(found, wanted) for found, wanted in pairs]
    for sums, value, low in ((tokens, 0.984, 0.96), (bounds, 0.988, 0.96)):
        hits, here, there = np.array(sums, dtype=np.float64).T[:, None]
        estimate = ratio_over_documents(2 * hits, here + there, bootstrap=2000, seed=0)
        assert estimate.interval is not None
        assert estimate.value >= value
        assert estimate.interval[0] >= low


def test_the_types_agree_with_the_gold_though_most_of_that_is_one_type() -> None:
    agreed, rare = 0, Counter()
    for row in GOLD["records"]:
        record = records()[row["record"]]
        found, wanted = on_tokens(record, row["steps"], blind=False)
        types = {stretch.step: stretch.type for stretch in align(record)}
        for i, (_, _, kind) in enumerate(row["steps"]):
            said = types.get(int(np.bincount(found[wanted == i] + 1).argmax()) - 1)
            agreed += said == kind
            if kind != "OPERATE":
                rare[said == kind] += 1
    assert agreed >= 216
    assert rare.total() == 12, "with so few other steps, agreement in all says little"
    assert rare[True] >= 4
