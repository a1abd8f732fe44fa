"""A row that cannot become a record."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KEPT_CHARACTERS = 2000
"""How much of a malformed row goes to quarantine."""


@dataclass(frozen=True)
class Malformed:
    """A row that cannot become a record; it goes to quarantine and is counted."""

    file: str
    line: int
    """Counted from 1; in a file without lines, the number of the row."""
    reason: str
    text: str
    """The row as it came, at most 2,000 characters of it."""

    @staticmethod
    def of(file: str, line: int, reason: str, row: Mapping[str, Any] | str) -> "Malformed":
        text = row if isinstance(row, str) else str(dict(row))
        return Malformed(file, line, reason, text[:KEPT_CHARACTERS].encode(errors="replace").decode())
