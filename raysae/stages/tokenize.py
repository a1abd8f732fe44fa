"""`corpus/` -> `tokens/` and `labels/`: documents as token ids, with the step and the known variables of every token.

Unit of work: one corpus block, which becomes one or more token blocks of at most `tokenizer.block_tokens` tokens.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysae.corpora.blocks import TokenRow, tokenize_records
from raysae.models.load import check_tokenizer, describe, load_tokenizer, tokenizer_sha256
from raysae.stages.ingest import read_records
from raysae.stages.progress import StageProgress
from raysae.stages.resources import map_blocks
from raysae.store import BlockInfo, Manifest, finished_blocks, write_block
from raysae.store.schema import TOKEN_SCHEMA, label_schema
from raysae.types import Experiment
from raysae.types.experiment import ModelConfig, TokenizerConfig, fingerprint

CTX_LEN_LIMIT = 2048
"""Default context: the smaller of this and the model's own limit."""


@dataclass(frozen=True)
class _Job:
    model: ModelConfig
    tokenizer: TokenizerConfig
    ctx_len: int
    variables: tuple[str, ...]
    corpus: Path
    tokens: Path
    labels: Path
    fingerprint: str


def context_length(experiment: Experiment) -> int:
    """Tokens of a document at most."""
    limit = describe(experiment.model).ctx_len
    return min(experiment.tokenizer.ctx_len or CTX_LEN_LIMIT, limit)


def tokenize(experiment: Experiment, corpus: Path, tokens: Path, labels: Path, progress: StageProgress) -> Manifest:
    """Write `labels/`, then `tokens/`. BadInput when the tokenizer does not fit the model."""
    records = Manifest.read(corpus)
    tokenizer = load_tokenizer(experiment.model, experiment.tokenizer)
    row = describe(experiment.model)
    check_tokenizer(tokenizer, row)
    facts = {"tokenizer_sha256": tokenizer_sha256(tokenizer), "ctx_len": context_length(experiment)}
    mark = fingerprint({"corpus": records.fingerprint, **facts, "block_tokens": experiment.tokenizer.block_tokens})
    variables = _variables(corpus, records)
    job = _Job(
        experiment.model,
        experiment.tokenizer,
        facts["ctx_len"],
        variables,
        corpus.absolute(),
        tokens.absolute(),
        labels.absolute(),
        mark,
    )
    progress.total(records.rows)
    found: list[dict[str, Any]] = []
    items = [{"block": block.model_dump(mode="json")} for block in records.blocks]
    for answer in map_blocks(_Tokenizer, (job,), items, actors=2):
        found += answer["pairs"]
        progress.advance(answer["records"], f"{sum(pair['tokens']['facts']['tokens'] for pair in found):,} tokens")
    found.sort(key=lambda pair: pair["tokens"]["name"])
    label_blocks = tuple(BlockInfo.model_validate(pair["labels"]) for pair in found)
    token_blocks = tuple(BlockInfo.model_validate(pair["tokens"]) for pair in found)
    Manifest(kind="labels", fingerprint=mark, blocks=label_blocks, extra={"variables": list(variables)}).write(labels)
    extra = {
        **facts,
        "layout": "documents",
        "vocab_size": len(tokenizer),
        "tokens": sum(block.facts["tokens"] for block in token_blocks),
        "truncated_tokens": sum(block.facts["truncated_tokens"] for block in token_blocks),
    }
    manifest = Manifest(kind="tokens", fingerprint=mark, blocks=token_blocks, extra=extra)
    manifest.write(tokens)
    return manifest


def _variables(corpus: Path, manifest: Manifest) -> tuple[str, ...]:
    """Every variable that some record labels, in alphabetical order."""
    names: set[str] = set()
    for block in manifest.blocks:
        column = pq.read_table(corpus / block.file, columns=["labels"])["labels"].combine_chunks()
        names |= set(column.flatten().field("variable").unique().to_pylist())
    return tuple(sorted(names))


class _Tokenizer:
    """Corpus block -> token blocks with their label blocks."""

    def __init__(self, job: _Job) -> None:
        self.job = job
        self.tokenizer = load_tokenizer(job.model, job.tokenizer)

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        job = self.job
        block = BlockInfo.model_validate(item["block"])
        rows = tokenize_records(self.tokenizer, list(read_records(job.corpus, block)), job.ctx_len, job.variables)
        pairs = []
        for number, part in enumerate(_cut(rows, job.tokenizer.block_tokens)):
            name = f"{block.name}-{number:03d}"
            labels = self._write_labels(name, part)
            pairs.append(
                {
                    "labels": labels.model_dump(mode="json"),
                    "tokens": self._write_tokens(name, part, block).model_dump(mode="json"),
                }
            )
        return {"records": block.rows, "pairs": pairs}

    def _write_tokens(self, name: str, rows: list[TokenRow], source: BlockInfo) -> BlockInfo:
        done = finished_blocks(self.job.tokens, [name], self.job.fingerprint)
        if name in done:
            return done[name]
        table = pa.table(
            {
                "record": [row.record_id for row in rows],
                "split": [source.facts["split"]] * len(rows),
                "input_ids": [row.input_ids for row in rows],
                "step": [row.step for row in rows],
                "step_confidence": [np.where(row.step >= 0, 1.0, 0.0).astype(np.float32) for row in rows],
            },
            schema=TOKEN_SCHEMA,
        )
        ids = np.concatenate([row.input_ids for row in rows])
        return write_block(
            self.job.tokens,
            name,
            ".parquet",
            self.job.fingerprint,
            len(rows),
            lambda path: pq.write_table(table, path, compression="zstd"),
            split=source.facts["split"],
            tokens=len(ids),
            longest=max(len(row.input_ids) for row in rows),
            dtype="int32",
            ids_sha256=hashlib.sha256(ids.astype("<i4").tobytes()).hexdigest(),
            truncated_tokens=sum(row.truncated for row in rows),
        )

    def _write_labels(self, name: str, rows: list[TokenRow]) -> BlockInfo:
        done = finished_blocks(self.job.labels, [name], self.job.fingerprint)
        if name in done:
            return done[name]
        schema = label_schema(self.job.variables)
        columns: dict[str, Any] = {
            "record": [row.record_id for row in rows for _ in row.input_ids],
            "position": np.concatenate([np.arange(len(row.input_ids), dtype=np.int32) for row in rows]),
        }
        columns |= {
            variable: [value for row in rows for value in row.labels[variable]] for variable in self.job.variables
        }
        table = pa.table({field.name: pa.array(columns[field.name], _plain(field.type)) for field in schema}).cast(
            schema
        )
        return write_block(
            self.job.labels,
            name,
            ".parquet",
            self.job.fingerprint,
            table.num_rows,
            lambda path: pq.write_table(table, path, compression="zstd"),
        )


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _cut(rows: list[TokenRow], block_tokens: int) -> Iterator[list[TokenRow]]:
    """Consecutive documents, at most `block_tokens` tokens together (a longer document stands alone)."""
    part: list[TokenRow] = []
    tokens = 0
    for row in rows:
        if part and tokens + len(row.input_ids) > block_tokens:
            yield part
            part, tokens = [], 0
        part.append(row)
        tokens += len(row.input_ids)
    if part:
        yield part
