"""One activation block, written a row group at a time: a block of two million tokens never stands in memory."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysae.store.schema import ROW_GROUP_ROWS, activation_schema, encode, to_column, unstorable


class Tokens(NamedTuple):
    """Rows of a block in its order, a number per token."""

    record: np.ndarray
    """int32, index into the block's records"""
    position: np.ndarray
    """int32"""
    token_id: np.ndarray
    """int32"""
    step: np.ndarray
    """int16"""

    def place(self, records: Any, hookpoint: str, row: int) -> str:
        """Where a row is, for a message."""
        return f"{hookpoint}, token {self.position[row]} of {records[int(self.record[row])]}"


class ActivationBlock:
    """Takes rows in any portion and writes them in row groups of ROW_GROUP_ROWS, so that the reader finds each by
    number. As a context manager it closes the file.

    With `quarantine` a document with an activation that cannot be stored is null in every hook point, and named.
    """

    def __init__(
        self, path: Path, records: Sequence[str], widths: dict[str, int], dtype: str, *, quarantine: bool = False
    ) -> None:
        self.records, self.dtype, self.quarantine = pa.array(records), dtype, quarantine
        self.quarantined: list[dict[str, Any]] = []
        """Record, its first row, its rows, the first hook point at fault and how many numbers of it."""
        self.added = 0
        self.schema = activation_schema(widths, dtype)
        # No dictionary and no statistics on dense numbers, bytes split by significance: measured a quarter faster than
        # Parquet's defaults.
        options: dict[str, Any] = {
            "compression": "zstd",
            "compression_level": 1,
            "use_dictionary": ["record"],
            "use_byte_stream_split": [f"{name}.list.element" for name in widths],
            "write_statistics": ["record", "position"],
        }
        self.file = pq.ParquetWriter(path, self.schema, **options)
        self.waiting: list[pa.Table] = []
        self.rows = 0
        self._statistics = Statistics(widths)

    def add(self, tokens: Tokens, values: dict[str, np.ndarray]) -> None:
        """`values`: float32 [rows, width] per hook point, of whole documents. BadInput for what the storage type cannot
        hold, unless it is to be quarantined."""
        absent = self._quarantine(tokens, values) if self.quarantine else None
        if absent is not None:
            values = {name: np.where(absent[:, None], np.float32(0), array) for name, array in values.items()}
        columns = [pa.DictionaryArray.from_arrays(tokens.record, self.records)]
        columns += [pa.array(column) for column in tokens[1:]]
        for name, array in values.items():
            stored = encode(array, self.dtype, partial(tokens.place, self.records, name))
            columns.append(to_column(stored, self.schema.field(name), absent))
        kept = values if absent is None else {name: array[~absent] for name, array in values.items()}
        self._statistics.add(kept)
        self.added += len(tokens.record)
        self.waiting.append(pa.table(columns, schema=self.schema))
        self._write(ROW_GROUP_ROWS)

    def statistics(self) -> dict[str, dict[str, Any]]:
        """Of all rows."""
        return self._statistics.found()

    def _quarantine(self, tokens: Tokens, values: dict[str, np.ndarray]) -> np.ndarray | None:
        """bool [rows], the documents with a number that cannot be stored; None where there is none."""
        absent = np.zeros(len(tokens.record), bool)
        for name, array in values.items():
            bad = unstorable(array, self.dtype).sum(axis=1)
            for record in np.unique(tokens.record[(bad > 0) & ~absent]):
                rows = tokens.record == record
                absent |= rows
                self.quarantined.append(
                    {
                        "record": self.records[int(record)].as_py(),
                        "first": self.added + int(np.argmax(rows)),
                        "rows": int(rows.sum()),
                        "hookpoint": name,
                        "components": int(bad[rows].sum()),
                    }
                )
        return absent if absent.any() else None

    def _write(self, least: int) -> None:
        table = pa.concat_tables(self.waiting)
        ready = len(table) // least * least
        for first in range(0, ready, ROW_GROUP_ROWS):
            group = table.slice(first, min(ROW_GROUP_ROWS, ready - first)).combine_chunks()
            self.file.write_table(_with_its_own_records(group), row_group_size=ROW_GROUP_ROWS)
        self.rows += ready
        self.waiting = [table.slice(ready)]

    def __enter__(self) -> "ActivationBlock":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None and self.waiting:
            self._write(1)
        self.file.close()


def _with_its_own_records(group: pa.Table) -> pa.Table:
    """Parquet repeats a column's whole dictionary in every row group; only the names that occur in this one stay."""
    (record,) = group["record"].chunks
    codes = record.indices.to_numpy()  # never falling: rows are in the order of the records
    own = pa.DictionaryArray.from_arrays(codes - codes[0], record.dictionary[codes[0] : codes[-1] + 1])
    return group.set_column(0, group.schema.field("record"), own)


class Statistics:
    """Moments of rows that come in portions."""

    def __init__(self, widths: dict[str, int]) -> None:
        self.rows = 0
        self._sums = {name: _Sums(np.zeros(width), 0.0, 0.0) for name, width in widths.items()}

    def add(self, values: dict[str, np.ndarray]) -> None:
        """`values`: float32 [rows, width] per hook point."""
        for name, array in values.items():
            self._sums[name] = self._sums[name].plus(array)
        self.rows += len(next(iter(values.values())))

    def found(self) -> dict[str, dict[str, Any]]:
        """Per hook point: mean [width], rms and largest magnitude."""
        return {
            name: {
                "mean": (sums.values / max(self.rows, 1)).tolist(),
                "rms": float(np.sqrt(sums.squares / max(self.rows * len(sums.values), 1))),
                "max": sums.largest,
            }
            for name, sums in self._sums.items()
        }


class _Sums(NamedTuple):
    values: np.ndarray
    """float64 [width]"""
    squares: float
    largest: float

    def plus(self, array: np.ndarray) -> "_Sums":
        """The mean square is a sum of float64; the columns' sums are taken so too, without a copy in that precision."""
        return _Sums(
            self.values + array.sum(axis=0, dtype=np.float64),
            self.squares + float(np.einsum("ij,ij->", array, array, dtype=np.float64)),
            max(self.largest, float(np.abs(array).max(initial=0))),
        )
