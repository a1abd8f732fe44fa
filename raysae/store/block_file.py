"""One file of activations, opened: what was written, or one line that says what is wrong with it."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raysae.errors import BadInput
from raysae.store.manifest import BlockInfo
from raysae.store.order import Group
from raysae.store.schema import STORED_AS


@dataclass(frozen=True)
class BlockFiles:
    """The files of `activations/<arm>/`."""

    folder: Path
    dtype: str
    widths: dict[str, int]
    """Hook point -> d_in."""

    def table(self, block: BlockInfo, columns: list[str], group: Group | None = None) -> pa.Table:
        """Columns of a block or of one of its row groups. BadInput for a file that capture did not write."""
        try:
            file = pq.ParquetFile(self.folder / block.file)
            if absent := [name for name in columns if name not in file.schema_arrow.names]:
                raise self.unusable(block, f"it has no column {absent[0]}")
            if (rows := file.metadata.num_rows) != block.rows:
                raise self.unusable(block, f"{rows:,} rows are where {block.rows:,} were written")
            table = file.read(columns) if group is None else file.read_row_group(group.number, columns)
        except (OSError, pa.ArrowException) as error:
            raise self.unusable(block, " ".join(str(error).split())[:200]) from error
        if group is not None and len(table) != group.length:
            raise self.unusable(block, f"row group {group.number} has {len(table):,} rows, not {group.length:,}")
        for name in self.widths.keys() & set(columns):
            found = table.schema.field(name).type
            if found != pa.list_(STORED_AS[self.dtype], self.widths[name]):
                raise self.unusable(
                    block, f"{name} is a {found}, where {self.widths[name]} numbers in {self.dtype} were"
                )
        return table

    def unusable(self, block: BlockInfo, why: str) -> BadInput:
        return BadInput(
            f"{self.folder / block.file} cannot be read ({why})",
            "allowed: the file that capture wrote",
            f"type raysae verify {self.folder.parent.parent}, then remove {self.folder} and run again",
        )
