"""Reading activations back: every token once per epoch, the same order from any step on, and nothing of TEST."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from raysae.errors import BadInput, Refused
from raysae.store import ActivationStore, Manifest, order, write_block
from raysae.store.activation_block import ActivationBlock, Tokens
from raysae.store.schema import ROW_GROUP_ROWS, activation_schema, all_finite, encode, to_column, to_float32
from raysae.store.shuffle import KEPT_BATCHES
from raysae.types import HookPoint, Split

POINT = HookPoint(layer=0, site="resid_post")
WIDTH = 4


def make_store(folder: Path, rows: dict[str, int], dtype: str = "float16") -> Path:
    """Blocks whose every activation is a number of its own: row i of the store is [i, i, i, i]."""
    blocks, first = [], 0
    for name, count in rows.items():
        values = np.repeat(np.arange(first, first + count, dtype=np.float32)[:, None], WIDTH, axis=1)
        first += count
        schema = activation_schema({str(POINT): WIDTH}, dtype)
        table = pa.table(
            [
                pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([name])),
                pa.array(np.arange(count, dtype=np.int32)),
                pa.array(np.full(count, 7, np.int32)),
                pa.array(np.zeros(count, np.int16)),
                to_column(encode(values, dtype, str), schema.field(str(POINT))),
            ],
            schema=schema,
        )
        statistics = {
            str(POINT): {"mean": values.mean(0).tolist(), "rms": float(np.sqrt((values**2).mean())), "max": 1.0}
        }
        split = name.split("-")[0].upper()
        blocks.append(
            write_block(
                folder,
                name,
                ".parquet",
                "f",
                count,
                lambda path, table=table: pq.write_table(table, path, row_group_size=8),
                split=split,
                documents=1,
                statistics=statistics,
            )  # fmt: skip
        )
    Manifest(
        kind="activations", fingerprint="f", blocks=tuple(blocks), extra={"widths": {str(POINT): WIDTH}, "dtype": dtype}
    ).write(folder)
    return folder


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "ROW_GROUP_ROWS", 8)
    monkeypatch.setattr(order, "WINDOW_ROWS", 32)


def take(store: ActivationStore, count: int, **options: int) -> list[list[int]]:
    batches = store.batches(POINT, 10, options.pop("seed", 0), **options)
    return [next(batches)[:, 0].astype(int).tolist() for _ in range(count)]


@pytest.mark.usefixtures("small_groups")
def test_an_epoch_shows_every_token_once_and_mixes_blocks(tmp_path: Path) -> None:
    store = ActivationStore(make_store(tmp_path, {"train-0": 37, "train-1": 43, "test-0": 20}))
    epoch = take(store, 8)
    seen = [value for batch in epoch for value in batch]
    assert len(set(seen)) == 80
    assert max(seen) < 80, "TEST rows were shown"
    assert any(min(batch) < 37 <= max(batch) for batch in epoch)
    assert take(store, 16)[8:] != epoch, "the second epoch repeats the first"


@pytest.mark.usefixtures("small_groups")
def test_the_order_depends_on_seed_and_step_alone(tmp_path: Path) -> None:
    folder = make_store(tmp_path, {"train-0": 37, "train-1": 43, "train-2": 25})
    whole = take(ActivationStore(folder), 25)
    assert take(ActivationStore(folder), 25) == whole
    assert take(ActivationStore(folder), 25, seed=1) != whole
    for start in (1, 4, 9, 10, 11, 17):
        assert take(ActivationStore(folder), 25 - start, start_step=start) == whole[start:]


@pytest.mark.usefixtures("small_groups")
def test_so_many_steps_and_no_more(tmp_path: Path) -> None:
    store = ActivationStore(make_store(tmp_path, {"train-0": 37, "train-1": 43, "train-2": 25}))
    whole = take(store, 25)
    for start, steps in ((0, 25), (3, 4), (9, 2), (10, 11), (7, 0)):
        found = store.batches(POINT, 10, 0, start_step=start, steps=steps)
        assert [batch[:, 0].astype(int).tolist() for batch in found] == whole[start : start + steps]


@pytest.mark.usefixtures("small_groups")
@given(kept=st.lists(st.sampled_from(["nothing", "array", "row", "tensor"]), min_size=40, max_size=40))
@settings(deadline=None, max_examples=20)
def test_what_a_reader_keeps_of_a_batch_is_never_written_over(
    tmp_path_factory: pytest.TempPathFactory, kept: list[str]
) -> None:
    store = ActivationStore(make_store(tmp_path_factory.mktemp("store"), {"train-0": 37, "train-1": 43}))
    keep: dict[str, Callable[[np.ndarray], Any]] = {
        "array": lambda batch: batch, "row": lambda batch: batch[3], "tensor": torch.from_numpy,
    }  # fmt: skip
    held: list[tuple[Any, np.ndarray]] = []
    for batch, how in zip(store.batches(POINT, 10, 0), kept, strict=False):
        if how in keep:
            held.append((keep[how](batch), np.asarray(keep[how](batch)).copy()))
    for mine, copy in held:
        np.testing.assert_array_equal(np.asarray(mine), copy)


@pytest.mark.usefixtures("small_groups")
def test_a_batch_that_nobody_keeps_costs_no_new_memory(tmp_path: Path) -> None:
    store = ActivationStore(make_store(tmp_path, {"train-0": 37, "train-1": 43}))
    batches = store.batches(POINT, 10, 0)
    assert len({next(batches).__array_interface__["data"][0] for _ in range(100)}) <= KEPT_BATCHES


@pytest.mark.usefixtures("small_groups")
def test_how_often_two_rows_of_a_batch_are_of_one_document(tmp_path: Path) -> None:
    store = ActivationStore(make_store(tmp_path, {"train-0": 37, "train-1": 43, "train-2": 24}))
    window = next(order.windows(order.row_groups(store.blocks(Split.TRAIN)), 10, 0))
    rows = np.concatenate([np.full(group.rows, int(group.block.name[-1])) for group in window.groups])
    pairs = rows[:, None] == rows[None, :]  # each block is one document
    chance, shuffled = store.same_document(10, 0)
    assert chance == pytest.approx((pairs.sum() - len(rows)) / (len(rows) * (len(rows) - 1)))
    assert shuffled == pytest.approx((104 / 3 - 1) / 103)


def test_a_document_that_goes_on_in_the_next_row_group_is_one_document(tmp_path: Path) -> None:
    rows, length = 2 * ROW_GROUP_ROWS + 500, 3000
    place = np.arange(rows, dtype=np.int32)
    tokens = Tokens(place // length, place % length, place, np.zeros(rows, np.int16))

    def write(path: Path) -> None:
        with ActivationBlock(path, list("abcdef"), {str(POINT): WIDTH}, "float16") as block:
            block.add(tokens, {str(POINT): np.ones((rows, WIDTH), np.float32)})

    block = write_block(tmp_path, "train-0", ".parquet", "f", rows, write, split="TRAIN", documents=6)
    extra = {"widths": {str(POINT): WIDTH}, "dtype": "float16"}
    Manifest(kind="activations", fingerprint="f", blocks=(block,), extra=extra).write(tmp_path)
    counts = np.bincount(tokens.record)
    expected = (counts * (counts - 1)).sum() / (rows * (rows - 1))
    assert ActivationStore(tmp_path).same_document(10, 0)[0] == pytest.approx(expected)


def test_test_is_closed_to_who_did_not_ask(tmp_path: Path) -> None:
    folder = make_store(tmp_path, {"train-0": 5, "test-0": 5})
    with pytest.raises(Refused, match="only evaluate reads TEST"):
        ActivationStore(folder).blocks(Split.TEST)
    assert len(ActivationStore(folder, tuple(Split)).blocks(Split.TEST)) == 1


def test_a_batch_larger_than_the_data_is_bad_input(tmp_path: Path) -> None:
    store = ActivationStore(make_store(tmp_path, {"train-0": 5}))
    with pytest.raises(BadInput, match=r"TRAIN has 5 tokens.*a batch needs 10.*type train.batch_tokens=4"):
        next(store.batches(POINT, 10, 0))


def test_another_hook_point_is_bad_input(tmp_path: Path) -> None:
    store = ActivationStore(make_store(tmp_path, {"train-0": 5}))
    with pytest.raises(BadInput, match=r"layers.3.mlp_out is not in .*captured: layers.0.resid_post"):
        store.width(HookPoint(layer=3, site="mlp_out"))


def test_the_scale_makes_the_mean_square_one(tmp_path: Path) -> None:
    store = ActivationStore(make_store(tmp_path, {"train-0": 30, "train-1": 20}))
    rows = np.concatenate([store.read(block, POINT).activations for block in store.blocks(Split.TRAIN)])
    assert ((rows * store.input_scale(POINT)) ** 2).mean() == pytest.approx(1, rel=1e-5)
    assert store.mean(POINT) == pytest.approx(rows.mean(0))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_pyarrow_pandas_and_polars_open_a_block_without_us(tmp_path: Path, dtype: str) -> None:
    folder = make_store(tmp_path, {"train-0": 20}, dtype)
    path = folder / "train-0.parquet"
    expected = np.repeat(np.arange(20)[:, None], WIDTH, axis=1)
    by_arrow = np.stack(pq.read_table(path)[str(POINT)].to_pylist())
    by_pandas = np.stack(list(pd.read_parquet(path)[str(POINT)]))
    by_polars = pl.read_parquet(path)[str(POINT)].to_numpy()
    for found in (by_arrow, by_pandas, by_polars):
        assert (np.asarray(found, np.float64) == expected).all()
    assert pl.read_parquet(path)["position"].to_list() == list(range(20))


finite = hnp.arrays(np.float32, (5, WIDTH), elements=st.floats(-60000, 60000, width=32))


@settings(max_examples=50)
@given(finite, st.sampled_from(["float16", "bfloat16", "float32"]))
def test_what_is_stored_comes_back_to_the_precision_of_its_type(values: np.ndarray, dtype: str) -> None:
    field = activation_schema({"x": WIDTH}, dtype).field("x")
    back = to_float32(pa.chunked_array([to_column(encode(values, dtype, str), field)]), field)
    relative = {"float16": 2**-11, "bfloat16": 2**-8, "float32": 0}[dtype]
    assert np.allclose(back, values, rtol=relative, atol=6e-8)


@given(finite, st.sampled_from(["float16", "bfloat16", "float32"]), st.integers(0, 19), st.sampled_from([1, -1]))
def test_a_number_that_is_none_is_seen_in_the_bits(values: np.ndarray, dtype: str, place: int, sign: int) -> None:
    stored = encode(values, dtype, str)
    assert all_finite(stored, dtype)
    for bad in (np.nan, np.inf):
        changed = stored.copy()
        bits = np.array(sign * bad, np.float32)
        changed.flat[place] = bits.view(np.uint32) >> 16 if dtype == "bfloat16" else bits.astype(stored.dtype)
        assert not all_finite(changed, dtype)


@pytest.mark.usefixtures("small_groups")
def test_a_block_with_a_nan_is_named_before_anything_learns_from_it(tmp_path: Path) -> None:
    folder = make_store(tmp_path, {"train-0": 20, "train-1": 20})
    table = pq.read_table(folder / "train-1.parquet")
    values = np.stack(table[str(POINT)].to_pylist())
    values[9, 2] = np.nan
    column = to_column(values, table.schema.field(str(POINT)))
    table = table.set_column(table.column_names.index(str(POINT)), table.schema.field(str(POINT)), column)
    pq.write_table(table, folder / "train-1.parquet", row_group_size=8)
    with pytest.raises(
        BadInput, match=r"train-1.parquet .*layers.0.resid_post is not finite somewhere in rows 8 to 15"
    ):
        list(ActivationStore(folder).batches(POINT, 10, 0, steps=4))


@pytest.mark.usefixtures("small_groups")
@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda path, table: path.write_bytes(path.read_bytes()[:-100]), ""),
        (lambda path, table: path.write_text("no Parquet"), ""),
        (lambda path, table: path.unlink(), ""),
        (lambda path, table: pq.write_table(table.slice(0, 7), path), "7 rows are where"),
        (
            lambda path, table: pq.write_table(table.drop_columns([str(POINT)]), path, row_group_size=8),
            "no column layers.0.resid_post",
        ),
        (
            lambda path, table: pq.write_table(
                table.set_column(4, str(POINT), pa.array([[1.0] * 9] * len(table), pa.list_(pa.float16(), 9))),
                path,
                row_group_size=8,
            ),
            "halffloat>.9., where 4 numbers in float16 were",
        ),
    ],
)
def test_a_file_that_capture_did_not_write_is_refused(tmp_path: Path, spoil: Any, why: str) -> None:
    store = ActivationStore(make_store(tmp_path, {"train-0": 20, "train-1": 20}))
    spoil(tmp_path / "train-1.parquet", pq.read_table(tmp_path / "train-1.parquet"))
    for read in (
        lambda: list(store.batches(POINT, 10, 0, steps=4)),
        lambda: store.read(store.blocks(Split.TRAIN)[1], POINT),
    ):
        with pytest.raises(BadInput, match=f"train-1.parquet cannot be read .*{why}.*type raysae verify"):
            read()


def test_a_float16_overflow_names_the_value_the_place_and_the_cure() -> None:
    values = np.ones((3, WIDTH), np.float32)
    values[2, 1] = 70000
    with pytest.raises(BadInput, match=r"activation 70000 at row 2, component 1 overflows.*bfloat16"):
        encode(values, "float16", "row {}".format)
    assert encode(values, "bfloat16", str).dtype == np.uint16


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_never_stored(bad: float) -> None:
    values = np.ones((3, WIDTH), np.float32)
    values[1, 0] = values[1, 3] = values[2, 0] = bad
    for dtype in ("float16", "bfloat16", "float32"):
        with pytest.raises(BadInput, match="at row 1, component 0, one of 3 in 2 of 3 tokens"):
            encode(values, dtype, "row {}".format)


def written(path: Path, values: np.ndarray, dtype: str, *, cuts: list[int]) -> dict:
    """A block of two records, added in portions that end at `cuts`."""
    record = (np.arange(len(values)) >= len(values) // 2).astype(np.int32)
    tokens = Tokens(record, np.arange(len(values), dtype=np.int32), *(np.zeros(len(values), t) for t in ("i4", "i2")))
    with ActivationBlock(path, ["a", "b"], {"x": WIDTH}, dtype) as block:
        for part in np.split(np.arange(len(values)), cuts):
            block.add(Tokens(*(column[part] for column in tokens)), {"x": values[part]})
    return block.statistics()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_block_is_the_same_however_it_was_cut_and_its_row_groups_are_where_the_reader_looks(
    tmp_path: Path, dtype: str
) -> None:
    values = np.random.default_rng(0).normal(3, 2, (2 * ROW_GROUP_ROWS + 500, WIDTH)).astype(np.float32)
    whole = written(tmp_path / "whole", values, dtype, cuts=[])
    parts = written(tmp_path / "parts", values, dtype, cuts=[1, 9000, 9000, 16400])
    files = [pq.ParquetFile(tmp_path / name) for name in ("whole", "parts")]
    assert files[0].read().equals(files[1].read())
    for file in files:
        counts = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        assert counts == [ROW_GROUP_ROWS, ROW_GROUP_ROWS, 500]
    for statistics in (whole, parts):
        assert np.allclose(statistics["x"]["mean"], values.astype(np.float64).mean(axis=0), rtol=1e-9)
        assert statistics["x"]["rms"] == pytest.approx(float(np.sqrt(np.square(values, dtype=np.float64).mean())))
        assert statistics["x"]["max"] == pytest.approx(float(np.abs(values).max()))


def test_an_activation_that_cannot_be_stored_is_named_by_its_token(tmp_path: Path) -> None:
    values = np.ones((100, WIDTH), np.float32)
    values[60, 2] = 1e6
    with pytest.raises(BadInput, match="activation 1e.06 at x, token 60 of b, component 2 overflows float16"):
        written(tmp_path / "block", values, "float16", cuts=[50])


@pytest.mark.usefixtures("small_groups")
def test_shards_share_no_document_and_leave_none_out(tmp_path: Path) -> None:
    rows = {f"train-{i}": 20 for i in range(7)}
    store = ActivationStore(make_store(tmp_path, {**rows, "test-0": 20}))
    seen = []
    for number in range(3):
        shard = order.DocumentShard(number, 3)
        steps = 20 * len(shard.of(store.blocks(Split.TRAIN))) // 10
        batches = list(store.batches(POINT, 10, 0, steps=steps, shard=shard))
        seen.append(set(np.concatenate(batches)[:, 0].astype(int).tolist()))
    assert set.union(*seen) == set(range(140))
    assert sum(map(len, seen)) == 140, "two shards show one row"
