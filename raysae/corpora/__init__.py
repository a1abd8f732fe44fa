"""Data sets of reasoning text, each normalised to `CorpusRecord`. Synthetic corpora live in `raysae.worlds`."""

from raysae.corpora.base import Corpus, Malformed, Source
from raysae.corpora.cot_collection import COT_COLLECTION
from raysae.corpora.generic import JSONL, PARQUET
from raysae.corpora.gsm8k import GSM8K
from raysae.corpora.metamath_qa import METAMATH_QA
from raysae.corpora.openr1_math import OPENR1_MATH
from raysae.corpora.reveal import REVEAL
from raysae.corpora.trip import TRIP
from raysae.corpora.wiqa import WIQA

CORPORA: dict[str, Corpus] = {
    "gsm8k": GSM8K,
    "cot_collection": COT_COLLECTION,
    "openr1_math": OPENR1_MATH,
    "metamath_qa": METAMATH_QA,
    "reveal": REVEAL,
    "trip": TRIP,
    "wiqa": WIQA,
    "jsonl": JSONL,
    "parquet": PARQUET,
}
"""Every corpus by name; the last two are anybody's files."""

__all__ = ["CORPORA", "Corpus", "Malformed", "Source"]
