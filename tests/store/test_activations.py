"""Reading activations back: every token once per epoch, the same order from any step on, and nothing of TEST."""

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from raysae.errors import BadInput, Refused
from raysae.store import ActivationStore, Manifest, activations, write_block
from raysae.store.schema import activation_schema, encode, to_column, to_float32
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
                to_column(encode(values, dtype, name), schema.field(str(POINT))),
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
    Manifest(kind="activations", fingerprint="f", blocks=tuple(blocks), extra={"widths": {str(POINT): WIDTH}}).write(
        folder
    )
    return folder


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "ROW_GROUP_ROWS", 8)
    monkeypatch.setattr(activations, "WINDOW_ROWS", 32)


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
    back = to_float32(pa.chunked_array([to_column(encode(values, dtype, "here"), field)]), field)
    relative = {"float16": 2**-11, "bfloat16": 2**-8, "float32": 0}[dtype]
    assert np.allclose(back, values, rtol=relative, atol=6e-8)


def test_a_float16_overflow_names_the_value_the_place_and_the_cure() -> None:
    values = np.ones((3, WIDTH), np.float32)
    values[2, 1] = 70000
    with pytest.raises(BadInput, match=r"block b: activation 70000 at row 2, component 1 overflows.*bfloat16"):
        encode(values, "float16", "block b")
    assert encode(values, "bfloat16", "block b").dtype == np.uint16


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_never_stored(bad: float) -> None:
    values = np.ones((3, WIDTH), np.float32)
    values[1, 0] = bad
    for dtype in ("float16", "bfloat16", "float32"):
        with pytest.raises(BadInput, match="at row 1, component 0"):
            encode(values, dtype, "block b")
