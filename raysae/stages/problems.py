"""The first reading of the corpora: which records are one problem, or nearly, and on which side each must stand.

Every record leaves its problem's key, native split and signature in a file per source under `corpus/problems/`; `split`
reads the keys of all and one band of the signatures at a time, so the driver needs about a hundred bytes per record.
Generated worlds take no part: their problems are told apart exactly, by the same hash in every worker.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raysae.corpora import CORPORA, Malformed, Source
from raysae.corpora.near_duplicates import PERMUTATIONS, join, signature
from raysae.corpora.splits import (
    LOCKS,
    ProblemTable,
    SplitRule,
    decide,
    problem,
    problem_key,
    short_key,
    train_rates,
    uniform,
)
from raysae.store import finished_blocks, write_block
from raysae.types import CorpusRecord, Split
from raysae.types.text import CorpusConfig

FOLDER = "problems"
_MOVED = "moved"
_ROWS = 4096
"""Notes written or copied together."""


@dataclass(frozen=True)
class Job:
    """What a worker needs beside its item."""

    corpus: CorpusConfig
    seed: int
    folder: Path
    fingerprint: str

    @property
    def note(self) -> np.dtype[np.void]:
        """What is kept of a record."""
        fields: list[Any] = [("key", "<u8"), ("uniform", "<f8"), ("native", "<i1")]
        if self.corpus.splits.near is not None:
            fields.append(("signature", "<u4", (PERMUTATIONS,)))
        return np.dtype(fields)


def _batched(items: Iterable[Any]) -> Iterator[list[Any]]:
    rest = iter(items)
    while batch := list(islice(rest, _ROWS)):
        yield batch


def name(item: Mapping[str, Any]) -> str:
    """Of a source as a plain dict, and of its files."""
    return f"{item['corpus']}-{_source(item).name}"


def read(item: Mapping[str, Any], config: CorpusConfig) -> Iterator[CorpusRecord | Malformed]:
    """The records of a source. Where the hub's file is not on this machine, it is fetched here too."""
    source, corpus = _source(item), CORPORA[item["corpus"]]
    if not Path(source.location).exists():
        corpus.sources(config)
    return corpus.read(source, config)


def _source(item: Mapping[str, Any]) -> Source:
    split = item["native_split"]
    return Source(**{**item, "native_split": None if split is None else Split(split)})


class Reader:
    """Source -> the notes of its records."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        job, called = self.job, name(item)
        info = finished_blocks(job.folder, [called], job.fingerprint).get(called)
        if info is None:

            def write(path: Path) -> None:
                with path.open("wb") as file:
                    for notes in _batched(self._notes(item)):
                        file.write(np.array(notes, job.note).tobytes())

            info = write_block(job.folder, called, ".notes", job.fingerprint, 0, write)
        return {"name": called, "records": info.bytes // job.note.itemsize}

    def _notes(self, item: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
        for record in read(item, self.job.corpus):
            if isinstance(record, Malformed):
                continue
            key = problem_key(record)
            native = -1 if record.split is None else LOCKS.index(record.split)
            note = (short_key(key), uniform(key, self.job.seed), native)
            yield (*note, signature(problem(record))) if "signature" in (self.job.note.names or ()) else note


def split(
    job: Job, items: Sequence[Mapping[str, Any]], rules: Mapping[str, SplitRule]
) -> tuple[dict[str, float], dict[str, Any]]:
    """Decide every problem and leave those that move beside the notes; returns TRAIN rates and counts of duplicates."""
    corpora = [corpus for corpus in rules if corpus in CORPORA]
    notes = [_notes(job, name(item)) for item in items]
    if not any(map(len, notes)):
        _write_moved(job.folder, {})
        return {}, {}
    table = ProblemTable(
        key=np.concatenate([part["key"] for part in notes]),
        uniform=np.concatenate([part["uniform"] for part in notes]),
        native=np.concatenate([part["native"] for part in notes]),
        corpus=np.concatenate(
            [np.full(len(p), corpora.index(i["corpus"]), np.int8) for p, i in zip(notes, items, strict=True)]
        ),
    )
    _, at, first = np.unique(table.key, return_index=True, return_inverse=True)
    near = job.corpus.splits.near
    group = np.arange(len(at)) if near is None else join(_signatures(job, notes, at), near)
    decision = decide(table, [rules[corpus] for corpus in corpora], first, group)
    _write_moved(job.folder, decision.moved)
    weights = [job.corpus.weights.get(corpus) for corpus in corpora]
    rates = train_rates(decision.split, table.corpus, weights)
    return dict(zip(corpora, rates, strict=True)), decision.duplicates


def _notes(job: Job, called: str) -> NDArray[np.void]:
    path = job.folder / f"{called}.notes"
    return np.memmap(path, job.note, "r") if path.stat().st_size else np.empty(0, job.note)


def _signatures(job: Job, notes: Sequence[NDArray[np.void]], at: NDArray[np.int64]) -> NDArray[np.uint32]:
    """[problems, 128] in a file: the signature at each record of `at`."""
    found = np.memmap(job.folder / "signatures", np.uint32, "w+", shape=(len(at), PERMUTATIONS))
    start = 0
    for part in notes:
        mine = np.flatnonzero((at >= start) & (at < start + len(part)))
        for rows in _batched(mine.tolist()):
            found[rows] = part["signature"][at[rows] - start]
        start += len(part)
    return found


def _write_moved(folder: Path, moved: dict[int, Split]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table(
        {"key": pa.array(moved.keys(), pa.uint64()), "split": pa.array(map(str, moved.values()), pa.string())}
    )
    pq.write_table(table, folder / _MOVED)


def read_moved(folder: Path) -> dict[int, Split]:
    """Problem -> its split, where a row alone would fall elsewhere."""
    table = pq.read_table(folder / _MOVED)
    return {key: Split(split) for key, split in zip(*(table[c].to_pylist() for c in ("key", "split")), strict=True)}
