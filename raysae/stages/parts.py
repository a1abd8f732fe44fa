"""The tokens of one corpus block, kept between the two halves of tokenizing in an Arrow file that is read in place."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from raysae.corpora.blocks import TokenRows
from raysae.store import write_block


def write_part(folder: Path, name: str, fingerprint: str, rows: TokenRows) -> None:
    offsets = pa.array(rows.starts, pa.int32())
    columns = {
        "documents": pa.array(rows.documents, pa.string()),
        "skipped": pa.array(rows.skipped),
        "cut": pa.array(rows.cut),
        **{column: pa.ListArray.from_arrays(offsets, pa.array(values)) for column, values in rows.columns.items()},
    }
    table = pa.table(columns)

    def write(path: Path) -> None:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)

    write_block(folder, name, ".arrow", fingerprint, table.num_rows, write)


def read_part(folder: Path, name: str) -> TokenRows:
    """A part as views of its file, of which only what is used is read."""
    with pa.memory_map(str(folder / f"{name}.arrow")) as file:
        table = pa.ipc.open_file(file).read_all()
    lists = {column: table[column].combine_chunks() for column in table.column_names[3:]}
    return TokenRows(
        documents=table["documents"].to_pylist(),
        skipped=table["skipped"].to_numpy(),
        cut=table["cut"].to_numpy(),
        starts=lists["input_ids"].offsets.to_numpy().astype(np.int64),
        columns={column: values.values.to_numpy() for column, values in lists.items()},
    )
