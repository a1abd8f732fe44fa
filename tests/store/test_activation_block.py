"""What a block costs on disk beside its numbers: next to nothing, also where no number can be compressed."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from raysae.store.activation_block import ActivationBlock, Tokens
from raysae.store.schema import ROW_GROUP_ROWS

ROWS = 2 * ROW_GROUP_ROWS + 500
DOCUMENT = 40
"""Tokens of each document."""


def noise(dtype: str, width: int) -> np.ndarray:
    """Numbers of the type, every bit of them random."""
    random = np.random.default_rng(0)
    bits = random.integers(0, 2**32, (ROWS, width), dtype=np.uint32)
    if dtype == "bfloat16":
        values = (bits & 0xFFFF0000).view(np.float32)
    else:
        values = bits.view(np.float32) if dtype == "float32" else bits.astype(np.uint16).view(np.float16)
    return np.where(np.isfinite(values), values, 1).astype(np.float32)


def write(path: Path, values: np.ndarray, dtype: str) -> list[str]:
    place = np.arange(len(values), dtype=np.int32)
    records = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(len(values) // DOCUMENT + 1)]
    token_id = np.random.default_rng(1).integers(0, 50_000, len(values)).astype(np.int32)
    tokens = Tokens(place // DOCUMENT, place % DOCUMENT, token_id, np.zeros(len(values), np.int16))
    with np.errstate(over="ignore"), ActivationBlock(path, records, {"x": values.shape[1]}, dtype) as block:
        block.add(tokens, {"x": values})
    return records


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_number_takes_the_bytes_of_its_type_and_no_more(tmp_path: Path, dtype: str) -> None:
    width = 256
    write(tmp_path / "block", noise(dtype, width), dtype)
    column = pq.ParquetFile(tmp_path / "block").metadata.row_group(0).column(4)
    assert column.path_in_schema == "x.list.element"
    assert column.total_compressed_size / (ROW_GROUP_ROWS * width) < {"float32": 4}.get(dtype, 2) * 1.01


def test_a_record_is_named_in_the_row_groups_that_hold_its_tokens(tmp_path: Path) -> None:
    records = write(tmp_path / "block", np.ones((ROWS, 1), np.float32), "float16")
    file = pq.ParquetFile(tmp_path / "block")
    named = [file.read_row_group(i)["record"].combine_chunks().dictionary.to_pylist() for i in range(3)]
    of = np.arange(ROWS) // DOCUMENT
    groups = [of[i * ROW_GROUP_ROWS : (i + 1) * ROW_GROUP_ROWS] for i in range(3)]
    assert named == [[records[i] for i in range(group[0], group[-1] + 1)] for group in groups]
    assert file.read()["record"].to_pylist() == [records[i] for i in of]
