"""Token blocks -> activation blocks. Unit of work: one token block of one arm, named by the token block.

The real model and its random-weights twin go through the same actors: an arm is only another model in the same place.
A block is captured in portions of whole documents that fit in memory; the rows are written in the order of the token
block, while the model reads the next portion. Where activations are streamed (stream.py), TRAIN leaves only its
statistics here, and the other splits the documents that somebody will read.
"""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from raysae.models.capture import width
from raysae.models.load import describe, load_model, model_inputs, random_twin
from raysae.stages.forward import Forward
from raysae.stages.gauges import count_tokens
from raysae.stages.pieces import pieces
from raysae.stages.preflight import check_room
from raysae.stages.progress import StageProgress
from raysae.stages.resources import map_blocks
from raysae.store import BlockInfo, Manifest, TokenStore, finished_blocks, write_block
from raysae.store.activation_block import ActivationBlock, Statistics, Tokens
from raysae.store.activations import STREAMED
from raysae.store.order import QUARANTINED
from raysae.store.schema import ROW_GROUP_ROWS, check_storable
from raysae.types import Experiment
from raysae.types.experiment import CaptureConfig, ModelConfig, fingerprint, stream_seed

MAIN = "main"
TWIN = "random_model"
PORTION_FLOATS = 1 << 26
"""Activations held at once, over all hook points: 256 MiB, and as much again while they are written."""
MODEL_ARMS = (MAIN, TWIN)
"""Arms that need activations of their own."""


Document = tuple[str, np.ndarray, np.ndarray]
"""Record, token ids, step of each token."""
Values = dict[str, np.ndarray]
"""float32 [tokens, width] per hook point."""


@dataclass(frozen=True)
class Job:
    model: ModelConfig
    twin_seed: int
    capture: CaptureConfig
    tokens: Path
    out: Path
    fingerprints: dict[str, str]

    @property
    def widths(self) -> dict[str, int]:
        row = describe(self.model)
        return {str(point): width(row, point) for point in self.capture.hookpoints}


def arms(experiment: Experiment) -> tuple[str, ...]:
    """The model under study and, if the protocol names it, its twin."""
    return MODEL_ARMS if TWIN in experiment.protocol.nulls else (MAIN,)


def fingerprints(experiment: Experiment, tokens: Manifest) -> dict[str, str]:
    """What each arm's activations are made of."""
    common = {
        "tokens": tokens.fingerprint,
        "model": experiment.identity()["model"],
        "weights": model_inputs(experiment.model),
        "capture": experiment.identity()["capture"],
    }
    return {arm: fingerprint({**common, "arm": arm, "twin_seed": twin_seed(experiment)}) for arm in arms(experiment)}


def twin_seed(experiment: Experiment) -> int:
    """Never the seed of a randomised main arm."""
    return stream_seed(experiment.model.seed, "twin") % 2**32


def capture(
    experiment: Experiment, tokens: Path, out: Path, progress: StageProgress, worker: type[Any] | None = None
) -> dict[str, Manifest]:
    """Write `activations/<arm>/` for every arm; returns their manifests. `worker` takes the place of `Capturer`."""
    store = TokenStore(tokens)
    marks = fingerprints(experiment, store.manifest)
    job = Job(experiment.model, twin_seed(experiment), experiment.capture, tokens.absolute(), out.absolute(), marks)
    work = pieces(experiment, store)
    done: dict[str, dict[str, BlockInfo]] = {
        arm: finished_blocks(out / arm, [piece.block.name for piece in work], mark) for arm, mark in marks.items()
    }
    waiting = [(arm, piece) for arm in marks for piece in work if piece.block.name not in done[arm]]
    progress.total(sum(piece.tokens for piece in work) * len(marks))
    progress.advance(
        sum(piece.tokens for arm in marks for piece in work if piece.block.name in done[arm]),
        "resuming" if any(done.values()) else "",
    )
    if waiting:
        written = [piece for _, piece in waiting if piece.kept]
        progress.say(check_room(out, [piece.tokens for piece in written], job.widths, job.capture.dtype))
    items = [{"arm": arm, **piece.item()} for arm, piece in waiting]
    read = {piece.block.name: piece.tokens for piece in work}
    config = experiment.capture
    for answer in map_blocks(
        worker or Capturer,
        (job,),
        items,
        actors=config.actors,
        max_actors=config.max_actors,
        cpus=config.cpus_per_actor,
        gpus=config.gpus_per_actor,
    ):
        info = BlockInfo.model_validate(answer["block"])
        done[answer["arm"]][info.name] = info
        progress.advance(read[info.name], f"{answer['arm']}: {info.name}")
    for arm, blocks in done.items():
        if left_out := [document for block in blocks.values() for document in block.facts.get(QUARANTINED, ())]:
            rows = sum(document["rows"] for document in left_out)
            progress.say(
                f"{arm}: {len(left_out):,} documents quarantined ({rows:,} tokens), {left_out[0]['record']} first"
            )
    manifests = {}
    for arm, mark in marks.items():
        extra = {
            "arm": arm,
            "widths": job.widths,
            "dtype": config.dtype,
            "model": experiment.model.name,
            "twin_seed": job.twin_seed,
        }
        manifests[arm] = Manifest(
            kind="activations",
            fingerprint=mark,
            blocks=tuple(done[arm][piece.block.name] for piece in work),
            extra=extra,
        )
        manifests[arm].write(out / arm)
    return manifests


def make_forward(job: Job, arm: str) -> Forward:
    """The model of an arm, ready to be read."""
    import torch

    logging.getLogger("transformers").setLevel(logging.ERROR)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_model(job.model, device) if arm == MAIN else random_twin(job.model, job.twin_seed, device)
    return Forward(model, job.capture.hookpoints, job.capture.batch_tokens)


class Capturer:
    """Holds the hooked models of the arms it was asked for; token block -> activation block, or only its statistics."""

    def __init__(self, job: Job) -> None:
        self.job, self.widths = job, job.widths
        self.models: dict[str, Forward] = {}
        self.store = TokenStore(job.tokens)

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        arm, block, kept = item["arm"], BlockInfo.model_validate(item["block"]), item["kept"]
        documents = list(islice(self.store.documents(block), item["documents"]))
        read = sum(len(ids) for _, ids, _ in documents)
        learnt: dict[str, Any] = {}
        write = self._write if kept else self._measure
        info = write_block(
            self.job.out / arm,
            block.name,
            ".parquet" if kept else ".statistics.json",
            self.job.fingerprints[arm],
            read if kept else block.facts["tokens"],
            lambda path: learnt.update(write(path, self._forward(arm), documents)),
            learnt=lambda: learnt,
            split=block.facts["split"],
            documents=len(documents) if kept else block.rows,
            **({} if kept else {STREAMED: True}),
        )
        return {"arm": arm, "block": info.model_dump(mode="json")}

    def _forward(self, arm: str) -> Forward:
        if arm not in self.models:
            self.models[arm] = make_forward(self.job, arm)
        return self.models[arm]

    def _write(self, path: Path, forward: Forward, documents: Sequence[Document]) -> dict[str, Any]:
        records, config = [record for record, _, _ in documents], self.job.capture
        with ActivationBlock(path, records, self.widths, config.dtype, quarantine=config.quarantine) as block:
            self._run(forward, documents, block.add)
        return {"statistics": block.statistics(), **({QUARANTINED: block.quarantined} if block.quarantined else {})}

    def _measure(self, path: Path, forward: Forward, documents: Sequence[Document]) -> dict[str, Any]:
        """Nothing is stored, and what could not be is refused all the same."""
        statistics, records = Statistics(self.widths), [record for record, _, _ in documents]

        def look(tokens: Tokens, values: Values) -> None:
            for name, array in values.items():
                check_storable(array, self.job.capture.dtype, partial(tokens.place, records, name))
            statistics.add(values)

        self._run(forward, documents, look)
        path.write_text(json.dumps(statistics.found(), allow_nan=False))
        return {"statistics": statistics.found()}

    def _run(self, forward: Forward, documents: Sequence[Document], keep: Callable[[Tokens, Values], None]) -> None:
        """Every portion through the model and then to `keep`, which runs beside the next."""
        most = max(PORTION_FLOATS // sum(self.widths.values()), ROW_GROUP_ROWS)
        with ThreadPoolExecutor(1, "write") as beside:
            written: Future[None] | None = None
            for portion in portions([len(ids) for _, ids, _ in documents], most):
                chosen = documents[portion.start : portion.stop]
                values = forward([ids for _, ids, _ in chosen])
                count_tokens("capture", sum(len(ids) for _, ids, _ in chosen))
                if written is not None:
                    written.result()
                written = beside.submit(keep, token_columns(portion.start, chosen), values)
            if written is not None:
                written.result()


def token_columns(first: int, documents: Sequence[Document]) -> Tokens:
    """The rows of consecutive documents of a block, of which the first is number `first`."""
    lengths = [len(ids) for _, ids, _ in documents]
    return Tokens(
        record=np.repeat(np.arange(first, first + len(documents), dtype=np.int32), lengths),
        position=np.concatenate([np.arange(length, dtype=np.int32) for length in lengths]),
        token_id=np.concatenate([ids for _, ids, _ in documents]),
        step=np.concatenate([step for _, _, step in documents]),
    )


def portions(lengths: Sequence[int], most: int) -> Iterator[range]:
    """Runs of documents in order with at most `most` tokens each, one document at least."""
    first, tokens = 0, 0
    for i, length in enumerate(lengths):
        if i > first and tokens + length > most:
            yield range(first, i)
            first, tokens = i, 0
        tokens += length
    if lengths:
        yield range(first, len(lengths))
