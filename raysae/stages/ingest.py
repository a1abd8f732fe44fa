"""Sources -> `corpus/`: Parquet blocks of normalised records, split by problem; malformed rows -> `quarantine/`.

Unit of work: one source (a native split of a dataset, or a range of a generated world).
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raysae.corpora import CORPORA, Malformed, Source
from raysae.corpora.splits import assign_split, problem_key
from raysae.errors import BadInput
from raysae.stages.progress import StageProgress
from raysae.stages.resources import map_blocks
from raysae.store import BlockInfo, Manifest, finished_blocks, sha256_file, write_block
from raysae.types import CorpusRecord, Experiment, Split
from raysae.types.experiment import CorpusConfig, fingerprint, stream_seed
from raysae.worlds import arithmetic_cot

WORLDS = {"arithmetic_cot": arithmetic_cot}
"""Generated corpora: name -> the module in `worlds/` that makes them."""

WORLD_RECORDS = 3000
"""Records of a world when `corpus.records` is null."""

_SCHEMA = pa.schema(
    [
        ("record_id", pa.string()),
        ("question", pa.string()),
        ("answer", pa.string()),
        ("cot", pa.string()),
        ("steps", pa.list_(pa.string())),
        ("source_dataset", pa.string()),
        ("split", pa.string()),
        ("licence", pa.string()),
        ("text", pa.string()),
        ("step_spans", pa.list_(pa.list_(pa.int32()))),
        (
            "labels",
            pa.list_(
                pa.struct(
                    [("start", pa.int32()), ("end", pa.int32()), ("variable", pa.string()), ("value", pa.string())]
                )
            ),
        ),
        ("extras", pa.string()),
    ]
)
_LOCKED_FIRST = (Split.TEST, Split.FIT, Split.TRAIN, None)
"""The order in which native splits are read: a problem belongs to the most locked side it occurs on."""


@dataclass(frozen=True)
class _Job:
    """What a worker needs beside its item."""

    corpus: CorpusConfig
    seed: int
    out: Path
    fingerprint: str

    @property
    def quarantine(self) -> Path:
        """Beside the corpus: a file per source, empty where nothing was malformed."""
        return self.out.parent / "quarantine"


def check_names(config: CorpusConfig) -> None:
    """BadInput for a corpus nobody knows, or one named twice."""
    known = [*CORPORA, *WORLDS]
    for name in config.names:
        if name not in known:
            raise BadInput(f"corpus.name={name!r}", f"allowed: {', '.join(known)}", f"type corpus.name={known[0]}")
    if len(set(config.names)) != len(config.names):
        raise BadInput(
            f"corpus.name={list(config.names)} repeats a corpus",
            "allowed: each once",
            f"type corpus.name={config.names[0]}",
        )


def check_files(config: CorpusConfig) -> None:
    """BadInput for a file that is missing or no text of this corpus, or a hub out of reach."""
    for name in config.names:
        if name in CORPORA:
            CORPORA[name].sources(config)


def inputs(config: CorpusConfig) -> dict[str, Any]:
    """What the records are made from, by content: sha256 of local files, or hub revision."""
    found: dict[str, Any] = {}
    for name in config.names:
        if name in WORLDS:
            found[name] = "generated"
        elif config.path is None:
            found[name] = f"{CORPORA[name].hub_id}@{CORPORA[name].revision}"
        else:
            files = CORPORA[name].sources(config)
            found |= {f"{name}/{source.native_split}": sha256_file(Path(source.location)) for source in files}
    return found


def ingest(experiment: Experiment, out: Path, progress: StageProgress) -> Manifest:
    """Write `corpus/`. Raises BadInput when nothing is left after quarantine or a split stays empty."""
    config = experiment.corpus
    mark = fingerprint({"corpus": experiment.identity()["corpus"], "seed": experiment.seed, "inputs": inputs(config)})
    job = _Job(config, experiment.seed, out, mark)
    sources = _sources(experiment)
    progress.total(len(sources))
    locked: dict[str, Split] = {}
    answers: list[dict[str, Any]] = []
    native_test = {name for name, source in sources if source.get("native_split") == Split.TEST}
    for native in _LOCKED_FIRST:
        now = [
            {"corpus": name, **source, "locked": locked, "native_test": name in native_test}
            for name, source in sources
            if source.get("native_split") == native
        ]
        for answer in map_blocks(_Normaliser, (job,), now, actors=2):
            answers.append(answer)
            for key in answer["problems"]:  # TEST comes first: what it locked stays locked
                locked.setdefault(key, Split(native))
            progress.advance(1, f"{answer['name']}: {answer['records']} records, {answer['quarantined']} quarantined")
    return _finish(experiment, out, mark, answers)


def _sources(experiment: Experiment) -> list[tuple[str, dict[str, Any]]]:
    """(corpus, plain source) of every unit of work."""
    config = experiment.corpus
    found: list[tuple[str, dict[str, Any]]] = []
    for name in config.names:
        if name in CORPORA:
            found += [(name, _plain(source)) for source in CORPORA[name].sources(config)]
        else:
            count = config.records or WORLD_RECORDS
            found += [
                (name, {"start": start, "count": min(config.block_records, count - start), "native_split": None})
                for start in range(0, count, config.block_records)
            ]
    return found


def _plain(source: Source) -> dict[str, Any]:
    return {**asdict(source), "native_split": source.native_split and str(source.native_split)}


class _Normaliser:
    """Source -> blocks of records, one sequence of blocks per split."""

    def __init__(self, job: _Job) -> None:
        self.job = job

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        job = self.job
        part = item.get("native_split") or f"{item.get('start', 0):08d}"
        name = f"{item['corpus']}-{part.lower()}"
        done = finished_blocks(job.quarantine, [name], job.fingerprint)
        if name in done:  # this source's last receipt: its blocks are all there
            return done[name].facts["answer"]
        records: dict[Split, list[CorpusRecord]] = {split: [] for split in Split}
        quarantine: list[Malformed] = []
        problems: set[str] = set()
        locked = {key: Split(split) for key, split in item["locked"].items()}
        for record in self._read(item):
            if isinstance(record, Malformed):
                quarantine.append(record)
                continue
            key = problem_key(record)
            problems.add(key)
            split = assign_split(key, record.split, locked, job.corpus.splits, item["native_test"], job.seed)
            records[split].append(record.model_copy(update={"split": split}))
        blocks = [
            self._write(f"{name}-{split.lower()}-{number:05d}", split, kept[first : first + job.corpus.block_records])
            for split, kept in records.items()
            for number, first in enumerate(range(0, len(kept), job.corpus.block_records))
        ]
        answer = {
            "name": name,
            "records": sum(len(kept) for kept in records.values()),
            "quarantined": len(quarantine),
            "reasons": dict(Counter(row.reason for row in quarantine)),
            "problems": sorted(problems) if item.get("native_split") in (Split.TEST, Split.FIT) else [],
            "blocks": [block.model_dump() for block in blocks],
        }
        lines = "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in quarantine)
        write_block(
            job.quarantine,
            name,
            ".jsonl",
            job.fingerprint,
            len(quarantine),
            lambda path: _write_text(path, lines),
            answer=answer,
        )
        return answer

    def _read(self, item: dict[str, Any]) -> Iterator[CorpusRecord | Malformed]:
        if item["corpus"] in WORLDS:
            seed = stream_seed(self.job.seed, "world")
            yield from WORLDS[item["corpus"]].generate(item["count"], seed, item["start"])
            return
        split = item["native_split"]
        fields = {key: item[key] for key in ("corpus", "location", "config")}
        source = Source(native_split=Split(split) if split else None, **fields)
        yield from CORPORA[item["corpus"]].read(source, self.job.corpus)

    def _write(self, name: str, split: Split, records: list[CorpusRecord]) -> BlockInfo:
        rows = [
            {**record.model_dump(mode="json"), "extras": json.dumps(record.extras, ensure_ascii=False)}
            for record in records
        ]
        table = pa.Table.from_pylist(rows, schema=_SCHEMA)
        return write_block(
            self.job.out,
            name,
            ".parquet",
            self.job.fingerprint,
            len(rows),
            lambda path: pq.write_table(table, path, compression="zstd"),
            split=str(split),
            corpus=records[0].source_dataset,
            with_cot=sum(record.cot is not None for record in records),
            variables=_values(records),
        )


def _values(records: list[CorpusRecord]) -> dict[str, list[str]]:
    """The values of every labelled variable."""
    found: dict[str, set[str]] = {}
    for record in records:
        for label in record.labels:
            found.setdefault(label.variable, set()).add(label.value)
    return {name: sorted(values) for name, values in sorted(found.items())}


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _finish(experiment: Experiment, out: Path, mark: str, answers: list[dict[str, Any]]) -> Manifest:
    answers.sort(key=lambda answer: answer["name"])
    blocks = tuple(BlockInfo.model_validate(block) for answer in answers for block in answer["blocks"])
    per_split = Counter({str(split): 0 for split in Split})
    for block in blocks:
        per_split[block.facts["split"]] += block.rows
    reasons = sum((Counter(answer["reasons"]) for answer in answers), Counter())
    where = experiment.corpus.path or "the source"
    if not sum(per_split.values()):
        why = f" ({'; '.join(f'{n} x {reason}' for reason, n in reasons.items())})" if reasons else ""
        raise BadInput(
            f"{where} holds no usable record{why}",
            "allowed: at least one record per split",
            "pass another corpus.path=",
        )
    empty = [split for split, count in per_split.items() if not count]
    if empty:
        total = sum(per_split.values())
        raise BadInput(
            f"{total} records leave {', '.join(empty)} empty",
            "allowed: at least one record in each of TRAIN, FIT, TEST",
            "pass more records (corpus.records=) or other corpus.splits",
        )
    extra = {
        "records": dict(per_split),
        "quarantined": sum(reasons.values()),
        "reasons": dict(reasons),
        "quarantine_files": [f"../quarantine/{answer['name']}.jsonl" for answer in answers if answer["quarantined"]],
    }
    manifest = Manifest(
        kind="corpus", fingerprint=mark, blocks=blocks, provenance={"inputs": inputs(experiment.corpus)}, extra=extra
    )
    manifest.write(out)
    return manifest


def read_records(folder: Path, block: BlockInfo) -> Iterator[CorpusRecord]:
    """The records of one corpus block."""
    for row in pq.read_table(folder / block.file).to_pylist():
        yield CorpusRecord.model_validate({**row, "extras": json.loads(row["extras"])})
