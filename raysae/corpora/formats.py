"""Rows from files people really have: byte order marks, blank lines, broken rows, web pages saved as data.

JSON Lines, one JSON array or object, CSV and Parquet, each streamed: no file is ever in memory as a whole.
"""

import csv
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from raysae.corpora.malformed import Malformed
from raysae.errors import BadInput

_BOM = b"\xef\xbb\xbf"
_HALF_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_NOT_TEXT = "holds half of a surrogate pair, which is not text"
_PARQUET_ROWS = 64
"""Rows decoded together; some are as long as a book chapter."""

# First bytes of things that are saved under a data file's name by mistake, and what to do about each.
_NOT_DATA: tuple[tuple[bytes, str, str], ...] = (
    (b"\xff\xfe", "UTF-16 text", "save the file as UTF-8"),
    (b"\xfe\xff", "UTF-16 text", "save the file as UTF-8"),
    (b"version https://git-lfs", "a Git LFS pointer, not the data", "type git lfs pull in the repository it came from"),
    (b"<", "an HTML or XML page, not the data", "download the raw file"),
    (b"\x1f\x8b", "a gzip archive", "unpack it with gunzip"),
    (b"PK\x03\x04", "a zip archive", "unpack it with unzip"),
    (b"PAR1", "a Parquet file", "name it .parquet"),
)
_KINDS = {
    ".jsonl": "JSON Lines in UTF-8, one object per line",
    ".json": "one JSON array or object of rows, in UTF-8",
    ".csv": "CSV in UTF-8 with a line of column names",
    ".parquet": "Parquet",
}


def rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | Malformed]]:
    """Yield (number from 1, row) of a file by its suffix; what is no row comes as Malformed.

    BadInput when the file cannot be read, is of another kind altogether, or breaks off.
    """
    check_kind(path)
    reader = {".json": _json_rows, ".csv": _csv_rows, ".parquet": _parquet_rows}.get(path.suffix, _jsonl_rows)
    try:
        yield from reader(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def check_kind(path: Path) -> None:
    """BadInput when the file is missing, unreadable, or begins like something of another kind."""
    if not path.is_file():
        raise BadInput(
            f"corpus.path={path}: no such file", "allowed: a data file or a folder of them", "correct corpus.path"
        )
    try:
        with path.open("rb") as file:
            head = file.read(256)
    except OSError as error:
        raise _unreadable(path, error) from error
    allowed = f"allowed: {_KINDS.get(path.suffix, _KINDS['.jsonl'])}"
    start = head.removeprefix(_BOM).lstrip()
    if path.suffix == ".parquet" and start.startswith(b"PAR1"):
        return
    for magic, kind, cure in _NOT_DATA:
        if start.startswith(magic):
            raise BadInput(f"{path} holds {kind}", allowed, cure)
    if b"\0" in head:
        raise BadInput(f"{path} holds UTF-16 or binary data", allowed, "save the file as UTF-8")
    if path.suffix == ".parquet":
        raise BadInput(f"{path} holds no Parquet", allowed, "download the file again")
    if path.suffix not in (".json", ".csv") and start.startswith(b"["):
        raise BadInput(f"{path} holds one JSON array", allowed, "name it .json")


def _unreadable(path: Path, error: OSError) -> BadInput:
    return BadInput(f"{path} cannot be read ({error.strerror})", "allowed: a readable file", "check its permissions")


def _broken(path: Path, row: int, error: Exception) -> BadInput:
    reason = " ".join(str(error).split())[:200]
    return BadInput(f"{path} breaks off after row {row} ({reason})", "allowed: a whole file", "download it again")


def _jsonl_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | Malformed]]:
    """Lines end at the byte \\n only: U+2028, U+0085, \\v and \\f are text. Blank lines are not rows."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            raw = raw.removeprefix(_BOM) if number == 1 else raw
            if raw.strip():
                yield number, _json_line(path, number, raw.rstrip(b"\r\n"))


def _json_line(path: Path, number: int, raw: bytes) -> dict[str, Any] | Malformed:
    def malformed(reason: str) -> Malformed:
        return Malformed.of(str(path), number, reason, raw.decode("utf-8", errors="replace"))

    try:
        row = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        return malformed(f"not UTF-8: byte {error.start} of the line")
    except (ValueError, RecursionError) as error:
        return malformed(f"not JSON: {error}")
    if not isinstance(row, dict):
        return malformed(f"a JSON {type(row).__name__}, not an object")
    if _HALF_SURROGATE.search(raw) and not _is_text(row):
        return malformed(_NOT_TEXT)
    return row


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | Malformed]]:
    """The items of one array; or the values of one object, each with its key as `record_id`."""
    import ijson

    number = 0
    with path.open("rb") as file:
        head = file.read(256)
        file.seek(len(_BOM) if head.startswith(_BOM) else 0)
        start = head.removeprefix(_BOM).lstrip()
        try:
            if start.startswith(b"{"):
                pairs = ijson.kvitems(file, "", use_float=True)
                found = ({"record_id": key, **row} if isinstance(row, dict) else row for key, row in pairs)
            else:
                found = ijson.items(file, "item", use_float=True)
            for row in found:
                number += 1
                if not isinstance(row, dict):
                    row = Malformed.of(str(path), number, f"a JSON {type(row).__name__}, not an object", str(row))
                elif not _is_text(row):
                    row = Malformed.of(str(path), number, _NOT_TEXT, row)
                yield number, row
        except (ijson.JSONError, UnicodeDecodeError) as error:
            raise _broken(path, number, error) from error


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | Malformed]]:
    csv.field_size_limit(2**31 - 1)
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        number = 0
        while True:
            number += 1
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "unexpected end of data" in str(error):  # in a cell that may have swallowed many rows
                    raise _broken(path, number - 1, error) from error
                yield number, Malformed.of(str(path), number, f"not CSV: {error} in line {reader.line_num}", "")
                continue
            if None in row or None in row.values():
                columns = len(reader.fieldnames or ())
                yield (
                    number,
                    Malformed.of(str(path), number, f"another number of cells than the {columns} columns", row),
                )
            elif not _is_text(row):
                yield number, Malformed.of(str(path), number, "not UTF-8", row)
            else:
                yield number, row


def _parquet_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | Malformed]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk; Arrow's own, of a page that does not decode, has no number
        raise _broken(path, number, error) from error


def _is_text(row: Mapping[str, Any]) -> bool:
    """Whether no string anywhere in the row holds half of a surrogate pair."""
    try:
        json.dumps(row, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        return False
    return True
