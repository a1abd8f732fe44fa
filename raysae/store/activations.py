"""Read-only view of finished activation blocks: one hook point back at random, deterministically."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
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
        self, hookpoint: HookPoint, batch_tokens: int, seed: int, *, split: Split = Split.TRAIN, start_step: int = 0
    ) -> Iterator[np.ndarray]:
        """Endless float32 [batch_tokens, d_in]; in an epoch each token comes once (less the last partial batch).

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
            yield from self._epoch(groups, hookpoint, batch_tokens, seed, epoch, skip)
            epoch, skip = epoch + 1, 0

    def _epoch(
        self,
        groups: list[tuple[BlockInfo, int, int]],
        hookpoint: HookPoint,
        batch: int,
        seed: int,
        epoch: int,
        skip: int,
    ) -> Iterator[np.ndarray]:
        order = np.random.default_rng(stream_seed(seed, f"row-groups/{epoch}")).permutation(len(groups))
        ahead = skip * batch
        rest = np.empty((0, self.width(hookpoint)), np.float32)
        for number, window in enumerate(_windows([groups[i] for i in order])):
            rows = sum(count for _, _, count in window)
            if ahead >= rows:  # wholly before the cursor: not read at all
                ahead -= rows
                continue
            shuffled = np.random.default_rng(stream_seed(seed, f"rows/{epoch}/{number}")).permutation(rows)
            values = np.concatenate([self._read_group(group, hookpoint) for group in window])[shuffled[ahead:]]
            ahead = 0
            rest = np.concatenate([rest, values]) if len(rest) else values
            while len(rest) >= batch:
                yield rest[:batch]
                rest = rest[batch:]

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
