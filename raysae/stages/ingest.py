"""Sources -> `corpus/`: Parquet blocks of normalised records, split by problem; malformed rows -> `quarantine/`.

Unit of work: one source (a file of a dataset, or a range of a generated world), streamed twice. The first reading notes
the problem of every record in `corpus/problems/`, from which `split` joins what belongs together; the second writes the
blocks. Neither holds more than a block of records.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from raysae.corpora import CORPORA, Malformed
from raysae.corpora.splits import SplitRule, problem_key, short_key, uniform
from raysae.errors import BadInput
from raysae.stages import problems
from raysae.stages.progress import StageProgress
from raysae.stages.resources import map_blocks
from raysae.store import BlockInfo, Manifest, RecordBlocks, finished_blocks, sha256_file, write_block
from raysae.types import CorpusRecord, Experiment, Split
from raysae.types.experiment import fingerprint, stream_seed
from raysae.types.text import CorpusConfig
from raysae.worlds import arithmetic_cot, bfs_step, controlled_cot, dyck
from raysae.worlds.compiled import COMPILED
from raysae.worlds.systems import SYSTEMS

WORLDS: dict[str, Any] = {
    "arithmetic_cot": arithmetic_cot,
    **COMPILED,
    bfs_step.NAME: bfs_step,
    dyck.NAME: dyck.WORLD,
}
"""Generated text with a causal program: name -> the module in `worlds/` that makes it, or what offers the same."""
READINGS = {arithmetic_cot.NAME: arithmetic_cot.readings, controlled_cot.NAME: controlled_cot.readings}
"""Where a text shows what a reader makes of it: name of a world -> record -> its readings."""
GENERATED = {
    **{name: world.generate for name, world in WORLDS.items()},
    controlled_cot.NAME: controlled_cot.generate,
    **{name: s.generate for name, s in SYSTEMS.items()},
}
"""Every corpus without a file: name -> (count, seed, start) -> records."""

WORLD_RECORDS = 3000
"""Records of a generated corpus when `corpus.records` is null."""

ACTORS = 2


@dataclass(frozen=True)
class _Job:
    """What a worker needs beside its item."""

    corpus: CorpusConfig
    seed: int
    out: Path
    fingerprint: str
    rules: dict[str, SplitRule]
    """By corpus."""
    rates: dict[str, float]
    """By corpus: the share of its TRAIN records to keep."""

    @property
    def quarantine(self) -> Path:
        """Beside the corpus: a file per source, empty where nothing was malformed."""
        return self.out.parent / "quarantine"


def check_names(config: CorpusConfig) -> None:
    """BadInput for a corpus or configuration nobody knows, one named twice, or nothing that may be trained on."""
    known = [*CORPORA, *GENERATED]
    for name in config.names:
        if name not in known:
            raise BadInput(f"corpus.name={name!r}", f"allowed: {', '.join(known)}", f"type corpus.name={known[0]}")
    if len(set(config.names)) != len(config.names):
        raise BadInput(
            f"corpus.name={list(config.names)} repeats a corpus",
            "allowed: each once",
            f"type corpus.name={config.names[0]}",
        )
    configs = {name for corpus in config.names if corpus in CORPORA for name in CORPORA[corpus].configs}
    for name in config.configs:
        if name not in configs | {"main"} and any(corpus in CORPORA for corpus in config.names):
            allowed = ", ".join(sorted(configs))
            raise BadInput(f"corpus.config={name}", f"allowed: {allowed}", f"type corpus.config={min(configs)}")
    if all(name in CORPORA and CORPORA[name].eval_only for name in config.names):
        raise BadInput(
            f"corpus.name={config.names[0]} alone",
            "its terms allow evaluation only, so nothing is left to train on",
            f"name a corpus beside it: type corpus.name=[{config.names[0]},gsm8k]",
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
        if name in GENERATED:
            found[name] = "generated"
        elif config.path is None or (isinstance(config.path, dict) and name not in config.path):
            found[name] = f"{CORPORA[name].hub_id}@{CORPORA[name].revision}"
        else:
            for source in CORPORA[name].sources(config):
                found[f"{name}/{source.name}"] = sha256_file(Path(source.location))
    return found


def ingest(experiment: Experiment, out: Path, progress: StageProgress) -> Manifest:
    """Write `corpus/`. Raises BadInput when nothing is left after quarantine or a split stays empty."""
    config = experiment.corpus
    mark = fingerprint({"corpus": experiment.identity()["corpus"], "seed": experiment.seed, "inputs": inputs(config)})
    sources = units(experiment)
    rules = {
        name: SplitRule(
            config.splits,
            native_test=any(item["corpus"] == name and item.get("native_split") == Split.TEST for item in sources),
            eval_only=name in CORPORA and CORPORA[name].eval_only,
        )
        for name in config.names
    }
    progress.total(2 * len(sources))
    read = [item for item in sources if item["corpus"] in CORPORA]
    reader = problems.Job(config, experiment.seed, out / problems.FOLDER, mark)
    for answer in map_blocks(problems.Reader, (reader,), read, actors=ACTORS):
        progress.advance(1, f"{answer['name']}: {answer['records']:,} problems")
    rates, duplicates = problems.split(reader, read, rules)
    job = _Job(config, experiment.seed, out, mark, rules, rates)
    answers: list[dict[str, Any]] = []
    for answer in map_blocks(_Normaliser, (job,), sources, actors=ACTORS):
        answers.append(answer)
        progress.advance(1, f"{answer['name']}: {answer['records']} records, {answer['quarantined']} quarantined")
    manifest = _finish(experiment, out, mark, answers, duplicates)
    shutil.rmtree(reader.folder, ignore_errors=True)
    return manifest


def units(experiment: Experiment) -> list[dict[str, Any]]:
    """Every unit of work."""
    config = experiment.corpus
    found: list[dict[str, Any]] = []
    for name in config.names:
        if name in CORPORA:
            found += [asdict(source) for source in CORPORA[name].sources(config)]
        else:
            count = config.records or WORLD_RECORDS
            found += [
                {"corpus": name, "start": start, "count": min(config.block_records, count - start)}
                for start in range(0, count, config.block_records)
            ]
    return found


def _name(item: dict[str, Any]) -> str:
    """Of a unit of work, and of its files."""
    return problems.name(item) if "location" in item else f"{item['corpus']}-{item['start']:08d}"


class _Normaliser:
    """Source -> blocks of records, one sequence of blocks per split."""

    def __init__(self, job: _Job) -> None:
        self.job = job
        self.moved = problems.read_moved(job.out / problems.FOLDER)

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        job, name = self.job, _name(item)
        done = finished_blocks(job.quarantine, [name], job.fingerprint)
        if name in done:  # this source's last receipt: its blocks were all there
            answer = done[name].facts["answer"]
            made = [block["name"] for block in answer["blocks"]]
            if len(finished_blocks(job.out, made, job.fingerprint)) == len(made):
                return answer
        blocks = RecordBlocks(job.out, name, job.fingerprint, job.corpus.block_records)
        reasons: Counter[str] = Counter()
        left_out = 0
        job.quarantine.mkdir(parents=True, exist_ok=True)
        kept = job.quarantine / f".{name}.rows"
        with kept.open("w", encoding="utf-8") as quarantine:
            for record in self._read(item):
                if isinstance(record, Malformed):
                    _write_row(quarantine, record)
                    reasons[record.reason.partition(":")[0]] += 1
                elif (split := self._split(record)) is None:
                    left_out += 1
                else:
                    blocks.add(record, split)
        answer = {
            "name": name,
            "corpus": item["corpus"],
            "records": blocks.records,
            "quarantined": reasons.total(),
            "reasons": dict(reasons),
            "left_out": left_out,
            "blocks": [block.model_dump() for block in blocks.finish()],
        }
        write_block(
            job.quarantine,
            name,
            ".jsonl",
            job.fingerprint,
            reasons.total(),
            # Copied: a rename would leave the place without the lock that keeps others from sweeping it away.
            lambda path: shutil.copyfile(kept, path),
            answer=answer,
        )
        kept.unlink()
        return answer

    def _split(self, record: CorpusRecord) -> Split | None:
        """The side of a record; None for a TRAIN record that the weights leave out."""
        job, key = self.job, problem_key(record)
        alone = job.rules[record.source_dataset].alone(record.split, uniform(key, job.seed))
        split = self.moved.get(short_key(key), alone)
        rate = job.rates.get(record.source_dataset, 1.0)
        if split is Split.TRAIN and rate < 1 and uniform(record.record_id, job.seed, "weights") >= rate:
            return None
        return split

    def _read(self, item: dict[str, Any]) -> Iterator[CorpusRecord | Malformed]:
        if item["corpus"] in GENERATED:
            seed = stream_seed(self.job.seed, "world")
            yield from GENERATED[item["corpus"]](item["count"], seed, item["start"])
            return
        yield from problems.read(item, self.job.corpus)


def _write_row(file: TextIO, row: Malformed) -> None:
    file.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")


def _finish(
    experiment: Experiment, out: Path, mark: str, answers: list[dict[str, Any]], duplicates: dict[str, Any]
) -> Manifest:
    answers.sort(key=lambda answer: answer["name"])
    blocks = tuple(BlockInfo.model_validate(block) for answer in answers for block in answer["blocks"])
    per_split = Counter({str(split): 0 for split in Split})
    for block in blocks:
        per_split[block.facts["split"]] += block.rows
    by_corpus: dict[str, Counter[str]] = {}
    for answer in answers:
        by_corpus.setdefault(answer["corpus"], Counter()).update(answer["reasons"])
    reasons = sum(by_corpus.values(), Counter())
    where = experiment.corpus.path or ", ".join(experiment.corpus.names)
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
        "left_out_by_weights": sum(answer["left_out"] for answer in answers),
        "duplicates": duplicates,
        "quarantined_by_corpus": {name: dict(counts) for name, counts in by_corpus.items()},
        "quarantine_files": [f"../quarantine/{answer['name']}.jsonl" for answer in answers if answer["quarantined"]],
    }
    manifest = Manifest(
        kind="corpus", fingerprint=mark, blocks=blocks, provenance={"inputs": inputs(experiment.corpus)}, extra=extra
    )
    manifest.write(out)
    return manifest
