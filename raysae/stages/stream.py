"""Activations that go to training without touching the disk: the capture actors make each row group when it is due.

The rows are those that `cache` would have stored, in the same order and precision; only the batches in which documents
went through the model are others, which moves a number in its last bits. Ray Data keeps the actors as far ahead as its
share of the object store allows and no further. Of a worker group rank 0 asks, and hands each batch on.
"""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from math import prod
from typing import Any

import numpy as np

from raysae.errors import RaysaeError
from raysae.stages.capture import Job, fingerprints, make_forward, twin_seed
from raysae.stages.gauges import count_tokens
from raysae.stages.resources import actor_pool, connect, local_mode, revive
from raysae.stages.usage import Process
from raysae.store import RunFolder, TokenStore
from raysae.store.order import Group
from raysae.store.schema import STORED_AS, encode
from raysae.types import Experiment, HookPoint
from raysae.types.experiment import CaptureConfig

SEGMENT = 16_384
"""Row groups of one Ray Data execution: between two of them the actors start again."""
GROUPS_PER_TASK = 4
BLOCKS_KEPT = 32
"""Token blocks an actor holds in memory: 8 MB for two million tokens."""


@dataclass(frozen=True)
class Source:
    """What makes the activations of an arm."""

    job: Job
    arm: str

    def rows(self, hookpoint: HookPoint, groups: Iterator[Group]) -> Iterator[np.ndarray]:
        """A `raysae.store.activations.Feed`. Raises the errors of the actors as they were."""
        source = replace(self, job=replace(self.job, capture=_only(self.job.capture, hookpoint)))
        if not local_mode():
            return _through_ray(source, groups)
        streamer = Streamer(source)
        return (streamer.rows(group.block.name, group.first, group.rows) for group in groups)


def source(experiment: Experiment, arm: str) -> Source:
    """The same model, text and settings that the capture stage had."""
    folder = RunFolder(experiment)
    tokens = folder.tokens.absolute()
    marks = fingerprints(experiment, TokenStore(tokens).manifest)
    out = folder.activations.absolute()
    return Source(Job(experiment.model, twin_seed(experiment), experiment.capture, tokens, out, marks), arm)


def _only(config: CaptureConfig, hookpoint: HookPoint) -> CaptureConfig:
    return config.model_copy(update={"hookpoints": (hookpoint,)})


class Streamer:
    """Holds one hooked model; row group -> its rows."""

    def __init__(self, source: Source) -> None:
        self.source, self.process = source, Process(source.job.capture.gpus_per_actor)
        self.store = TokenStore(source.job.tokens)
        self.forward = make_forward(source.job, source.arm)
        self.blocks = {block.name: block for block in self.store.blocks()}
        (self.width,) = source.job.widths.values()
        self.tokens = lru_cache(BLOCKS_KEPT)(self._tokens)

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, np.ndarray]]:
        """For Ray Data. A user's error travels as a value: Ray would keep its text and lose what it was."""
        for item in batch["item"]:
            try:
                rows, said = self.rows(**json.loads(item)), ""
            except RaysaeError as error:
                rows = np.zeros((1, self.width), STORED_AS[self.source.job.capture.dtype].to_pandas_dtype())
                said = json.dumps({"error": str(error), "status": error.status})
            self.process.leave(self.source.job.out)
            yield {"rows": rows, "error": np.full(len(rows), said, object)}

    def rows(self, name: str, first: int, rows: int) -> np.ndarray:
        """[rows, d] in the storage type. BadInput for what that cannot hold."""
        ids, starts = self.tokens(name)
        begin, end = bisect_right(starts, first) - 1, bisect_left(starts, first + rows)
        documents = [ids[starts[i] : starts[i + 1]] for i in range(begin, end)]
        ((point, values),) = self.forward(documents).items()
        count_tokens("capture", len(values))
        skipped = first - starts[begin]

        def place(row: int) -> str:
            document = bisect_right(starts, first + row) - 1
            record = list(self.store.documents(self.blocks[name]))[document][0]
            return f"{point}, token {first + row - starts[document]} of {record}"

        return encode(values[skipped : skipped + rows], self.source.job.capture.dtype, place)

    def _tokens(self, name: str) -> tuple[np.ndarray, list[int]]:
        """Ids of all documents of a block, and where each begins and the last ends."""
        return self.store.flat(self.blocks[name])


def _through_ray(source: Source, groups: Iterator[Group]) -> Iterator[np.ndarray]:
    import ray

    connect()
    config = source.job.capture
    while segment := list(islice(groups, SEGMENT)):
        items = [{"item": json.dumps({"name": g.block.name, "first": g.first, "rows": g.rows})} for g in segment]
        data = ray.data.from_items(items, override_num_blocks=-(-len(items) // GROUPS_PER_TASK)).map_batches(
            Streamer,
            fn_constructor_args=(source,),
            batch_size=1,
            batch_format="numpy",
            compute=actor_pool(len(items), config.actors, config.max_actors),
            num_cpus=config.cpus_per_actor,
            num_gpus=config.gpus_per_actor or None,
        )
        data.context.execution_options.preserve_order = True
        data.context.enable_progress_bars = False
        batches: Any = data.iter_batches(batch_size=None, batch_format="numpy")
        yield from _cut(map(_rows_of, batches), [group.rows for group in segment])


def _rows_of(batch: dict[str, Any]) -> np.ndarray:
    for said in batch["error"][batch["error"] != ""]:
        raise revive(json.loads(said))
    return batch["rows"]


def _cut(arrays: Iterator[np.ndarray], sizes: Sequence[int]) -> Iterator[np.ndarray]:
    """The same rows in arrays of these sizes."""
    waiting: list[np.ndarray] = []
    for size in sizes:
        while sum(map(len, waiting)) < size:
            waiting.append(next(arrays))
        whole = waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
        yield whole[:size]
        waiting = [whole[size:]]


def shared(
    batches: Iterator[np.ndarray], steps: int, shape: tuple[int, int], place: Any, device: Any
) -> Iterator[np.ndarray]:
    """The `steps` batches of rank 0, on every rank of a group. What fails there ends all of them at the same step."""
    import torch

    for _ in range(steps):
        message = torch.zeros(1 + prod(shape), device=device)
        failed: Exception | None = None
        if place.rank == 0:
            try:
                message[1:] = torch.from_numpy(next(batches)).ravel()
            except Exception as error:
                failed, message[0] = error, 1
        place.broadcast(message)
        if message[0]:
            raise failed or RaysaeError("rank 0 could not make the next batch")
        yield message[1:].cpu().numpy().reshape(shape)
