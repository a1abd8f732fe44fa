"""A corpus block at once: the same stretches as record by record, on the tokens that spell them."""

import numpy as np
import pytest

from raysae.corpora.aligners import ALIGNERS, NO_STEP
from raysae.corpora.alignment import ALIGNMENT_SCHEMA, align_block
from raysae.corpora.blocks import TokenRows, known_steps, tokenize_table
from raysae.corpora.encoding import Encoder
from raysae.corpora.step_types import STEP_TYPES
from raysae.corpora.steps import align
from raysae.types import CorpusRecord
from raysae.worlds import arithmetic_cot
from tests.corpora.tables import records_table

ENCODER = Encoder(arithmetic_cot.tokenizer_json(), eos=1)


def disputed() -> CorpusRecord:
    """Its second step is told in other words than it stands there, its last not at all."""
    (record,) = arithmetic_cot.generate(1, seed=3)
    told = (record.steps[0], "finds 5 in b Ben :", *record.steps[2:], "and so on")
    return record.model_copy(update={"record_id": "disputed", "steps": told, "step_spans": ()})


RECORDS = [
    *arithmetic_cot.generate(3, seed=1),
    disputed(),
    disputed().model_copy(update={"record_id": "bare", "steps": ()}),
]


def test_a_block_has_the_stretches_of_its_records() -> None:
    found = align_block(records_table(RECORDS))
    expected = [(i, stretch) for i, record in enumerate(RECORDS) for stretch in align(record)]
    assert found.document.tolist() == [i for i, _ in expected]
    for name in ("start", "end", "step"):
        assert getattr(found, name).tolist() == [getattr(stretch, name) for _, stretch in expected]
    assert found.type.tolist() == [-1 if s.type is None else STEP_TYPES.index(s.type) for _, s in expected]
    assert found.confidence.tolist() == pytest.approx([stretch.confidence for _, stretch in expected])
    assert found.votes.tolist() == [[-2 if vote is None else vote for vote in s.votes] for _, s in expected]
    assert found.abstains.any() or (found.confidence < 1).any(), "nothing here is disputed"


def test_the_table_keeps_ranges_votes_and_who_had_no_answer() -> None:
    rows, table, _ = tokenize_table(ENCODER, records_table(RECORDS), 1000, "truncate", {})
    assert table.schema == ALIGNMENT_SCHEMA
    at = {record: rows.starts[i] for i, record in enumerate(rows.documents)}
    texts = {record.record_id: record.text for record in RECORDS}
    for row in table.to_pylist():
        tokens = slice(at[row["record"]] + row["first_token"], at[row["record"]] + row["last_token"])
        assert ENCODER.decode(rows.columns["input_ids"][tokens]) == texts[row["record"]][row["start"] : row["end"]]
        assert set(rows.columns["step"][tokens].tolist()) == {row["step"]}
        assert rows.columns["step_confidence"][tokens] == pytest.approx(row["confidence"])
        votes = [row[name] for name in ALIGNERS]
        behind = 0 if max(map(votes.count, votes)) == 1 else votes.count(row["step"])
        assert row["confidence"] == pytest.approx(behind / 3)
        assert (row["type"] is None) == (row["step"] == NO_STEP)
    assert None in table["explicit"].to_pylist(), "the steps that were told are more than the sentences"


def test_where_a_world_knows_its_steps_the_consensus_is_what_it_knows() -> None:
    records = list(arithmetic_cot.generate(200, seed=5))
    rows, _, _ = tokenize_table(ENCODER, records_table(records), 1000, "truncate", {})
    known = known_steps(ENCODER.encode([record.text for record in records]), records_table(records))
    assert (rows.columns["step"] == known).all()
    assert (rows.columns["step_confidence"] == 1).all()


def test_tokens_outside_of_every_step_are_certain_and_have_no_type() -> None:
    rows, table, _ = tokenize_table(ENCODER, records_table(RECORDS[-1:]), 1000, "truncate", {})
    assert table.num_rows == 0
    columns = rows.columns
    assert set(columns["step"].tolist()) == set(columns["consensus_type"].tolist()) == {-1}
    assert set(columns["step_confidence"].tolist()) == {1.0}
    assert [columns[name].dtype for name in ("step", "consensus_type", "step_confidence")] == [
        np.int16,
        np.int8,
        np.float32,
    ]


def test_what_is_counted_of_a_block() -> None:
    records = [*RECORDS, RECORDS[0].model_copy(update={"steps": (*RECORDS[0].steps, " ")})]
    rows, table, facts = tokenize_table(ENCODER, records_table(records), 12, "truncate", {})
    lengths = np.diff(tokenize_table(ENCODER, records_table(records), 1000, "truncate", {})[0].starts)
    assert isinstance(rows, TokenRows)
    assert facts["documents"] == len(records)
    assert (facts["document_tokens"], facts["longest"]) == (lengths.sum(), lengths.max()), "before anything is cut off"
    assert 32 <= lengths.min() <= lengths.max() < 64
    assert facts["lengths"] == {"5": len(records)}, "2**5 tokens and more, fewer than 2**6"
    assert facts["steps"] == sum(len(record.steps) for record in RECORDS) + len(RECORDS[0].steps)
    placed = {(row["record"], row["step"], i) for i, row in enumerate(table.to_pylist()) if row["step"] >= 0}
    assert facts["steps_found"] == sum(facts["types"].values()) <= len(placed)
    spans = [(row["last_token"] - row["first_token"], row["confidence"]) for row in table.to_pylist()]
    assert facts["claimed_tokens"] == sum(tokens for tokens, _ in spans)
    assert facts["tied_tokens"] == sum(tokens for tokens, confidence in spans if confidence == 0)
