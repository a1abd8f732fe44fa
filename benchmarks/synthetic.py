"""An activation folder without a model."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from raysae.store import Manifest, write_block
from raysae.store.activation_block import ActivationBlock, Tokens
from raysae.store.schema import ROW_GROUP_ROWS
from raysae.types import HookPoint, Split

POINT = HookPoint(layer=0, site="resid_post")
DOCUMENT_TOKENS = 128

Draw = Callable[[np.random.Generator, int], np.ndarray]
"""float32 [rows, width]"""


def write_activations(folder: Path, rows: int, width: int, draw: Draw, blocks: int = 1) -> None:
    """`rows` TRAIN tokens, float16, in blocks of equal size."""
    rng, each = np.random.default_rng(0), rows // blocks
    facts = {"split": str(Split.TRAIN), "documents": -(-each // DOCUMENT_TOKENS)}
    written = []
    for number in range(blocks):
        learnt: dict[str, Any] = {}
        write = partial(_write, learnt=learnt, rng=rng, rows=each, width=width, draw=draw)
        name = f"train-{number}"
        written.append(write_block(folder, name, ".parquet", "made", each, write, learnt=learnt.copy, **facts))
    extra = {"widths": {str(POINT): width}, "dtype": "float16"}
    Manifest(kind="activations", fingerprint="made", blocks=tuple(written), extra=extra).write(folder)


def _write(path: Path, learnt: dict[str, Any], rng: np.random.Generator, rows: int, width: int, draw: Draw) -> None:
    records = [f"r{i}" for i in range(-(-rows // DOCUMENT_TOKENS))]
    with ActivationBlock(path, records, {str(POINT): width}, "float16") as block:
        for first in range(0, rows, ROW_GROUP_ROWS):
            place = np.arange(first, min(first + ROW_GROUP_ROWS, rows), dtype=np.int32)
            zero = np.zeros(len(place), np.int32)
            tokens = Tokens(place // DOCUMENT_TOKENS, place % DOCUMENT_TOKENS, zero, zero.astype(np.int16))
            block.add(tokens, {str(POINT): draw(rng, len(place))})
    learnt["statistics"] = block.statistics()


def noise(width: int) -> Draw:
    """Nothing to learn."""
    return lambda rng, rows: rng.normal(0, 3, (rows, width)).astype(np.float32)


def sparse_sums(width: int, active: int = 16) -> Draw:
    """`active` of 4 * width random directions, and a little noise: something to learn."""
    features = np.random.default_rng(1).standard_normal((4 * width, width)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)

    def draw(rng: np.random.Generator, rows: int) -> np.ndarray:
        x = 0.01 * rng.standard_normal((rows, width)).astype(np.float32)
        for column in rng.integers(0, len(features), (active, rows)):
            x += features[column] * rng.uniform(1, 1.2, (rows, 1)).astype(np.float32)
        return x

    return draw
