"""Control labels: a label per token type that says nothing but which type it is (SCIENCE 5.3), for training and court.

Both take the table from the FIT documents, with a seed of their own, so that an SAE guided by control labels is probed
for those very labels.
"""

import numpy as np

from raysae.falsification.metrics.probing import control_labels
from raysae.stages.measure import first_documents, places, read_labels
from raysae.store import TokenStore
from raysae.types import Experiment, Split
from raysae.types.experiment import stream_seed


def control_table(experiment: Experiment, tokens: TokenStore, variable: str, values: list[str]) -> tuple[int, ...]:
    """The place in `values` of each token id's control label."""
    limit = experiment.protocol.test_tokens
    said = read_labels(tokens, Split.FIT, limit)[variable]
    ids = [
        ids
        for block, count, _ in first_documents(tokens, Split.FIT, limit)
        for _, (_, ids, _) in zip(range(count), tokens.documents(block), strict=False)
    ]
    seed = stream_seed(experiment.seed, "control_labels") % 2**32
    table = control_labels(np.concatenate(ids), places(said, values), tokens.manifest.extra["vocab_size"], seed)
    return tuple(table.tolist())
