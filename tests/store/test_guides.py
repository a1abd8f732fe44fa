"""Labels and neighbours come back beside the activations they belong to, in any order and from any step on."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysae.errors import BadInput
from raysae.store import ActivationStore, GuideColumns, Manifest, order, write_block
from raysae.store.schema import label_schema
from raysae.types import Split
from tests.store.test_activations import POINT, WIDTH, make_store

VALUES = ("add", None, "sub")


@pytest.fixture(autouse=True)
def small_groups(monkeypatch):
    monkeypatch.setattr(order, "ROW_GROUP_ROWS", 8)


def make_labelled(run: Path, rows: dict[str, int]) -> ActivationStore:
    """Row i of a block holds VALUES[i % 3]; its activations are numbers of their own."""
    store = make_store(run / "activations" / "main", rows)
    blocks = []
    for name, count in rows.items():
        values = pa.array([VALUES[i % 3] for i in range(count)]).dictionary_encode()
        record = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([name]))
        table = pa.table(
            [record, pa.array(np.arange(count, dtype=np.int32)), values], schema=label_schema(["operation"])
        )
        blocks.append(
            write_block(run / "labels", name, ".parquet", "f", count, lambda path, t=table: pq.write_table(t, path))
        )
    Manifest(kind="labels", fingerprint="f", blocks=tuple(blocks), extra={"variables": ["operation"]}).write(
        run / "labels"
    )
    return ActivationStore(store)


def test_every_row_has_its_own_label_and_none_is_minus_one(tmp_path):
    store = make_labelled(tmp_path, {"train-0": 21, "train-1": 30, "fit-0": 9})
    assert store.label_values(None) == ("operation", ["add", "sub"])
    first_of = {0: 0, 1: 21}
    batches = store.batches(POINT, 16, 3, guides=GuideColumns("operation", pairs=False))
    for _ in range(6):
        batch = next(batches)
        assert batch.shape == (16, WIDTH + 2)
        for row in batch:
            number = int(row[0])
            i = number - first_of[int(number >= 21)]
            assert row[-2] == [0, -1, 1][i % 3]
        assert not batch[:, -1].any()


def test_pairs_stay_together_and_only_the_first_knows_the_next(tmp_path):
    store = make_labelled(tmp_path, {"train-0": 21, "train-1": 30})
    guides = GuideColumns(None, pairs=True)
    batches = store.batches(POINT, 16, 3, guides=guides)
    seen = [next(batches) for _ in range(5)]
    for batch in seen:
        follows = np.flatnonzero(batch[:-1, -1])
        assert len(follows) >= 4
        assert np.array_equal(batch[follows + 1, 0], batch[follows, 0] + 1)
        assert not batch[follows + 1, -1].any()
        assert (batch[:, -2] == -1).all()
    again = store.batches(POINT, 16, 3, start_step=2, guides=guides)
    assert all(np.array_equal(next(again), batch) for batch in seen[2:])


def test_labels_of_a_block_are_in_the_order_of_its_rows(tmp_path):
    store = make_labelled(tmp_path, {"train-0": 8, "fit-0": 7})
    assert store.labels(store.blocks(Split.FIT)[0], "operation").tolist() == [0, -1, 1, 0, -1, 1, 0]


def test_a_label_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    store = make_labelled(tmp_path, {"train-0": 8})
    with pytest.raises(BadInput, match="loss.probe_label=carry; labelled in this corpus: operation"):
        store.label_values("carry")
    bare = ActivationStore(make_store(tmp_path / "bare" / "activations" / "main", {"train-0": 8}))
    with pytest.raises(BadInput, match="labelled in this corpus: nothing; type loss.probe=0"):
        bare.label_values(None)


def test_a_table_puts_what_the_token_tells_in_the_place_of_the_label(tmp_path):
    store = make_labelled(tmp_path, {"train-0": 21})
    (block,) = store.blocks(Split.TRAIN)
    rows = store.read(block, POINT)
    table = tuple(range(100, 101 + int(rows.token_id.max())))
    batch = next(store.batches(POINT, 21, 3, guides=GuideColumns("operation", pairs=False, table=table)))
    for row in batch:
        i = int(row[0])
        assert row[-2] == (-1 if i % 3 == 1 else 100 + rows.token_id[i])
