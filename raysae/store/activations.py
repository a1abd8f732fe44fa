"""Read-only view of finished activation blocks: one hook point back at random, deterministically."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow.parquet as pq

from raysae.errors import BadInput, Refused
from raysae.store.ahead import ahead, map_ahead
from raysae.store.block_file import BlockFiles
from raysae.store.manifest import BlockInfo, Manifest
from raysae.store.order import DocumentShard, Group, row_groups, shown, windows
from raysae.store.schema import all_finite, decode, from_column, to_float32
from raysae.store.shuffle import Shuffle
from raysae.store.tokens import TokenStore
from raysae.types import HookPoint, Split

T = TypeVar("T")

READERS = 2
"""Threads that read row groups: one alone is no faster than a training step of 20 ms."""
GROUPS_AHEAD = 3
KEPT_ROWS = 262_144
BLOCKS_KEPT = 16
"""Token blocks whose columns are kept in memory where rows are streamed."""
BATCHES_AHEAD = 3

Feed = Callable[[HookPoint, Iterator[Group]], Iterator[np.ndarray]]
"""Makes the rows of each group, [rows, d_in] in the storage type, in the order it is asked for them."""
STREAMED = "streamed"
"""Fact of a block whose rows are made when they are wanted; its file holds their statistics."""


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
    table: tuple[int, ...] | None = None
    """Token id -> what stands in the place of its label, where it has one."""


class ActivationStore:
    """The blocks of `activations/<arm>/`, limited to the splits its reader may see.

    `train` and `sweep` open TRAIN and FIT; only `evaluate` opens TEST.
    """

    def __init__(
        self, folder: Path, splits: tuple[Split, ...] = (Split.TRAIN, Split.FIT), feed: Feed | None = None
    ) -> None:
        self.folder = folder
        self.splits = splits
        self.feed = feed
        self.manifest = Manifest.read(folder)
        self.dtype: str = self.manifest.extra["dtype"]
        self._files = BlockFiles(folder, self.dtype, self.manifest.extra["widths"])
        self._kept: dict[tuple[str, int, str | GuideColumns], np.ndarray] = {}
        """Row groups of the first KEPT_ROWS rows that were read: a small store is decoded once, not once an epoch."""

    def blocks(self, split: Split, shard: DocumentShard | None = None) -> Sequence[BlockInfo]:
        if split not in self.splits:
            raise Refused(f"{split} of {self.folder} is closed to this stage; only evaluate reads TEST")
        found = [block for block in self.manifest.blocks if block.facts["split"] == split]
        return shard.of(found) if shard else found

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
        blocks = self._train_rows()
        square = sum(block.facts["statistics"][str(hookpoint)]["rms"] ** 2 * rows for block, rows in blocks)
        rows = sum(rows for _, rows in blocks)
        return float((square / rows) ** -0.5) if square > 0 else 1.0

    def mean(self, hookpoint: HookPoint) -> np.ndarray:
        """float64 [d_in], the mean over TRAIN."""
        blocks = self._train_rows()
        total = sum(np.asarray(block.facts["statistics"][str(hookpoint)]["mean"]) * rows for block, rows in blocks)
        return np.asarray(total) / sum(rows for _, rows in blocks)

    def covariance(self, hookpoint: HookPoint) -> np.ndarray:
        """float64 [d_in, d_in], over TRAIN; reads it once, a row group at a time."""
        mean, rows = self.mean(hookpoint), 0
        total = np.zeros((len(mean), len(mean)))
        for stored in self._rows(hookpoint, iter(row_groups(self.blocks(Split.TRAIN)))):
            values = np.empty(stored.shape, np.float32)
            decode(stored, self.dtype, values)
            centred = values - mean
            total += centred.T @ centred
            rows += len(centred)
        return total / rows

    def read(self, block: BlockInfo, hookpoint: HookPoint) -> Rows:
        """All rows of one block, less those of quarantined documents."""
        name = str(hookpoint)
        table = self._files.table(block, ["record", "position", "token_id", name])
        if (kept := shown(block)).sum() < len(kept):
            table = table.filter(kept)
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
        steps: int | None = None,
        guides: GuideColumns | None = None,
        shard: DocumentShard | None = None,
    ) -> Iterator[np.ndarray]:
        """float32 [batch_tokens, d_in], `steps` of them or without an end; in an epoch each token of the split, or of a
        shard of it, comes once (less the last partial batch). Threads read and shuffle what comes next.

        With `guides` two columns more: the place of the token's label in `label_values`, -1 where it has none, and 1
        where the next row is the next token of the same document and step, which `pairs` makes half of the rows' case.

        The order is that of `order.windows`, so `start_step` resumes exactly and every worker of a distributed run sees
        the same batches.
        """
        groups = row_groups(self.blocks(split, shard))
        have = sum(group.rows for group in groups)
        if have < batch_tokens:
            raise BadInput(
                f"{split} has {have} tokens",
                f"a batch needs {batch_tokens}",
                f"type train.batch_tokens={max(have // 2 * 2, 2)}",
            )
        shuffle = Shuffle(
            batch_tokens,
            self.width(hookpoint),
            self.dtype,
            guides=partial(self._read_guides, guides=guides) if guides else None,
            pairs=bool(guides and guides.pairs),
        )
        order = windows(groups, batch_tokens, seed, start_step, steps)
        return ahead(shuffle.batches(order, partial(self._rows, hookpoint)), BATCHES_AHEAD)

    def same_document(
        self, batch_tokens: int, seed: int, split: Split = Split.TRAIN, shard: DocumentShard | None = None
    ) -> tuple[float, float]:
        """The chance that two rows of a batch are of one document, in the first window, and about that in a shuffle of
        all that is read."""
        blocks = self.blocks(split, shard)
        window = next(windows(row_groups(blocks), batch_tokens, seed))
        counts: Counter[tuple[str, int]] = Counter()
        for group in window.groups:
            document, position, _ = self._token_columns(group)
            # A document's number holds within one group, so it is known by its place: it may go on in the next group.
            starts = np.flatnonzero(np.append(True, document[1:] != document[:-1]))
            lengths = np.diff(np.append(starts, len(document)))
            for place, length in zip(group.first + starts - position[starts], lengths, strict=True):
                counts[group.block.name, int(place)] += int(length)
        pairs = sum(n * (n - 1) for n in counts.values())
        rows, documents = sum(block.rows for block in blocks), sum(block.facts["documents"] for block in blocks)
        return pairs / (window.rows * (window.rows - 1)), (rows / documents - 1) / (rows - 1)

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
        """int64 [rows that `read` gives], the place of each token's label in `label_values`; -1 for none."""
        info = next(one for one in Manifest.read(self._labels).blocks if one.name == block.name)
        places = {value: place for place, value in enumerate(self.label_values(variable)[1])}
        values = pq.read_table(self._labels / info.file, columns=[variable])[variable].to_pylist()
        return np.array([places.get(value, -1) for value in values], dtype=np.int64)[shown(block)]

    def _train_rows(self) -> list[tuple[BlockInfo, int]]:
        """The blocks of TRAIN, and how many rows of each are shown."""
        return [(block, int(shown(block).sum())) for block in self.blocks(Split.TRAIN)]

    @property
    def streamed(self) -> bool:
        """Whether rows of TRAIN are made when they are wanted."""
        return any(block.facts.get(STREAMED) for block in self.manifest.blocks)

    @property
    def _labels(self) -> Path:
        return self.folder.parent.parent / "labels"

    @cached_property
    def _streamed_columns(self) -> Callable[[str], tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Token columns of a block by its name."""
        return self._of_token_blocks(TokenStore.columns)

    @cached_property
    def _streamed_ids(self) -> Callable[[str], np.ndarray]:
        """Token ids of a block by its name."""
        return self._of_token_blocks(lambda store, block: store.flat(block)[0])

    def _of_token_blocks(self, read: Callable[[TokenStore, BlockInfo], T]) -> Callable[[str], T]:
        """Read once for the many groups of a block."""
        store = TokenStore(self.folder.parent.parent / "tokens")
        blocks = {block.name: block for block in store.blocks()}
        return lru_cache(BLOCKS_KEPT)(lambda name: read(store, blocks[name]))

    def _read_guides(self, group: Group, guides: GuideColumns) -> np.ndarray:
        """float32 [rows, 2]"""
        key = (group.block.name, group.first, guides)
        if key not in self._kept:
            document, position, step = self._token_columns(group)
            same = (document[1:] == document[:-1]) & (step[1:] == step[:-1]) & (position[1:] == position[:-1] + 1)
            label = np.full(group.rows, -1)
            if guides.label is not None:
                before = int(shown(group.block)[: group.first].sum())
                label = self.labels(group.block, guides.label)[before : before + group.rows]
            if guides.table is not None:
                label = np.where(label >= 0, np.array(guides.table)[self._token_ids(group)], -1)
            self._kept[key] = np.stack([label, np.append(same, False)], axis=1).astype(np.float32)
        return self._kept[key]

    def _token_columns(self, group: Group) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Document (a number within its block), position and step of each row of a group."""
        if self.streamed:
            columns = self._streamed_columns(group.block.name)
            document, position, step = (column[group.first : group.first + group.rows] for column in columns)
            return document, position, step
        names = ["record", "position", "step"]
        table = self._files.table(group.block, names, group)
        kept = shown(group.block)[group.first : group.first + group.length]
        record, position, step = (table[name].combine_chunks().filter(kept) for name in names)
        return record.indices.to_numpy(), position.to_numpy(), step.to_numpy()

    def _token_ids(self, group: Group) -> np.ndarray:
        """Of each row of a group."""
        if self.streamed:
            return self._streamed_ids(group.block.name)[group.first : group.first + group.rows]
        kept = shown(group.block)[group.first : group.first + group.length]
        return self._files.table(group.block, ["token_id"], group)["token_id"].to_numpy()[kept]

    def _rows(self, hookpoint: HookPoint, groups: Iterator[Group]) -> Iterator[np.ndarray]:
        """The rows of each group as they are stored, [rows, d_in]."""
        if not self.streamed:
            return map_ahead(partial(self._read_group, hookpoint), groups, READERS, GROUPS_AHEAD)
        if self.feed is None:
            raise Refused(
                f"TRAIN of {self.folder} was not kept (activations.mode=stream); only train and sweep read it"
            )
        return self.feed(hookpoint, groups)

    def _read_group(self, hookpoint: HookPoint, group: Group) -> np.ndarray:
        key = (group.block.name, group.first, str(hookpoint))
        if key in self._kept:
            return self._kept[key]
        table = self._files.table(group.block, [str(hookpoint)], group)
        values = from_column(table[str(hookpoint)])
        if not all_finite(values, self.dtype):
            last = group.first + group.length - 1
            raise self._files.unusable(
                group.block, f"{hookpoint} is not finite somewhere in rows {group.first:,} to {last:,}"
            )
        if sum(len(kept) for kept in list(self._kept.values())) + len(values) <= KEPT_ROWS:
            self._kept[key] = values
        return values
