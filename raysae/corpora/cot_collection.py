"""CoT-Collection: 1.84 million rationales over 1,060 tasks, written by Codex. Kim et al. 2023, arXiv:2305.14045.

One JSON object of 2.36 GB keyed by record id, streamed key by key. `text` = prompt, rationale, target, each on its own
line; the steps are sentences, cut by rule, since the source marks none. Its card says CC-BY-4.0, its authors'
repository non-commercial use only: taken for the stricter.
"""

from raysae.corpora.assemble import NativeRow, Text, by_row, reasoned, sentences
from raysae.corpora.base import Corpus, Files, Source
from raysae.types import CorpusRecord, Split

LICENCE = "CC-BY-4.0 by its card, non-commercial by its authors"


class Row(NativeRow):
    source: Text
    target: Text
    rationale: Text
    task: str
    type: str
    record_id: str | None = None


def build(row: Row, source: Source, line: int) -> CorpusRecord:
    rationale = row.rationale.strip()
    extras = {"task": row.task, "type": row.type, "step_split": "sentences"}
    return reasoned(
        source,
        line,
        licence=LICENCE,
        question=row.source,
        answer=row.target,
        cot=rationale,
        steps=sentences(rationale),
        after=f"\n{row.target}",
        extras=extras if row.record_id is None else {**extras, "record_id": row.record_id},
    )


COT_COLLECTION = Corpus(
    name="cot_collection",
    hub_id="kaist-ai/CoT-Collection",
    revision="c9d352cdc119df4a4f7526d100e4acb4a72a7a5c",
    licence=LICENCE,
    configs={"default": (Files("train", Split.TRAIN, ("data/CoT_collection_en.json", "*.json", "*.jsonl")),)},
    rows={"train": "about 1.84 million"},
    has_cot=True,
    redistribute=False,
    normalise=by_row(Row, build),
)
