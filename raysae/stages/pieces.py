"""What is captured of each token block: all of it, or what streaming leaves on disk."""

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from raysae.stages.measure import first_documents
from raysae.store import BlockInfo, TokenStore
from raysae.types import Experiment, Split

STATISTICS_TOKENS = 1 << 20
"""TRAIN tokens, at most, behind mean and scale where activations are streamed: spread over its blocks."""
WATCHED_ROWS = 4096
"""FIT tokens that the training curves are drawn for."""


@dataclass(frozen=True)
class Piece:
    """The first documents of a token block."""

    block: BlockInfo
    documents: int
    tokens: int
    """Of those documents."""
    kept: bool
    """Whether their activations are written, or only the statistics of them."""

    def item(self) -> dict[str, Any]:
        return {"block": self.block.model_dump(mode="json"), "documents": self.documents, "kept": self.kept}


def pieces(experiment: Experiment, tokens: TokenStore) -> list[Piece]:
    """In the order of the token blocks."""
    if experiment.activations.mode == "cache":
        return [Piece(block, block.rows, block.facts["tokens"], kept=True) for block in tokens.blocks()]
    train = tokens.blocks(Split.TRAIN)
    found = [_first(tokens, block, STATISTICS_TOKENS // max(len(train), 1)) for block in train]
    for split in (Split.FIT, Split.TEST):
        most = max(experiment.protocol.test_tokens, WATCHED_ROWS)
        found += [Piece(*first, kept=True) for first in first_documents(tokens, split, most)]
    place = {block.name: number for number, block in enumerate(tokens.blocks())}
    return sorted(found, key=lambda piece: place[piece.block.name])


def _first(tokens: TokenStore, block: BlockInfo, most: int) -> Piece:
    """The first documents within `most` tokens, one at least."""
    if block.facts["tokens"] <= most:
        return Piece(block, block.rows, block.facts["tokens"], kept=False)
    lengths = list(accumulate(len(ids) for _, ids, _ in tokens.documents(block)))
    documents = max(sum(length <= most for length in lengths), 1)
    return Piece(block, documents, lengths[documents - 1], kept=False)
