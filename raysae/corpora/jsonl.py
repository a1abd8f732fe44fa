"""JSON Lines from files people really have: byte order marks, blank lines, broken rows, web pages saved as data."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raysae.corpora.base import Malformed
from raysae.errors import BadInput

KEPT_CHARACTERS = 2000
"""How much of a malformed row goes to quarantine."""

_BOM = b"\xef\xbb\xbf"

# First bytes of things that are saved under a .jsonl name by mistake, and what to do about each.
_NOT_JSONL: tuple[tuple[bytes, str, str], ...] = (
    (b"\xff\xfe", "UTF-16 text", "save the file as UTF-8"),
    (b"\xfe\xff", "UTF-16 text", "save the file as UTF-8"),
    (b"version https://git-lfs", "a Git LFS pointer, not the data", "type git lfs pull in the repository it came from"),
    (b"<", "an HTML or XML page, not the data", "download the raw file"),
    (b"\x1f\x8b", "a gzip archive", "unpack it with gunzip"),
    (b"PK\x03\x04", "a zip archive", "unpack it with unzip"),
    (b"PAR1", "a Parquet file", "convert it to JSON Lines"),
    (b"[", "one JSON array", "write one object per line, for example with jq -c '.[]'"),
)


def rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | Malformed]]:
    """Yield (line number from 1, row) of a JSON Lines file; a line that is not a JSON object comes as Malformed.

    Lines end at the byte \\n only: U+2028, U+0085, \\v and \\f are text. Blank lines are not rows. BadInput when the
    file cannot be read or is of another kind altogether.
    """
    check_kind(path)
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                raw = raw.removeprefix(_BOM) if number == 1 else raw
                if raw.strip():
                    yield number, _parse(path, number, raw.rstrip(b"\r\n"))
    except OSError as error:
        raise _unreadable(path, error) from error


def check_kind(path: Path) -> None:
    """BadInput when the file is missing, unreadable, or begins like something that is not JSON Lines in UTF-8."""
    if not path.is_file():
        raise BadInput(
            f"corpus.path={path}: no such file", "allowed: a .jsonl file or a folder of them", "correct corpus.path"
        )
    try:
        with path.open("rb") as file:
            head = file.read(256)
    except OSError as error:
        raise _unreadable(path, error) from error
    start = head.removeprefix(_BOM).lstrip()
    for magic, kind, cure in _NOT_JSONL:
        if start.startswith(magic):
            raise BadInput(f"{path} holds {kind}", "allowed: JSON Lines in UTF-8, one object per line", cure)


def _unreadable(path: Path, error: OSError) -> BadInput:
    return BadInput(f"{path} cannot be read ({error.strerror})", "allowed: a readable file", "check its permissions")


def _parse(path: Path, number: int, raw: bytes) -> dict[str, Any] | Malformed:
    def malformed(reason: str) -> Malformed:
        return Malformed(str(path), number, reason, raw.decode("utf-8", errors="replace")[:KEPT_CHARACTERS])

    try:
        row = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        return malformed(f"not UTF-8: byte {error.start} of the line")
    except (ValueError, RecursionError) as error:
        return malformed(f"not JSON: {error}")
    if not isinstance(row, dict):
        return malformed(f"a JSON {type(row).__name__}, not an object")
    return row
