"""An activation folder without a model: sparse sums of random directions, so that there is something to learn."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysae.store import Manifest, write_block
from raysae.store.schema import ROW_GROUP_ROWS, activation_schema, encode, to_column
from raysae.types import HookPoint

POINT = HookPoint(layer=0, site="resid_post")


def write_activations(folder: Path, rows: int, d_in: int, active: int = 16, seed: int = 0) -> None:
    """`rows` TRAIN tokens of width `d_in`, float16, in one block: `active` of 4 * d_in features each."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((4 * d_in, d_in)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    x = np.empty((rows, d_in), np.float32)
    for start in range(0, rows, ROW_GROUP_ROWS):
        part = x[start : start + ROW_GROUP_ROWS]
        chosen = rng.integers(0, len(features), (len(part), active))
        part[:] = 0.01 * rng.standard_normal(part.shape)
        for column in chosen.T:
            part += features[column] * rng.uniform(1, 1.2, (len(part), 1)).astype(np.float32)
    schema = activation_schema({str(POINT): d_in}, "float16")
    zeros = np.zeros(rows, np.int32)
    columns = [
        pa.DictionaryArray.from_arrays(pa.array(zeros), pa.array(["synthetic"])),
        pa.array(np.arange(rows, dtype=np.int32)),
        pa.array(zeros),
        pa.array(zeros.astype(np.int16)),
        to_column(encode(x, "float16", str), schema.field(str(POINT))),
    ]
    table = pa.table(columns, schema=schema)
    wide = x.astype(np.float64)
    statistics = {"mean": wide.mean(0).tolist(), "rms": float(np.sqrt((wide**2).mean())), "max": float(np.abs(x).max())}
    block = write_block(
        folder, "synthetic", ".parquet", "synthetic", rows,
        lambda path: pq.write_table(table, path, compression="zstd", row_group_size=ROW_GROUP_ROWS),
        split="TRAIN", documents=1, statistics={str(POINT): statistics},
    )  # fmt: skip
    Manifest(kind="activations", fingerprint="synthetic", blocks=(block,), extra={"widths": {str(POINT): d_in}}).write(
        folder
    )
