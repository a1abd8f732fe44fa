"""`corpus/` -> `tokens/`, `labels/`, `alignment/`: documents as token ids, what is known of every token, and the step
that it is in, with who said so.

Two units of work. A corpus block becomes a *part*: its tokens in an Arrow file under `tokens/parts/`, kept until the
stage is done. A token block is assembled from consecutive parts, so its size and bytes depend on the corpus alone,
never on the workers; a killed run redoes the parts and blocks without a receipt.
"""

import hashlib
import shutil
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raysae.corpora.blocks import COLUMNS, tokenize_table
from raysae.corpora.encoding import Encoder
from raysae.corpora.packing import GatheredRows, Piece, gather, plan
from raysae.errors import BadInput
from raysae.models.load import describe, fitting_tokenizer, tokenizer_definition, tokenizer_sha256
from raysae.stages.parts import read_part, write_part
from raysae.stages.progress import StageProgress
from raysae.stages.resources import map_blocks
from raysae.store import BlockInfo, Manifest, finished_blocks, write_atomic, write_block
from raysae.store.schema import TOKEN_SCHEMA, label_schema
from raysae.types import Experiment, Split
from raysae.types.experiment import fingerprint
from raysae.types.text import TokenizerConfig

CTX_LEN_LIMIT = 2048
"""Default context: the smaller of this and the model's own limit."""

DEFINITION = "tokenizer.json"
"""The tokenizer that the ids are of, beside the blocks."""


@dataclass(frozen=True)
class _Job:
    tokenizer: TokenizerConfig
    ctx_len: int
    eos: int | None
    variables: dict[str, list[str]]
    corpus: Path
    tokens: Path
    labels: Path
    alignment: Path
    fingerprint: str

    @property
    def parts(self) -> Path:
        return self.tokens / "parts"

    @property
    def row_tokens(self) -> int | None:
        """Length of a packed row; null where a row is a document."""
        return self.ctx_len if self.tokenizer.layout == "packed" else None


def context_length(experiment: Experiment) -> int:
    """Tokens of a row at most."""
    limit = describe(experiment.model).ctx_len
    return min(experiment.tokenizer.ctx_len or CTX_LEN_LIMIT, limit)


def tokenize(
    experiment: Experiment, corpus: Path, tokens: Path, labels: Path, alignment: Path, progress: StageProgress
) -> Manifest:
    """Write `alignment/`, `labels/`, then `tokens/`. BadInput when the tokenizer fits not the model or the layout."""
    records = Manifest.read(corpus)
    tokenizer = fitting_tokenizer(experiment.model, experiment.tokenizer)
    config = experiment.tokenizer
    eos: Any = tokenizer.eos_token_id
    if config.layout == "packed" and eos is None:
        raise BadInput(
            "tokenizer.layout=packed with a tokenizer that has no EOS",
            "allowed: one whose documents can be joined by EOS",
            "type tokenizer.layout=documents",
        )
    facts = {"tokenizer_sha256": tokenizer_sha256(tokenizer), "ctx_len": context_length(experiment)}
    facts |= {"layout": config.layout, "overflow": config.overflow}
    mark = fingerprint({"corpus": records.fingerprint, **facts, "block_tokens": config.block_tokens})
    write_atomic(tokens / DEFINITION, tokenizer_definition(tokenizer).encode())
    job = _Job(
        config,
        facts["ctx_len"],
        eos,
        _variables(records),
        corpus.absolute(),
        tokens.absolute(),
        labels.absolute(),
        alignment.absolute(),
        mark,
    )
    progress.total(2 * records.rows)
    items = [{"block": block.model_dump(mode="json")} for block in records.blocks]
    aligned: dict[str, BlockInfo] = {}
    for answer in map_blocks(_Tokenizer, (job,), items, actors=config.workers):
        aligned[answer["alignment"]["name"]] = BlockInfo.model_validate(answer["alignment"])
        progress.advance(answer["records"], "documents to tokens")
    token_blocks, label_blocks = _assemble(job, _in_reading_order(records), progress)
    extra = {**facts, "corpus_fingerprint": records.fingerprint, "vocab_size": len(tokenizer)}
    extra |= {name: sum(block.facts[name] for block in token_blocks) for name in ("tokens", "truncated_tokens")}
    alignment_blocks = tuple(aligned[block.name] for block in records.blocks)
    Manifest(kind="alignment", fingerprint=mark, blocks=alignment_blocks).write(alignment)
    Manifest(kind="labels", fingerprint=mark, blocks=label_blocks, extra={"variables": list(job.variables)}).write(
        labels
    )
    manifest = Manifest(kind="tokens", fingerprint=mark, blocks=token_blocks, extra=extra)
    manifest.write(tokens)
    shutil.rmtree(job.parts)
    return manifest


def _variables(corpus: Manifest) -> dict[str, list[str]]:
    """Every variable that some record labels and its values, both in alphabetical order."""
    found: dict[str, set[str]] = defaultdict(set)
    for block in corpus.blocks:
        for name, values in block.facts["variables"].items():
            found[name].update(values)
    return {name: sorted(found[name]) for name in sorted(found)}


def _in_reading_order(corpus: Manifest) -> dict[Split, list[str]]:
    """The corpus blocks of each split; those of several corpora take turns in proportion to their number."""
    found: dict[Split, list[str]] = {}
    for split in Split:
        by_corpus: dict[str, list[str]] = defaultdict(list)
        for block in corpus.blocks:
            if block.facts["split"] == split:
                by_corpus[block.facts["corpus"]].append(block.name)
        turns = [((i + 0.5) / len(names), name) for names in by_corpus.values() for i, name in enumerate(names)]
        found[split] = [name for _, name in sorted(turns)]
    return found


def _assemble(
    job: _Job, parts: dict[Split, list[str]], progress: StageProgress
) -> tuple[tuple[BlockInfo, ...], tuple[BlockInfo, ...]]:
    """Parts -> token blocks and label blocks."""
    items: list[dict[str, Any]] = []
    for split, names in parts.items():
        starts = ((name, read_part(job.parts, name).starts) for name in names)
        blocks = plan(starts, job.tokenizer.block_tokens, job.row_tokens)
        first = 0
        for number, pieces in enumerate(blocks):
            plain = [piece.plain() for piece in pieces]
            items.append(
                {"name": f"{split.lower()}-{number:05d}", "split": str(split), "first": first, "pieces": plain}
            )
            first += sum(piece.last_token - piece.first_token for piece in pieces)
    found: dict[str, dict[str, Any]] = {}
    for answer in map_blocks(_Assembler, (job,), items, actors=job.tokenizer.workers):
        found[answer["tokens"]["name"]] = answer
        done = sum(answer["tokens"]["facts"]["tokens"] for answer in found.values())
        progress.advance(answer["tokens"]["rows"], f"{done:,} tokens in blocks")
    order = [found[item["name"]] for item in items]
    return tuple(tuple(BlockInfo.model_validate(answer[kind]) for answer in order) for kind in ("tokens", "labels"))  # type: ignore[return-value]  # two of them


class _Tokenizer:
    """Corpus block -> part."""

    def __init__(self, job: _Job) -> None:
        self.job = job
        self.encoder = Encoder((job.tokens / DEFINITION).read_text(encoding="utf-8"), job.eos)

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        job = self.job
        block = BlockInfo.model_validate(item["block"])
        if block.name not in finished_blocks(job.parts, [block.name], job.fingerprint):
            table = pq.read_table(job.corpus / block.file, columns=list(COLUMNS))
            overflow = "keep" if job.row_tokens else job.tokenizer.overflow
            rows, alignment, facts = tokenize_table(self.encoder, table, job.ctx_len, overflow, job.variables)
            self._write_alignment(block, alignment, facts)
            write_part(job.parts, block.name, job.fingerprint, rows)
        done = finished_blocks(job.alignment, [block.name], job.fingerprint)[block.name]
        return {"records": block.rows, "alignment": done.model_dump(mode="json")}

    def _write_alignment(self, block: BlockInfo, alignment: pa.Table, facts: dict[str, Any]) -> None:
        coded = [field.name for field in alignment.schema if pa.types.is_dictionary(field.type)]
        write_block(
            self.job.alignment,
            block.name,
            ".parquet",
            self.job.fingerprint,
            alignment.num_rows,
            lambda path: pq.write_table(alignment, path, **_options(*coded)),
            corpus=block.facts["corpus"],
            split=block.facts["split"],
            **facts,
        )


class _Assembler:
    """Pieces of parts -> one token block and its label block."""

    def __init__(self, job: _Job) -> None:
        self.job = job

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        job, name = self.job, item["name"]
        labels, tokens = (finished_blocks(at, [name], job.fingerprint).get(name) for at in (job.labels, job.tokens))
        if labels is None or tokens is None:
            pieces = [Piece(**piece) for piece in item["pieces"]]
            rows = gather([(piece, read_part(job.parts, piece.part)) for piece in pieces], job.row_tokens)
            names = _row_names(job, item, rows)
            labels = self._write_labels(name, names, rows)
            tokens = self._write_tokens(name, names, rows, item["split"])
        return {"labels": labels.model_dump(mode="json"), "tokens": tokens.model_dump(mode="json")}

    def _write_tokens(self, name: str, names: list[str], rows: GatheredRows, split: str) -> BlockInfo:
        ids, step = rows.columns["input_ids"], rows.columns["step"]
        offsets = pa.array(rows.starts, pa.int32())
        columns = {
            "record": pa.array(names, pa.string()),
            "split": pa.array([split] * len(names), pa.string()),
            "input_ids": pa.ListArray.from_arrays(offsets, pa.array(ids)),
            "step": pa.ListArray.from_arrays(offsets, pa.array(step)),
            "step_confidence": pa.ListArray.from_arrays(offsets, pa.array(rows.columns["step_confidence"])),
            "consensus_type": pa.ListArray.from_arrays(offsets, pa.array(rows.columns["consensus_type"])),
            "documents": pa.array(rows.documents, pa.list_(pa.string())),
            "document_starts": pa.array(rows.document_starts, pa.list_(pa.int32())),
            "skipped": pa.array(rows.skipped, pa.int32()),
        }
        table = pa.table(columns, schema=TOKEN_SCHEMA)
        return write_block(
            self.job.tokens,
            name,
            ".parquet",
            self.job.fingerprint,
            len(names),
            lambda path: pq.write_table(table, path, **_options("split")),
            split=split,
            tokens=len(ids),
            shape=[len(names), self.job.row_tokens],
            longest=int(np.diff(rows.starts).max()),
            dtype=str(ids.dtype),
            ids_sha256=hashlib.sha256(ids.astype("<i4").tobytes()).hexdigest(),
            truncated_tokens=rows.cut,
        )

    def _write_labels(self, name: str, names: list[str], rows: GatheredRows) -> BlockInfo:
        schema = label_schema(list(self.job.variables))
        lengths = np.diff(rows.starts)
        columns: dict[str, pa.Array] = {
            "record": _coded(np.repeat(np.arange(len(names), dtype=np.int32), lengths), names),
            "position": pa.array((np.arange(rows.starts[-1]) - np.repeat(rows.starts[:-1], lengths)).astype(np.int32)),
        }
        columns |= {
            variable: _coded(rows.columns[variable].astype(np.int32), values)
            for variable, values in self.job.variables.items()
        }
        table = pa.table(columns, schema=schema)
        coded = [field.name for field in schema if pa.types.is_dictionary(field.type)]
        return write_block(
            self.job.labels,
            name,
            ".parquet",
            self.job.fingerprint,
            table.num_rows,
            lambda path: pq.write_table(table, path, **_options(*coded)),
        )


def _options(*dictionary: str) -> dict[str, Any]:
    """Parquet's own defaults (dictionaries everywhere, statistics) take twice as long to write."""
    return {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": list(dictionary),
        "write_statistics": False,
    }


def _coded(codes: NDArray[np.int32], values: list[str]) -> pa.DictionaryArray:
    """Strings by their index; -1 is null."""
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), pa.array(values, pa.string()))


def _row_names(job: _Job, item: dict[str, Any], rows: GatheredRows) -> list[str]:
    """Unique in `tokens/`: the record's id, with `#k` from its second window on; a number for a packed row."""
    if job.row_tokens:
        first = item["first"] // job.row_tokens
        return [f"packed/{item['split'].lower()}/{first + i:08d}" for i in range(len(rows.documents))]
    return [
        f"{record}#{skipped // job.ctx_len}" if skipped else record
        for (record,), skipped in zip(rows.documents, rows.skipped.tolist(), strict=True)
    ]
