"""Token blocks -> activation blocks. Unit of work: one token block of one arm, named by the token block.

The real model and its random-weights twin go through the same actors: an arm is only another model in the same place.
A block is captured in portions of whole documents that fit in memory. Within one, documents are sorted by length and
batched by a token budget, so that padding stays small and is never stored; the rows are written in the order of the
token block, while the model reads the next portion.
"""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raysae.errors import BadInput
from raysae.models.capture import capture as capture_activations
from raysae.models.capture import width
from raysae.models.load import describe, load_model, model_inputs, random_twin
from raysae.stages.preflight import check_room
from raysae.stages.progress import StageProgress
from raysae.stages.resources import map_blocks
from raysae.store import BlockInfo, Manifest, TokenStore, finished_blocks, write_block
from raysae.store.activation_block import ActivationBlock, Tokens
from raysae.store.schema import ROW_GROUP_ROWS
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


@dataclass(frozen=True)
class Job:
    model: ModelConfig
    twin_seed: int
    capture: CaptureConfig
    tokens: Path
    out: Path
    fingerprints: dict[str, str]


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


def capture(experiment: Experiment, tokens: Path, out: Path, progress: StageProgress) -> dict[str, Manifest]:
    """Write `activations/<arm>/` for every arm; returns their manifests."""
    store = TokenStore(tokens)
    marks = fingerprints(experiment, store.manifest)
    job = Job(experiment.model, twin_seed(experiment), experiment.capture, tokens.absolute(), out.absolute(), marks)
    blocks = store.blocks()
    done: dict[str, dict[str, BlockInfo]] = {
        arm: finished_blocks(out / arm, [block.name for block in blocks], mark) for arm, mark in marks.items()
    }
    progress.total(store.tokens * len(marks))
    progress.advance(
        sum(info.rows for found in done.values() for info in found.values()), "resuming" if any(done.values()) else ""
    )
    waiting = [(arm, block) for arm in marks for block in blocks if block.name not in done[arm]]
    items = [{"arm": arm, "block": block.model_dump(mode="json")} for arm, block in waiting]
    config = experiment.capture
    row = describe(experiment.model)
    widths = {str(point): width(row, point) for point in config.hookpoints}
    if waiting:
        progress.say(check_room(out, [block for _, block in waiting], widths, config.dtype))
    for answer in map_blocks(
        Capturer, (job,), items, actors=config.actors, cpus=config.cpus_per_actor, gpus=config.gpus_per_actor
    ):
        info = BlockInfo.model_validate(answer["block"])
        done[answer["arm"]][info.name] = info
        progress.advance(info.rows, f"{answer['arm']}: {info.name}")
    manifests = {}
    for arm, mark in marks.items():
        extra = {
            "arm": arm,
            "widths": widths,
            "dtype": config.dtype,
            "model": experiment.model.name,
            "twin_seed": job.twin_seed,
        }
        manifests[arm] = Manifest(
            kind="activations", fingerprint=mark, blocks=tuple(done[arm][block.name] for block in blocks), extra=extra
        )
        manifests[arm].write(out / arm)
    return manifests


class Capturer:
    """Holds the hooked models of the arms it was asked for; token block -> activation block."""

    def __init__(self, job: Job) -> None:
        import torch

        logging.getLogger("transformers").setLevel(logging.ERROR)
        self.job = job
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.models: dict[str, Any] = {}
        self.store = TokenStore(job.tokens)

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        arm, block = item["arm"], BlockInfo.model_validate(item["block"])
        documents = list(self.store.documents(block))
        statistics: dict[str, Any] = {}
        info = write_block(
            self.job.out / arm,
            block.name,
            ".parquet",
            self.job.fingerprints[arm],
            sum(len(ids) for _, ids, _ in documents),
            lambda path: statistics.update(self._write(path, self._model(arm), documents)),
            learnt=lambda: {"statistics": statistics},
            split=block.facts["split"],
            documents=len(documents),
        )
        return {"arm": arm, "block": info.model_dump(mode="json")}

    def _model(self, arm: str) -> Any:
        if arm not in self.models:
            model = self.job.model
            twin = arm != MAIN
            self.models[arm] = (
                random_twin(model, self.job.twin_seed, self.device) if twin else load_model(model, self.device)
            )
        return self.models[arm]

    def _write(self, path: Path, model: Any, documents: Sequence[Document]) -> dict[str, Any]:
        row = describe(self.job.model)
        widths = {str(point): width(row, point) for point in self.job.capture.hookpoints}
        most = max(PORTION_FLOATS // sum(widths.values()), ROW_GROUP_ROWS)
        records = [record for record, _, _ in documents]
        with (
            ActivationBlock(path, records, widths, self.job.capture.dtype) as block,
            ThreadPoolExecutor(1, "write") as beside,
        ):
            written: Future[None] | None = None
            for portion in portions([len(ids) for _, ids, _ in documents], most):
                chosen = documents[portion.start : portion.stop]
                values = self._run(model, [ids for _, ids, _ in chosen])
                if written is not None:
                    written.result()
                written = beside.submit(block.add, _tokens(portion, chosen), values)
            if written is not None:
                written.result()
        return block.statistics()

    def _run(self, model: Any, documents: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """float32 [tokens, d] per hook point, in document order."""
        lengths = [len(ids) for ids in documents]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        out: dict[str, np.ndarray] = {}
        for batch in token_batches(lengths, self.job.capture.batch_tokens):
            for rows, values in self._forward(model, documents, batch):
                for point, array in values.items():
                    target = out.setdefault(point, np.empty((starts[-1], array.shape[-1]), np.float32))
                    for row, i in enumerate(rows):
                        target[starts[i] : starts[i + 1]] = array[row, : lengths[i]]
        return out

    def _forward(
        self, model: Any, documents: Sequence[np.ndarray], batch: list[int]
    ) -> Iterator[tuple[list[int], dict[str, np.ndarray]]]:
        """The batch at once, or its halves where the device has too little memory for it."""
        import torch

        ids = np.zeros((len(batch), max(len(documents[i]) for i in batch)), np.int64)
        mask = np.zeros_like(ids)
        for row, i in enumerate(batch):
            ids[row, : len(documents[i])] = documents[i]
            mask[row, : len(documents[i])] = 1
        try:
            input_ids, seen = torch.from_numpy(ids).to(self.device), torch.from_numpy(mask).to(self.device)
            tensors = capture_activations(model, input_ids, seen, self.job.capture.hookpoints)
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                raise BadInput(
                    f"a document of {ids.shape[1]} tokens does not fit into the memory of {self.device} ({error})",
                    "allowed: documents that do",
                    f"type tokenizer.ctx_len={ids.shape[1] // 2} or model.dtype=bfloat16",
                ) from error
            tensors = None
        if tensors is None:
            torch.cuda.empty_cache()
            half = len(batch) // 2
            yield from self._forward(model, documents, batch[:half])
            yield from self._forward(model, documents, batch[half:])
        else:
            yield batch, {str(point): tensor.float().cpu().numpy() for point, tensor in tensors.items()}


def _tokens(portion: range, documents: Sequence[Document]) -> Tokens:
    lengths = [len(ids) for _, ids, _ in documents]
    return Tokens(
        record=np.repeat(np.arange(portion.start, portion.stop, dtype=np.int32), lengths),
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


def token_batches(lengths: list[int], batch_tokens: int) -> Iterator[list[int]]:
    """Indices of documents, longest first, so that documents x longest <= batch_tokens (one document at least)."""
    batch: list[int] = []
    longest = 0
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batch and (len(batch) + 1) * longest > batch_tokens:
            yield batch
            batch = []
        if not batch:
            longest = lengths[i]
        batch.append(i)
    if batch:
        yield batch
