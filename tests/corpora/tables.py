"""What tests of alignment need: records as a corpus block, and steps under the numbers of a gold's."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from raysae.corpora.aligners import NO_STEP
from raysae.corpora.blocks import COLUMNS
from raysae.types import CorpusRecord

STEP_SPANS = pa.list_(pa.list_(pa.int32()))
LABELS = pa.list_(
    pa.struct([("start", pa.int32()), ("end", pa.int32()), ("variable", pa.string()), ("value", pa.string())])
)


def records_table(records: Sequence[CorpusRecord]) -> pa.Table:
    """The columns of a corpus block that `tokenize_table` reads."""
    strings = [(name, pa.string()) for name in ("record_id", "text", "question", "answer", "cot")]
    schema = pa.schema([*strings, ("steps", pa.list_(pa.string())), ("step_spans", STEP_SPANS), ("labels", LABELS)])
    return pa.Table.from_pylist([record.model_dump(include=set(COLUMNS)) for record in records], schema=schema)


def renumbered(found: NDArray[np.integer], wanted: NDArray[np.integer]) -> NDArray[np.int64]:
    """`found` [tokens] with each step under the number of the wanted step it shares most tokens with, one to one.

    For gold that cuts a document into other steps than its corpus does; a step left over gets a number that nobody
    wants.
    """
    here, there = np.unique(found[found != NO_STEP]), np.unique(wanted[wanted != NO_STEP])
    shared = np.array([[((found == a) & (wanted == b)).sum() for b in there] for a in here]).reshape(
        len(here), len(there)
    )
    number = {NO_STEP: NO_STEP} | {int(a): int(wanted.max(initial=0)) + 1 + i for i, a in enumerate(here)}
    for i, j in zip(*linear_sum_assignment(-shared), strict=True):
        if shared[i, j]:
            number[int(here[i])] = int(there[j])
    return np.array([number[int(step)] for step in found], dtype=np.int64)
