"""Will what capture writes fit onto the disk? Asked before a model is loaded."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from raysae.errors import BadInput
from raysae.store.schema import NUMBER_BYTES, ROW_GROUP_ROWS

TOKEN_BYTES = 16
"""Record, position, token id and step of a token, at four bytes each."""
STATISTIC_BYTES = 64
"""Of each component: its mean as text in the receipt, and again in the manifest."""
PART_BYTES = 1024
"""Of each column of each row group: headers and footer."""


def block_bytes(tokens: int, widths: Mapping[str, int], dtype: str) -> int:
    """What the activations of a token block take at most: numbers that cannot be compressed, and their description."""
    components = sum(widths.values())
    numbers = tokens * (components * NUMBER_BYTES[dtype] + TOKEN_BYTES)
    parts = (-(-tokens // ROW_GROUP_ROWS) + 1) * (len(widths) + 4)  # and the receipt counts as one row group
    return numbers + parts * PART_BYTES + components * STATISTIC_BYTES


def check_room(out: Path, blocks: Sequence[int], widths: Mapping[str, int], dtype: str) -> str:
    """Of the tokens of each block still to be written, once per arm: the estimate with its arithmetic, as one line.

    Raises BadInput where it is more than is free on the disk of `out`. A quota is not seen.
    """
    there = next(folder for folder in (out, *out.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    most = sum(block_bytes(tokens, widths, dtype) for tokens in blocks)
    tokens = sum(blocks)
    sum_of_widths = sum(widths.values())
    said = f"{tokens:,} tokens x {sum_of_widths:,} numbers x {NUMBER_BYTES[dtype]} bytes = {_size(most)} at most"
    if most > free:
        raise BadInput(
            f"capture would write {said} to {out}",
            f"{_size(free)} are free there",
            "make room, type out= on a larger disk, or ask for less with corpus.records= or capture.hookpoints=",
        )
    return f"to write: {said}; {_size(free)} free"


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
