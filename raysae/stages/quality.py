"""`corpus/`, `tokens/`, `alignment/` -> `quality/quality.json`: figures per corpus, samples, and a stop beyond a limit.

What can be added up was counted while tokenizing; agreement, known spans and changed ids are measured here on documents
drawn at random. The manifest is written only when every figure is within its limit.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysae.corpora import CORPORA
from raysae.corpora.agreement import Hits, boundary_hits, krippendorff, token_hits
from raysae.corpora.aligners import ALIGNERS, NO_ANSWER
from raysae.corpora.blocks import COLUMNS, known_steps, tokenize_table
from raysae.corpora.encoding import EncodedTexts, Encoder
from raysae.corpora.quality import Tokens, breaches, changed_ids, coloured, perturbations, totals
from raysae.errors import BadInput
from raysae.falsification.intervals import clopper_pearson
from raysae.falsification.resampling import ratio_over_documents
from raysae.stages.progress import StageProgress
from raysae.stages.tokenize import DEFINITION
from raysae.store import BlockInfo, Manifest, RunFolder, describe_file, write_json
from raysae.types import Experiment
from raysae.types.experiment import stream_seed

FILE = "quality.json"
BLOCKS = 8
"""Corpus blocks that a corpus's documents are drawn from, at most."""
SAMPLES = 20
"""Documents shown to a person, over all corpora."""
BOOTSTRAP, DRAWS = 2000, 100
"""Replicates of an interval, and of the shifted votes."""


@dataclass(frozen=True)
class _Sample:
    """Documents of one corpus, drawn at random."""

    records: pa.Table
    """`COLUMNS`"""
    rows: dict[str, list[dict[str, Any]]]
    """Record -> its rows in the alignment table."""


def quality(experiment: Experiment, folder: RunFolder, progress: StageProgress) -> dict[str, Any]:
    """Write `quality/`. Raises BadInput, with the figure and the limit, for the first figure beyond one."""
    corpus, alignment = Manifest.read(folder.corpus), Manifest.read(folder.alignment)
    encoder = Encoder((folder.tokens / DEFINITION).read_text(encoding="utf-8"), None)
    by_corpus: dict[str, list[BlockInfo]] = defaultdict(list)
    for block in alignment.blocks:
        by_corpus[block.facts["corpus"]].append(block)
    progress.total(len(by_corpus))
    seed = stream_seed(experiment.seed, "quality")
    corpora: dict[str, dict[str, Any]] = {}
    samples: list[dict[str, Any]] = []
    for number, (name, blocks) in enumerate(by_corpus.items()):
        rng = random.Random(f"{seed}/{name}")
        sample = _draw(blocks, folder, experiment.quality.sample_documents, rng)
        corpora[name] = {
            **totals([block.facts for block in blocks]),
            **_source(name, corpus),
            "agreement": _agreement(sample, experiment.quality.min_agreement, seed % 2**32),
            "known_spans": _known_spans(sample, encoder, seed % 2**32),
            "invariance": _invariance(sample, encoder, rng),
        }
        shown = SAMPLES // len(by_corpus) + (number < SAMPLES % len(by_corpus))
        samples += _shown(name, sample, shown)
        progress.advance(1, name)
    found = breaches(corpora, experiment.quality)
    limits = experiment.quality.model_dump()
    report = {"limits": limits, "breaches": [str(breach) for breach in found], "corpora": corpora, "samples": samples}
    path = folder.quality / FILE
    write_json(path, report)
    if found:
        others = f" (and {len(found) - 1} more)" if found[1:] else ""
        raise BadInput(
            f"{found[0].corpus}: {found[0].figure} is {found[0].value:.4g}{others}",
            found[0].allowed,
            f"look into {path}, then pass other text, or type quality.{found[0].key}=",
        )
    mark = alignment.fingerprint
    Manifest(kind="quality", fingerprint=mark, blocks=(describe_file(path, mark),)).write(folder.quality)
    return report


def _draw(blocks: Sequence[BlockInfo], folder: RunFolder, documents: int, rng: random.Random) -> _Sample:
    """Up to `documents` documents, from up to `BLOCKS` blocks."""
    chosen = rng.sample(list(blocks), min(BLOCKS, len(blocks)))
    sources = [pq.read_table(folder.corpus / block.file, columns=list(COLUMNS)) for block in chosen]
    places = [(number, row) for number, table in enumerate(sources) for row in range(len(table))]
    places = sorted(rng.sample(places, min(documents, len(places))))
    tables: list[pa.Table] = []
    rows: dict[str, list[dict[str, Any]]] = {}
    for number, (block, source) in enumerate(zip(chosen, sources, strict=True)):
        table = source.take([row for of, row in places if of == number])
        tables.append(table)
        mine = {record: [] for record in table["record_id"].to_pylist()}
        for row in pq.read_table(folder.alignment / block.file).to_pylist():
            if row["record"] in mine:
                mine[row["record"]].append(row)
        rows |= mine
    return _Sample(pa.concat_tables(tables), rows)


def _source(name: str, corpus: Manifest) -> dict[str, Any]:
    blocks = [block for block in corpus.blocks if block.facts["corpus"] == name]
    records, reasons = sum(block.rows for block in blocks), corpus.extra["quarantined_by_corpus"].get(name, {})
    bad = sum(reasons.values())
    return {
        "with_cot": sum(block.facts["with_cot"] for block in blocks) / records,
        "quarantined": {"rows": bad, "share": bad / (records + bad), "reasons": reasons},
        "redistribute": CORPORA[name].redistribute if name in CORPORA else True,
    }


def _agreement(sample: _Sample, limit: float, seed: int) -> dict[str, Any]:
    stretches = [(number, row) for number, rows in enumerate(sample.rows.values()) for row in rows]
    tokens = [row["last_token"] - row["first_token"] for _, row in stretches]
    votes = [[NO_ANSWER if row[name] is None else row[name] for _, row in stretches] for name in ALIGNERS]
    # Documents without a step have no part in it; the others are numbered anew, without gaps.
    _, document = np.unique(np.repeat([number for number, _ in stretches], tokens), return_inverse=True)
    found = krippendorff(
        np.repeat(np.array(votes, np.int64), tokens, axis=1), document, bootstrap=BOOTSTRAP, draws=DRAWS, seed=seed
    )
    return {
        "alpha": found.value,
        "interval": found.interval,
        "null_mean": found.null_mean,
        "null_p95": found.null_p95,
        "void": found.null_p95 is not None and found.null_p95 >= limit,
        "documents": found.documents,
    }


def _known_spans(sample: _Sample, encoder: Encoder, seed: int) -> dict[str, Any] | None:
    """F1 of the consensus, found without the spans, against them; None for a corpus that knows none."""
    known = sample.records.filter([bool(spans) for spans in sample.records["step_spans"].to_pylist()])
    if not len(known):
        return None
    wanted = known_steps(encoder.encode(known["text"].to_pylist()), known)
    at = known.column_names.index("step_spans")
    hidden = known.set_column(at, known.schema.field(at), pa.array([[]] * len(known), known.schema.field(at).type))
    rows, *_ = tokenize_table(encoder, hidden, 0, "keep", {})
    found = rows.columns["step"].astype(np.int64)
    pairs = [(found[a:b], wanted[a:b]) for a, b in pairwise(rows.starts)]
    return {
        "documents": len(known),
        "token_f1": _f1([token_hits(*pair) for pair in pairs], seed),
        "boundary_f1": _f1([boundary_hits(*pair) for pair in pairs], seed),
    }


def _f1(sums: Sequence[Hits], seed: int) -> dict[str, float]:
    """With its lower bound: where every document is perfect, the exact one of their share, for nothing else varies."""
    hits, found, wanted = np.array(sums, np.float64).T[:, None]
    estimate = ratio_over_documents(2 * hits, found + wanted, bootstrap=BOOTSTRAP, seed=seed)
    perfect = int((2 * hits == found + wanted).sum())
    exact = clopper_pearson(perfect, len(sums))[0]
    low = exact if perfect == len(sums) or estimate.interval is None else estimate.interval[0]
    return {"value": estimate.value, "low": low}


def _invariance(sample: _Sample, encoder: Encoder, rng: random.Random) -> dict[str, Any]:
    """Share of the ids outside the place of a small change that it changes, in all and by kind of change."""
    texts = sample.records["text"].to_pylist()
    texts = rng.sample(texts, max(len(texts) // 10, 1))
    changes = [(number, change) for number, text in enumerate(texts) for change in perturbations(text, rng)]
    before = list(_tokens(encoder.encode(texts)))
    after = _tokens(encoder.encode([change.text for _, change in changes]))
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for (number, change), now in zip(changes, after, strict=True):
        for i, part in enumerate(changed_ids(before[number], now, change)):
            sums[change.kind][i] += part
    changed, compared = (sum(pair[i] for pair in sums.values()) for i in range(2))
    return {
        "changed": changed / compared if compared else None,
        "documents": len(texts),
        "kinds": {kind: pair[0] / pair[1] if pair[1] else None for kind, pair in sums.items()},
    }


def _tokens(encoded: EncodedTexts) -> Iterator[Tokens]:
    for number, (first, last) in enumerate(pairwise(encoded.starts)):
        at = encoded.characters[number]
        yield Tokens(encoded.ids[first:last], encoded.begin[first:last] - at, encoded.end[first:last] - at)


def _shown(name: str, sample: _Sample, documents: int) -> list[dict[str, Any]]:
    """Evenly spaced among the drawn documents."""
    texts = dict(zip(sample.records["record_id"].to_pylist(), sample.records["text"].to_pylist(), strict=True))
    names = list(texts)
    chosen = names[:: max(len(names) // documents, 1)][:documents]
    return [{"record": r, "corpus": name, "pieces": coloured(texts[r], sample.rows[r])} for r in chosen]
