"""Column names and Arrow types of the blocks. Plain types only, so that pandas, polars and pyarrow open every block."""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from raysae.errors import BadInput

ROW_GROUP_ROWS = 8192
"""Rows of a Parquet row group: the unit of random reading."""

TOKEN_SCHEMA = pa.schema(
    [
        ("record", pa.string()),
        ("split", pa.string()),
        ("input_ids", pa.list_(pa.int32())),
        ("step", pa.list_(pa.int16())),
        ("step_confidence", pa.list_(pa.float32())),
        ("consensus_type", pa.list_(pa.int8())),
        ("documents", pa.list_(pa.string())),
        ("document_starts", pa.list_(pa.int32())),
        ("skipped", pa.int32()),
    ]
)
"""One row per document, or per window of one, or per packed row of several. `documents` are the records whose tokens
the row holds, each beginning at its `document_starts` in the row; `skipped` tokens of the first are in earlier rows.

`step` is the index of the reasoning step a token belongs to, -1 outside of any; `step_confidence` the share of the
aligners behind that, 0 where they are tied; `consensus_type` what the step's words suggest, an index into
`raysae.corpora.step_types.STEP_TYPES`, -1 outside. None of the three is ground truth, which stands in `labels/`."""

STORED_AS = {"float16": pa.float16(), "float32": pa.float32(), "bfloat16": pa.uint16()}
"""bfloat16 has no Arrow type: its bits travel as uint16 and the column's metadata says so."""


NUMBER_BYTES = {name: kind.bit_width // 8 for name, kind in STORED_AS.items()}
"""Of one number on disk, before compression."""


def activation_schema(widths: dict[str, int], dtype: str) -> pa.Schema:
    """One row per token: where it came from, then one fixed-size list per hook point."""
    fields = [
        pa.field("record", pa.dictionary(pa.int32(), pa.string())),
        pa.field("position", pa.int32()),
        pa.field("token_id", pa.int32()),
        pa.field("step", pa.int16()),
    ]
    fields += [
        pa.field(name, pa.list_(STORED_AS[dtype], width), metadata={"dtype": dtype}) for name, width in widths.items()
    ]
    return pa.schema(fields)


def label_schema(variables: Sequence[str]) -> pa.Schema:
    """One row per token, in the order of the token block; a variable is null where it is not defined."""
    fields = [pa.field("record", pa.dictionary(pa.int32(), pa.string())), pa.field("position", pa.int32())]
    return pa.schema(fields + [pa.field(name, pa.dictionary(pa.int32(), pa.string())) for name in variables])


def to_column(values: np.ndarray, field: pa.Field, absent: np.ndarray | None = None) -> pa.Array:
    """[rows, width] array of the field's storage type -> fixed-size list, null in the rows that are `absent`."""
    flat = pa.array(np.ascontiguousarray(values).reshape(-1), type=field.type.value_type)
    mask = None if absent is None else pa.array(absent)
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1], mask=mask)


def to_float32(column: pa.ChunkedArray, field: pa.Field) -> np.ndarray:
    """Fixed-size list -> float32 [rows, width]."""
    stored = from_column(column)
    out = np.empty(stored.shape, np.float32)
    decode(stored, (field.metadata or {}).get(b"dtype", b"").decode(), out)
    return out


def from_column(column: pa.ChunkedArray) -> np.ndarray:
    """Fixed-size list -> [rows, width] of its storage type, less the rows that are null; without a copy where it is one
    chunk."""
    chunks = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    flat = (
        chunks[0]
        if len(chunks) == 1
        else np.concatenate([np.empty(0, column.type.value_type.to_pandas_dtype()), *chunks])
    )
    return flat.reshape(-1, column.type.list_size)


_EXPONENTS = {"float16": ("i2", "u2", 0x7C00), "bfloat16": ("i2", "u2", 0x7F80), "float32": ("i4", "u4", 0x7F800000)}
"""How the bits of each storage type are read, and from where on they are no finite number."""


def all_finite(stored: np.ndarray, dtype: str) -> bool:
    """Whether the storage type [rows, width] holds finite numbers only.

    By two comparisons of its bits, one for either sign: a thirtieth of the price of `np.isfinite` on float16.
    """
    signed, unsigned, least = _EXPONENTS[dtype]
    sign = 1 << (8 * stored.itemsize - 1)
    return bool(stored.view(signed).max(initial=0) < least and stored.view(unsigned).max(initial=0) < sign + least)


def decode(stored: np.ndarray, dtype: str, out: np.ndarray) -> None:
    """The storage type [rows, width] -> float32 in `out`.

    By torch, which has an instruction for it where numpy has none: seven times as fast for float16.
    """
    import torch

    tensor = torch.from_numpy(stored if stored.flags.writeable else stored.copy())
    torch.from_numpy(out).copy_(tensor.view(torch.bfloat16) if dtype == "bfloat16" else tensor)


def unstorable(values: np.ndarray, dtype: str) -> np.ndarray:
    """bool [rows, width]: what `check_storable` refuses."""
    bad = ~np.isfinite(values)
    return bad | (np.abs(values) > np.finfo(np.float16).max) if dtype == "float16" else bad


def check_storable(values: np.ndarray, dtype: str, place: Callable[[int], str]) -> None:
    """BadInput for a NaN, an infinity or, in float16, an overflow: never clipped or zeroed.

    It names the first such token (`place` says where a row is), its value and the cure.
    """
    bad = ~np.isfinite(values)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise BadInput(
            f"activation {values[row, column]} at {place(int(row))}, component {column}, one of {bad.sum():,} in "
            f"{bad.any(axis=1).sum():,} of {len(values):,} tokens",
            "allowed: finite activations",
            "check the model's weights, or type model.dtype=float32",
        )
    peak = float(np.abs(values).max(initial=0))
    if dtype == "float16" and peak > float(np.finfo(np.float16).max):
        row, column = np.unravel_index(np.abs(values).argmax(), values.shape)
        raise BadInput(
            f"activation {values[row, column]:.6g} at {place(int(row))}, component {column} overflows float16",
            "allowed: magnitudes up to 65504",
            "type capture.dtype=bfloat16 or capture.dtype=float32",
        )


def encode(values: np.ndarray, dtype: str, place: Callable[[int], str]) -> np.ndarray:
    """float32 [rows, width] -> the storage type. BadInput for what `check_storable` refuses."""
    check_storable(values, dtype, place)
    if dtype == "bfloat16":
        bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)  # round to nearest even
    return values.astype(dtype)
