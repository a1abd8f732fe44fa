"""Read-only view of finished token blocks and their labels."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from raysae.store.manifest import BlockInfo, Manifest
from raysae.types import Split


class TokenStore:
    """The documents of `tokens/` and, beside them, `labels/`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = Manifest.read(folder)

    def blocks(self, *splits: Split) -> list[BlockInfo]:
        """Blocks of the named splits, all without a name, in manifest order."""
        return [block for block in self.manifest.blocks if not splits or Split(block.facts["split"]) in splits]

    def documents(self, block: BlockInfo) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """(record id, input ids int32 [t], step index int16 [t]) of each document of a block."""
        table = pq.read_table(self.folder / block.file, columns=["record", "input_ids", "step"])
        for record, ids, step in zip(*(table[name].to_pylist() for name in table.column_names), strict=True):
            yield record, np.asarray(ids, np.int32), np.asarray(step, np.int16)

    def flat(self, block: BlockInfo) -> tuple[np.ndarray, list[int]]:
        """Ids int32 [tokens of the block], and where each document begins and the last ends."""
        ids = pq.read_table(self.folder / block.file, columns=["input_ids"])["input_ids"].combine_chunks()
        starts = ids.offsets.to_numpy()
        return ids.flatten().to_numpy(), (starts - starts[0]).tolist()

    def columns(self, block: BlockInfo) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Document (its row in the block), position and step of each token of a block."""
        step = pq.read_table(self.folder / block.file, columns=["step"])["step"].combine_chunks()
        starts = step.offsets.to_numpy()
        document = np.repeat(np.arange(len(step)), np.diff(starts))
        position = np.arange(len(document)) - (starts - starts[0])[document]
        return document, position, step.flatten().to_numpy()

    def labels(self, block: BlockInfo) -> dict[str, np.ndarray]:
        """Variable -> object array [tokens of the block], None where the variable is not defined.

        Rows are in the order of the activation block of the same name.
        """
        folder = self.folder.parent / "labels"
        info = next(b for b in Manifest.read(folder).blocks if b.name == block.name)
        table = pq.read_table(folder / info.file)
        names = [name for name in table.column_names if name not in ("record", "position")]
        return {name: np.asarray(table[name].to_pylist(), dtype=object) for name in names}

    @property
    def tokens(self) -> int:
        return sum(block.facts["tokens"] for block in self.manifest.blocks)
