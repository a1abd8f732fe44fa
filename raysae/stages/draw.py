"""Drawn token ids -> `tokens/`, in the place of a corpus and a tokenizer: one TEST block, the documents of one run.

A dense transformer does the same work for any ids, so what capture costs can be measured without a text.
"""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysae.models.load import describe
from raysae.store import Manifest, RunFolder, write_block
from raysae.store.schema import TOKEN_SCHEMA
from raysae.types import Experiment, Split
from raysae.types.experiment import fingerprint, stream_seed

STREAM = "overhead/ids"
SOURCE = "drawn ids"
"""What the manifest calls them."""


def draw(experiment: Experiment, folder: RunFolder) -> Manifest:
    """Write `tokens/`."""
    config, row = experiment.overhead, describe(experiment.model)
    vocabulary = row.tokens or row.vocab_size
    rng = np.random.default_rng(stream_seed(experiment.seed, STREAM))
    ids = rng.integers(0, vocabulary, (config.documents, config.sequence_length), dtype=np.int32)
    names = [f"drawn/{i:05d}" for i in range(len(ids))]
    per_token = {"step": np.int16(-1), "step_confidence": np.float32(0), "consensus_type": np.int8(-1)}
    columns = {
        "record": names,
        "split": [str(Split.TEST)] * len(ids),
        "input_ids": list(ids),
        **{name: list(np.full(ids.shape, value)) for name, value in per_token.items()},
        "documents": [[name] for name in names],
        "document_starts": [[0]] * len(ids),
        "skipped": [0] * len(ids),
    }
    mark = fingerprint({"source": SOURCE, "shape": ids.shape, "vocabulary": vocabulary, "seed": experiment.seed})
    block = write_block(
        folder.tokens,
        "test-00000",
        ".parquet",
        mark,
        len(ids),
        lambda path: pq.write_table(pa.table(columns, schema=TOKEN_SCHEMA), path),
        split=str(Split.TEST),
        tokens=ids.size,
        ids_sha256=hashlib.sha256(ids.astype("<i4").tobytes()).hexdigest(),
    )
    extra = {"source": SOURCE, "tokens": ids.size, "vocab_size": vocabulary}
    manifest = Manifest(kind="tokens", fingerprint=mark, blocks=(block,), extra=extra)
    manifest.write(folder.tokens)
    return manifest
