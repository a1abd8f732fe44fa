"""Normalised records in Parquet blocks: written as they come, a sequence of blocks per split, and read back."""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raysae.store.manifest import BlockInfo, Manifest, write_block
from raysae.types import CorpusRecord, Split

RECORD_SCHEMA = pa.schema(
    [
        ("record_id", pa.string()),
        ("question", pa.string()),
        ("answer", pa.string()),
        ("cot", pa.string()),
        ("steps", pa.list_(pa.string())),
        ("source_dataset", pa.string()),
        ("split", pa.string()),
        ("licence", pa.string()),
        ("text", pa.string()),
        ("step_spans", pa.list_(pa.list_(pa.int32()))),
        (
            "labels",
            pa.list_(
                pa.struct(
                    [("start", pa.int32()), ("end", pa.int32()), ("variable", pa.string()), ("value", pa.string())]
                )
            ),
        ),
        ("extras", pa.string()),
    ]
)

BLOCK_CHARACTERS = 64 * 2**20
"""Characters of text in a block of records at most: a million records of a megabyte do not fit in memory."""


class RecordBlocks:
    """Records of one source on their way into blocks, a sequence per split."""

    def __init__(self, folder: Path, name: str, fingerprint: str, block_records: int) -> None:
        self.folder, self.name, self.fingerprint = folder, name, fingerprint
        self.block_records = block_records
        self.records = 0
        self.infos: dict[Split, list[BlockInfo]] = {split: [] for split in Split}
        self._waiting: dict[Split, list[CorpusRecord]] = {split: [] for split in Split}
        self._characters = dict.fromkeys(Split, 0)

    def add(self, record: CorpusRecord, split: Split) -> None:
        self.records += 1
        self._waiting[split].append(record.model_copy(update={"split": split}))
        self._characters[split] += len(record.text)
        full = len(self._waiting[split]) >= self.block_records
        if full or self._characters[split] >= BLOCK_CHARACTERS:
            self._write(split)

    def finish(self) -> list[BlockInfo]:
        """The last blocks, and all of them by split."""
        for split in Split:
            if self._waiting[split]:
                self._write(split)
        return [info for infos in self.infos.values() for info in infos]

    def _write(self, split: Split) -> None:
        records, self._waiting[split], self._characters[split] = self._waiting[split], [], 0
        rows = [
            {**record.model_dump(mode="json"), "extras": json.dumps(record.extras, ensure_ascii=False)}
            for record in records
        ]
        table = pa.Table.from_pylist(rows, schema=RECORD_SCHEMA)
        info = write_block(
            self.folder,
            f"{self.name}-{split.lower()}-{len(self.infos[split]):05d}",
            ".parquet",
            self.fingerprint,
            len(rows),
            lambda path: pq.write_table(table, path, compression="zstd"),
            split=str(split),
            corpus=records[0].source_dataset,
            with_cot=sum(record.cot is not None for record in records),
            variables=_values(records),
        )
        self.infos[split].append(info)


def read_records(folder: Path, block: BlockInfo) -> Iterator[CorpusRecord]:
    """The records of one corpus block."""
    for row in pq.read_table(folder / block.file).to_pylist():
        yield CorpusRecord.model_validate({**row, "extras": json.loads(row["extras"])})


def _values(records: list[CorpusRecord]) -> dict[str, list[str]]:
    """The values of every labelled variable."""
    found: dict[str, set[str]] = {}
    for record in records:
        for label in record.labels:
            found.setdefault(label.variable, set()).add(label.value)
    return {name: sorted(values) for name, values in sorted(found.items())}


def records_of(folder: Path, split: Split) -> Iterator[CorpusRecord]:
    """Every record of one split, in the order of the blocks."""
    for block in Manifest.read(folder).blocks:
        if block.facts["split"] == split:
            yield from read_records(folder, block)
