"""Read-only view of finished activation blocks: one hook point back at random, deterministically."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysae.errors import BadInput, Refused
from raysae.store.manifest import BlockInfo, Manifest
from raysae.store.schema import ROW_GROUP_ROWS, to_float32
from raysae.types import HookPoint, Split
from raysae.types.experiment import stream_seed

WINDOW_ROWS = 262_144
"""Rows shuffled together: row groups drawn from all blocks, so that a batch mixes many documents at bounded memory."""


@dataclass(frozen=True)
class Rows:
    """Rows of one block, in the order of its token block."""

    activations: np.ndarray
    """float32 [rows, d_in]"""
    document: np.ndarray
    """int32 [rows], index into `records`"""
    records: list[str]
    position: np.ndarray
    """int32 [rows]"""
    token_id: np.ndarray
    """int32 [rows]"""


class GuideColumns(NamedTuple):
    """What a reader wants to know of each token beside its activations."""

    label: str | None
    """A variable of `labels/`."""
    pairs: bool
    """Whether rows stay beside their neighbour when they are shuffled."""


class ActivationStore:
    """The blocks of `activations/<arm>/`, limited to the splits its reader may see.

    `train` and `sweep` open TRAIN and FIT; only `evaluate` opens TEST.
    """

    def __init__(self, folder: Path, splits: tuple[Split, ...] = (Split.TRAIN, Split.FIT)) -> None:
        self.folder = folder
        self.splits = splits
        self.manifest = Manifest.read(folder)
        self._kept: dict[tuple[str, int, str], np.ndarray] = {}
        """Row groups of the first WINDOW_ROWS rows that were read: a small store is decoded once, not once an epoch."""

    def blocks(self, split: Split) -> list[BlockInfo]:
        if split not in self.splits:
            raise Refused(f"{split} of {self.folder} is closed to this stage; only evaluate reads TEST")
        return [block for block in self.manifest.blocks if block.facts["split"] == split]

    def width(self, hookpoint: HookPoint) -> int:
        """d_in of a hook point; BadInput names what was captured."""
        widths: dict[str, int] = self.manifest.extra["widths"]
        if str(hookpoint) not in widths:
            raise BadInput(
                f"{hookpoint} is not in {self.folder}", f"captured: {', '.join(widths)}", "add it to capture.hookpoints"
            )
        return widths[str(hookpoint)]

    def input_scale(self, hookpoint: HookPoint) -> float:
        """The constant s for which s*x has a mean square of 1 per component over TRAIN."""
        blocks = self.blocks(Split.TRAIN)
        square = sum(block.facts["statistics"][str(hookpoint)]["rms"] ** 2 * block.rows for block in blocks)
        rows = sum(block.rows for block in blocks)
        return float((square / rows) ** -0.5) if square > 0 else 1.0

    def mean(self, hookpoint: HookPoint) -> np.ndarray:
        """float64 [d_in], the mean over TRAIN."""
        blocks = self.blocks(Split.TRAIN)
        total = sum(np.asarray(block.facts["statistics"][str(hookpoint)]["mean"]) * block.rows for block in blocks)
        return np.asarray(total) / sum(block.rows for block in blocks)

    def covariance(self, hookpoint: HookPoint) -> np.ndarray:
        """float64 [d_in, d_in], over TRAIN; reads it once, a block at a time."""
        mean, rows = self.mean(hookpoint), 0
        total = np.zeros((len(mean), len(mean)))
        for block in self.blocks(Split.TRAIN):
            centred = self.read(block, hookpoint).activations - mean
            total += centred.T @ centred
            rows += len(centred)
        return total / rows

    def read(self, block: BlockInfo, hookpoint: HookPoint) -> Rows:
        """All rows of one block."""
        path = self.folder / block.file
        name = str(hookpoint)
        table = pq.read_table(path, columns=["record", "position", "token_id", name])
        record = table["record"].combine_chunks()
        return Rows(
            activations=to_float32(table[name], table.schema.field(name)),
            document=record.indices.to_numpy(),
            records=record.dictionary.to_pylist(),
            position=table["position"].to_numpy(),
            token_id=table["token_id"].to_numpy(),
        )

    def batches(
        self,
        hookpoint: HookPoint,
        batch_tokens: int,
        seed: int,
        *,
        split: Split = Split.TRAIN,
        start_step: int = 0,
        guides: GuideColumns | None = None,
    ) -> Iterator[np.ndarray]:
        """Endless float32 [batch_tokens, d_in]; in an epoch each token comes once (less the last partial batch).

        With `guides` two columns more: the place of the token's label in `label_values`, -1 where it has none, and 1
        where the next row is the next token of the same document and step, which `pairs` makes half of the rows' case.

        The order depends on `seed` and the step alone, so `start_step` resumes exactly and every worker of a
        distributed run sees the same batches. An epoch permutes the row groups of all blocks, shuffles the rows of
        about WINDOW_ROWS of them together and cuts the result into batches.
        """
        groups = [
            (block, first, min(ROW_GROUP_ROWS, block.rows - first))
            for block in self.blocks(split)
            for first in range(0, block.rows, ROW_GROUP_ROWS)
        ]
        per_epoch = sum(rows for _, _, rows in groups) // batch_tokens
        if per_epoch == 0:
            have = sum(rows for _, _, rows in groups)
            raise BadInput(
                f"{split} has {have} tokens",
                f"a batch needs {batch_tokens}",
                f"type train.batch_tokens={max(have // 2 * 2, 2)}",
            )
        epoch, skip = divmod(start_step, per_epoch)
        while True:
            yield from self._epoch(groups, hookpoint, batch_tokens, seed, epoch, skip, guides)
            epoch, skip = epoch + 1, 0

    def _epoch(
        self,
        groups: list[tuple[BlockInfo, int, int]],
        hookpoint: HookPoint,
        batch: int,
        seed: int,
        epoch: int,
        skip: int,
        guides: GuideColumns | None,
    ) -> Iterator[np.ndarray]:
        order = np.random.default_rng(stream_seed(seed, f"row-groups/{epoch}")).permutation(len(groups))
        ahead = skip * batch
        rest = np.empty((0, self.width(hookpoint) + (2 if guides else 0)), np.float32)
        for number, window in enumerate(_windows([groups[i] for i in order])):
            rows = sum(count for _, _, count in window)
            if ahead >= rows:  # wholly before the cursor: not read at all
                ahead -= rows
                continue
            shuffled = _permutation(rows, stream_seed(seed, f"rows/{epoch}/{number}"), bool(guides and guides.pairs))
            parts = [self._read_group(group, hookpoint) for group in window]
            if guides:
                known = [self._read_guides(group, guides) for group in window]
                parts = [np.concatenate(both, axis=1) for both in zip(parts, known, strict=True)]
            values = np.concatenate(parts)[shuffled]
            if guides:  # of the next row only the first of a pair knows which it is
                values[1 if guides.pairs else 0 :: 2 if guides.pairs else 1, -1] = 0
            values = values[ahead:]
            ahead = 0
            rest = np.concatenate([rest, values]) if len(rest) else values
            while len(rest) >= batch:
                yield rest[:batch]
                rest = rest[batch:]

    def label_values(self, variable: str | None) -> tuple[str, list[str]]:
        """The variable, by default the first, and the values it takes in TRAIN, in order. BadInput if there is none."""
        manifest = Manifest.read(self._labels) if Manifest.exists(self._labels) else None
        names: list[str] = manifest.extra["variables"] if manifest else []
        if not names or (variable is not None and variable not in names):
            raise BadInput(
                f"loss.probe_label={variable}",
                f"labelled in this corpus: {', '.join(names) or 'nothing'}",
                f"type loss.probe_label={names[0]}" if names else "type loss.probe=0",
            )
        name = names[0] if variable is None else variable
        train = {block.name for block in self.blocks(Split.TRAIN)}
        read = [block for block in manifest.blocks if block.name in train] if manifest else []
        tables = [pq.read_table(self._labels / block.file, columns=[name]) for block in read]
        return name, sorted(
            {value for table in tables for value in table[name].unique().to_pylist() if value is not None}
        )

    def labels(self, block: BlockInfo, variable: str) -> np.ndarray:
        """int64 [rows of the block], the place of each token's label in `label_values`; -1 for none."""
        info = next(one for one in Manifest.read(self._labels).blocks if one.name == block.name)
        places = {value: place for place, value in enumerate(self.label_values(variable)[1])}
        values = pq.read_table(self._labels / info.file, columns=[variable])[variable].to_pylist()
        return np.array([places.get(value, -1) for value in values], dtype=np.int64)

    @property
    def _labels(self) -> Path:
        return self.folder.parent.parent / "labels"

    def _read_guides(self, group: tuple[BlockInfo, int, int], guides: GuideColumns) -> np.ndarray:
        """float32 [rows, 2]"""
        block, first, count = group
        key = (block.name, first, repr(guides))
        if key not in self._kept:
            names = ["record", "position", "step"]
            table = pq.ParquetFile(self.folder / block.file).read_row_group(first // ROW_GROUP_ROWS, columns=names)
            record, position, step = (_plain(table[name]) for name in names)
            same = (record[1:] == record[:-1]) & (step[1:] == step[:-1]) & (position[1:] == position[:-1] + 1)
            label = np.full(count, -1)
            if guides.label is not None:
                label = self.labels(block, guides.label)[first : first + count]
            self._kept[key] = np.stack([label, np.append(same, False)], axis=1).astype(np.float32)
        return self._kept[key]

    def _read_group(self, group: tuple[BlockInfo, int, int], hookpoint: HookPoint) -> np.ndarray:
        block, first, _ = group
        name = str(hookpoint)
        key = (block.name, first, name)
        if key in self._kept:
            return self._kept[key]
        file = pq.ParquetFile(self.folder / block.file)
        table = file.read_row_group(first // ROW_GROUP_ROWS, columns=[name])
        values = to_float32(table[name], table.schema.field(name))
        if sum(len(kept) for kept in self._kept.values()) + len(values) <= WINDOW_ROWS:
            self._kept[key] = values
        return values


def _permutation(rows: int, seed: int, pairs: bool) -> np.ndarray:
    """Of all rows, or of pairs of rows, a last odd one left out of the shuffle."""
    random = np.random.default_rng(seed)
    if not pairs:
        return random.permutation(rows)
    first = 2 * random.permutation(rows // 2)
    return np.append(np.stack([first, first + 1], axis=1).ravel(), np.arange(rows // 2 * 2, rows))


def _plain(column: pa.ChunkedArray) -> np.ndarray:
    """Numbers, or the codes of a dictionary, which are the same within one row group."""
    array = column.combine_chunks()
    return (array.indices if isinstance(array, pa.DictionaryArray) else array).to_numpy()


def _windows(groups: list[tuple[BlockInfo, int, int]]) -> Iterator[list[tuple[BlockInfo, int, int]]]:
    window: list[tuple[BlockInfo, int, int]] = []
    rows = 0
    for group in groups:
        window.append(group)
        rows += group[2]
        if rows >= WINDOW_ROWS:
            yield window
            window, rows = [], 0
    if window:
        yield window
