"""Token blocks -> activation blocks. Unit of work: one token block of one arm, named by the token block.

The real model and its random-weights twin go through the same actors: an arm is only another model in the same place.
Within a block documents are sorted by length and batched by a token budget, so that padding stays small and is never
stored; the rows are written in the order of the token block.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysae.models.capture import capture as capture_activations
from raysae.models.capture import width
from raysae.models.load import describe, load_model, model_inputs, random_twin
from raysae.stages.progress import StageProgress
from raysae.stages.resources import map_blocks
from raysae.store import BlockInfo, Manifest, TokenStore, finished_blocks, write_block
from raysae.store.schema import ROW_GROUP_ROWS, activation_schema, encode, to_column
from raysae.types import Experiment, HookPoint
from raysae.types.experiment import CaptureConfig, ModelConfig, fingerprint, stream_seed

MAIN = "main"
TWIN = "random_model"
MODEL_ARMS = (MAIN, TWIN)
"""Arms that need activations of their own."""


@dataclass(frozen=True)
class _Job:
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
    job = _Job(experiment.model, twin_seed(experiment), experiment.capture, tokens.absolute(), out.absolute(), marks)
    blocks = store.blocks()
    done: dict[str, dict[str, BlockInfo]] = {
        arm: finished_blocks(out / arm, [block.name for block in blocks], mark) for arm, mark in marks.items()
    }
    progress.total(store.tokens * len(marks))
    progress.advance(
        sum(info.rows for found in done.values() for info in found.values()), "resuming" if any(done.values()) else ""
    )
    items = [
        {"arm": arm, "block": block.model_dump(mode="json")}
        for arm in marks
        for block in blocks
        if block.name not in done[arm]
    ]
    config = experiment.capture
    for answer in map_blocks(
        Capturer, (job,), items, actors=config.actors, cpus=config.cpus_per_actor, gpus=config.gpus_per_actor
    ):
        info = BlockInfo.model_validate(answer["block"])
        done[answer["arm"]][info.name] = info
        progress.advance(info.rows, f"{answer['arm']}: {info.name}")
    row = describe(experiment.model)
    widths = {str(point): width(row, point) for point in config.hookpoints}
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

    def __init__(self, job: _Job) -> None:
        import torch

        logging.getLogger("transformers").setLevel(logging.ERROR)
        self.job = job
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.models: dict[str, Any] = {}
        self.store = TokenStore(job.tokens)

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        arm, block = item["arm"], BlockInfo.model_validate(item["block"])
        documents = list(self.store.documents(block))
        values = self._run(self._model(arm), [ids for _, ids, _ in documents])
        info = self._write(arm, block, documents, values)
        return {"arm": arm, "block": info.model_dump(mode="json")}

    def _model(self, arm: str) -> Any:
        if arm not in self.models:
            model = self.job.model
            twin = arm != MAIN
            self.models[arm] = (
                random_twin(model, self.job.twin_seed, self.device) if twin else load_model(model, self.device)
            )
        return self.models[arm]

    def _run(self, model: Any, documents: list[np.ndarray]) -> dict[HookPoint, np.ndarray]:
        """float32 [tokens of the block, d] per hook point, in document order."""
        import torch

        starts = np.concatenate([[0], np.cumsum([len(ids) for ids in documents])])
        out: dict[HookPoint, np.ndarray] = {}
        for batch in token_batches([len(ids) for ids in documents], self.job.capture.batch_tokens):
            longest = max(len(documents[i]) for i in batch)
            ids = np.zeros((len(batch), longest), np.int64)
            mask = np.zeros((len(batch), longest), np.int64)
            for row, i in enumerate(batch):
                ids[row, : len(documents[i])] = documents[i]
                mask[row, : len(documents[i])] = 1
            tensors = capture_activations(
                model,
                torch.from_numpy(ids).to(self.device),
                torch.from_numpy(mask).to(self.device),
                self.job.capture.hookpoints,
            )
            for point, tensor in tensors.items():
                values = tensor.float().cpu().numpy()
                target = out.setdefault(point, np.empty((starts[-1], values.shape[-1]), np.float32))
                for row, i in enumerate(batch):
                    target[starts[i] : starts[i + 1]] = values[row, : len(documents[i])]
        return out

    def _write(
        self, arm: str, block: BlockInfo, documents: list[Any], values: dict[HookPoint, np.ndarray]
    ) -> BlockInfo:
        dtype = self.job.capture.dtype
        schema = activation_schema({str(point): array.shape[1] for point, array in values.items()}, dtype)
        lengths = [len(ids) for _, ids, _ in documents]
        columns: dict[str, Any] = {
            "record": pa.DictionaryArray.from_arrays(
                np.repeat(np.arange(len(documents), dtype=np.int32), lengths),
                pa.array([record for record, _, _ in documents]),
            ),
            "position": np.concatenate([np.arange(length, dtype=np.int32) for length in lengths]),
            "token_id": np.concatenate([ids for _, ids, _ in documents]),
            "step": np.concatenate([step for _, _, step in documents]),
        }
        statistics = {}
        for point, array in values.items():
            stored = encode(array, dtype, f"block {block.name}, {point}")
            columns[str(point)] = to_column(stored, schema.field(str(point)))
            wide = array.astype(np.float64)
            statistics[str(point)] = {
                "mean": [float(x) for x in wide.mean(0)],
                "rms": float(np.sqrt((wide**2).mean())),
                "max": float(np.abs(wide).max()),
            }
        table = pa.table(
            [
                pa.array(columns[f.name], f.type) if isinstance(columns[f.name], np.ndarray) else columns[f.name]
                for f in schema
            ],
            schema=schema,
        )
        split_bytes = [f"{point}.list.element" for point in values] if dtype != "bfloat16" else []
        # No dictionary and no statistics on dense numbers, bytes split by significance: measured a quarter faster than
        # Parquet's defaults.
        options: dict[str, Any] = {
            "compression": "zstd",
            "compression_level": 1,
            "use_dictionary": ["record"],
            "use_byte_stream_split": split_bytes,
            "write_statistics": ["record", "position"],
            "row_group_size": ROW_GROUP_ROWS,
        }
        return write_block(
            self.job.out / arm,
            block.name,
            ".parquet",
            self.job.fingerprints[arm],
            table.num_rows,
            lambda path: pq.write_table(table, path, **options),
            split=block.facts["split"],
            documents=len(documents),
            statistics=statistics,
        )


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
