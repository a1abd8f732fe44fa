"""What a run will take, before anything is captured: tokens, bytes, hours and cost, cached and streamed.

Tokens are counted where they exist; before `tokenize` the first records of every source are read and tokenized, and
the rest is taken to be like them.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from raysae.corpora import CORPORA, Malformed, formats
from raysae.costs import work as costs
from raysae.costs.devices import CPU, DEVICES, REFERENCE, known
from raysae.costs.plan import Machine, Plan, Speed, plan
from raysae.costs.prices import read as read_prices
from raysae.costs.rehearsal import fit, kind
from raysae.costs.scale import Step, Tokens, crossing, of_steps, of_tokens
from raysae.costs.work import Arms, Sizes, Work
from raysae.errors import BadInput
from raysae.falsification.criteria import judges_capture
from raysae.models.capture import width
from raysae.models.load import describe, fitting_tokenizer
from raysae.stages.capture import TWIN, arms
from raysae.stages.dictionaries import trained_arms
from raysae.stages.ingest import GENERATED, units
from raysae.stages.pieces import STATISTICS_TOKENS, WATCHED_ROWS, pieces
from raysae.stages.points import largest
from raysae.stages.preflight import block_bytes
from raysae.stages.problems import read as read_records
from raysae.stages.provenance import cores, device
from raysae.stages.resources import local_mode
from raysae.stages.spent import ledger
from raysae.stages.tokenize import context_length
from raysae.store import Manifest, RunFolder, TokenStore, write_json
from raysae.types import CorpusRecord, Experiment, Split
from raysae.types.experiment import fingerprint, stream_seed

SAMPLE = 200
"""Records of each source that are read for an estimate."""
MODES = ("cache", "stream")


def check(experiment: Experiment) -> None:
    """BadInput for prices that cannot be read and a device that nobody knows."""
    read_prices(experiment.budget.prices)
    machine(experiment)


def plans(experiment: Experiment, folder: RunFolder) -> dict[str, Plan]:
    """By mode of `activations`, that of the experiment first. BadInput for one that there is nothing to plan of."""
    if judges_capture(experiment.protocol.criteria):
        raise BadInput(
            "a plan of an experiment about capture itself",
            "allowed: one that reads a text; this one measures for minutes and keeps no activations",
            "type raysae run",
        )
    there = _text(experiment, folder)
    found = {}
    for mode in sorted(MODES, key=lambda mode: mode != experiment.activations.mode):
        if mode == "cache" or not experiment.capture.quarantine:
            activations = experiment.activations.model_copy(update={"mode": mode})
            found[mode] = _plan(experiment.model_copy(update={"activations": activations}), there, folder)
    return found


def promise(experiment: Experiment, folder: RunFolder) -> Plan:
    """The plan of a run that is about to capture; the first one stays in `resources.json`."""
    made = _plan(experiment, _text(experiment, folder), folder)
    found = ledger(folder)
    if "planned" not in found:
        write_json(folder.resources, found | {"planned": made.model_dump(mode="json")})
    return made


def _plan(experiment: Experiment, there: "Text", folder: RunFolder) -> Plan:
    return plan(
        experiment.activations.mode,
        _work(experiment, there, folder),
        machine(experiment),
        experiment.budget,
        prices=read_prices(experiment.budget.prices),
        speeds=_speeds(experiment, folder),
        counted_by=there.counted_by,
        exact=there.exact,
    )


def _work(experiment: Experiment, there: "Text", folder: RunFolder) -> dict[str, Work]:
    points = largest(experiment)
    trained = trained_arms(experiment)
    needs = Arms(
        models=len(arms(experiment)),
        saes=len(trained),
        streams=1 + (TWIN in trained),
        points=tuple((point["expansion"], point["k"]) for point in points),
    )
    size = _counted(experiment, there, folder) if there.exact else _estimated(experiment, there)
    if points:  # whichever it chooses, it is none that is wider
        widest = max(point["expansion"] for point in points)
        experiment = experiment.model_copy(update={"sae": experiment.sae.model_copy(update={"expansion": widest})})
    return costs.work(experiment, describe(experiment.model), size, needs)


class Text(NamedTuple):
    """How much there is to read."""

    records: int
    tokens: int
    rows: int
    """Documents, or rows that were packed."""
    exact: bool
    counted_by: str


def _text(experiment: Experiment, folder: RunFolder) -> Text:
    """Counted in the run folder, or estimated from the corpus."""
    if not Manifest.exists(folder.tokens):
        return _sampled_text(experiment)
    blocks = Manifest.read(folder.tokens).blocks
    tokens = sum(block.facts["tokens"] for block in blocks)
    said = f"{tokens:,} tokens counted in {len(blocks):,} blocks"
    return Text(Manifest.read(folder.corpus).rows, tokens, sum(block.rows for block in blocks), True, said)


def _counted(experiment: Experiment, there: Text, folder: RunFolder) -> Sizes:
    work = pieces(experiment, TokenStore(folder.tokens))
    kept = [piece.tokens for piece in work if piece.kept]
    return Sizes(
        there.records,
        there.tokens,
        context=there.tokens / max(there.rows, 1),
        captured=sum(piece.tokens for piece in work),
        kept=sum(kept),
        disk=_disk(experiment, kept),
    )


def _estimated(experiment: Experiment, there: Text) -> Sizes:
    context = there.tokens / max(there.rows, 1)
    splits, block = experiment.corpus.splits, experiment.tokenizer.block_tokens
    if experiment.activations.mode == "cache":
        whole, rest = divmod(there.tokens, block)
        disk = _disk(experiment, [block] * whole + [rest] * len(Split))  # every split ends with a block of its own
        return Sizes(there.records, there.tokens, context, there.tokens, there.tokens, disk)
    most = max(experiment.protocol.test_tokens, WATCHED_ROWS)
    kept = sum(min(round(there.tokens * share), most) for share in (splits.fit, splits.test))
    looked_at = min(round(there.tokens * (1 - splits.fit - splits.test)), STATISTICS_TOKENS)
    return Sizes(there.records, there.tokens, context, looked_at + kept, kept, _disk(experiment, [kept]))


def _disk(experiment: Experiment, blocks: Sequence[int]) -> int:
    row = describe(experiment.model)
    widths = {str(point): width(row, point) for point in experiment.capture.hookpoints}
    return sum(block_bytes(tokens, widths, experiment.capture.dtype) for tokens in blocks)


def _sampled_text(experiment: Experiment) -> Text:
    found = list(_sampled(experiment))
    lengths = [length for source in found for length in source.lengths]
    if not lengths:
        raise BadInput(
            "a corpus without a usable record at its beginning",
            "allowed: text that can be tokenized",
            "type raysae ingest, which says what is wrong with it",
        )
    records = sum(source.records for source in found)
    of_source = [sum(s.lengths or lengths) / len(s.lengths or lengths) for s in found]
    tokens = round(sum(source.records * mean for source, mean in zip(found, of_source, strict=True)))
    said = f"about {tokens:,} tokens, estimated from the first {len(lengths):,} of about {records:,} records"
    return Text(records, tokens, records, False, said)


class Source(NamedTuple):
    """The records of one source, and the lengths of the first."""

    records: int
    lengths: list[int]


def records(experiment: Experiment) -> list[int]:
    """Of each source, in the order of the sources."""
    return [source.records for source in _sampled(experiment, lengths=False)]


def _sampled(experiment: Experiment, lengths: bool = True) -> Iterator[Source]:
    """Every source; of a generated corpus, whose pieces are alike, the first piece stands for all."""
    config = experiment.corpus
    tokenizer = fitting_tokenizer(experiment.model, experiment.tokenizer) if lengths else None
    longest = context_length(experiment) if experiment.tokenizer.layout == "documents" else None
    longest = None if experiment.tokenizer.overflow == "window" else longest

    def measure(found: Iterator[Any]) -> list[int]:
        usable = (record for record in islice(found, SAMPLE) if not isinstance(record, Malformed))
        texts = [record.text for record in usable if isinstance(record, CorpusRecord)]
        ids: Any = tokenizer(texts)["input_ids"] if tokenizer is not None and texts else []
        return [min(len(one), longest or len(one)) for one in ids]

    seen: set[str] = set()
    for item in units(experiment):
        name = item["corpus"]
        if name in CORPORA:
            count = _rows(Path(item["location"]))
            yield Source(min(count, config.records or count), measure(read_records(item, config)) if lengths else [])
        elif name not in seen:
            seen.add(name)
            count = sum(other["count"] for other in units(experiment) if other["corpus"] == name)
            first = GENERATED[name](min(item["count"], SAMPLE), stream_seed(experiment.seed, "world"), 0)
            yield Source(count, measure(iter(first)) if lengths else [])


def _rows(path: Path) -> int:
    """Of a file of the corpus: what Parquet says, or as many as its size holds of rows like the first."""
    if path.suffix == ".parquet":
        return pq.read_metadata(path).num_rows
    first = [row for _, row in islice(formats.rows(path), SAMPLE)]
    if len(first) < SAMPLE:
        return len(first)
    mean = sum(len(json.dumps(row, ensure_ascii=False).encode()) for row in first if isinstance(row, dict)) / len(first)
    return max(round(path.stat().st_size / max(mean, 1)), len(first))


def machine(experiment: Experiment) -> Machine:
    """That of the budget, or this one. Where a GPU is asked for and none is known, it is REFERENCE."""
    asked = experiment.budget.device
    if asked is not None and asked not in DEVICES:
        raise BadInput(f"budget.device={asked}", f"allowed: {', '.join(DEVICES)}", f"type 'budget.device={REFERENCE}'")
    if asked is not None:
        return Machine(asked, cores())
    gpus = experiment.capture.gpus_per_actor > 0 or experiment.train.gpu
    return Machine((known(device()[0]) or REFERENCE) if gpus else CPU, cores())


def _key(experiment: Experiment) -> str:
    """Of what was timed: how an experiment works, where."""
    return fingerprint({"kind": kind(experiment), "device": device(), "cores": cores(), "local": local_mode()})


def _speeds(experiment: Experiment, folder: RunFolder) -> dict[str, Speed]:
    """What a rehearsal found for experiments like this one; nothing for another device than this machine's."""
    if experiment.budget.device is not None or not folder.speeds.is_file():
        return {}
    found = json.loads(folder.speeds.read_text()).get(_key(experiment), {})
    return {stage: Speed(*speed) for stage, speed in found.items()}


def learn(experiment: Experiment, folder: RunFolder, rehearsed: list[Experiment]) -> None:
    """Put what two rehearsals took into `speeds.json`, beside the run folders."""
    small, large = (_timed(one) for one in rehearsed)
    kept = json.loads(folder.speeds.read_text()) if folder.speeds.is_file() else {}
    write_json(folder.speeds, kept | {_key(experiment): fit(small, large)})


def _timed(experiment: Experiment) -> dict[str, tuple[float, float]]:
    folder = RunFolder(experiment)
    units = {stage: one.units for stage, one in _work(experiment, _text(experiment, folder), folder).items()}
    return {stage: (units[stage], row["wall_s"]) for stage, row in ledger(folder)["stages"].items() if stage in units}


def at_scale(experiment: Experiment) -> tuple[list[Tokens], list[Step], int]:
    """For its model and SAE: what billions of tokens take, what a step of a million latents takes in either split, and
    from how many latents on the split by latents sends less."""
    row, where = describe(experiment.model), experiment.budget.device or REFERENCE
    rows = of_tokens(experiment, row, where, context=context_length(experiment))
    return rows, of_steps(experiment, row, where), crossing(experiment, row)
