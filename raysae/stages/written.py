"""What stands in captured files, held against what went in: every token once, every number as it was."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysae.store.schema import encode, to_column, to_float32
from raysae.types.experiment import CaptureConfig


class Written:
    """Counts over files of the same documents."""

    def __init__(self, documents: Sequence[tuple[str, np.ndarray]], config: CaptureConfig) -> None:
        self.dtype = config.dtype
        self.expected = {record: _checksum(np.arange(len(ids)), ids) for record, ids in documents}
        self.tokens_per_file = sum(len(ids) for _, ids in documents)
        self.tokens = self.rows = self.wrong_documents = 0

    def add(self, path: Path) -> None:
        """Look into one more file."""
        table = pq.read_table(path, columns=["record", "position", "token_id"])
        record = np.array(table["record"].to_pylist())
        position, token = (table[name].to_numpy() for name in ("position", "token_id"))
        found = {
            name: _checksum(position[record == name], token[record == name]) for name in np.unique(record).tolist()
        }
        self.tokens += self.tokens_per_file
        self.rows += len(table)
        self.wrong_documents += sum(found.get(name) != checksum for name, checksum in self.expected.items())
        self.wrong_documents += len(found.keys() - self.expected.keys())

    def compare(self, path: Path, expected: dict[str, np.ndarray]) -> tuple[int, int]:
        """Stored numbers, and how many are not those of `expected` (float32 [documents, tokens, d] per hook point) as
        the storage type holds them. Rows that lack count as different."""
        compared = differing = 0
        table = pq.read_table(path, columns=list(expected))
        for name, values in expected.items():
            field = table.schema.field(name)
            rows = encode(values.reshape(-1, values.shape[-1]), self.dtype, str)
            should = to_float32(pa.chunked_array([to_column(rows, field)]), field)
            compared += should.size
            stored = to_float32(table[name], field)
            differing += should.size if stored.shape != should.shape else int((stored != should).sum())
        return compared, differing

    def counts(self) -> dict[str, int]:
        return {"tokens": self.tokens, "rows": self.rows, "wrong_documents": self.wrong_documents}


def _checksum(position: np.ndarray, token: np.ndarray) -> str:
    """Of one document, in the order it stands there."""
    return hashlib.sha256(position.astype("<i4").tobytes() + token.astype("<i4").tobytes()).hexdigest()
