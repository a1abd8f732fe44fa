"""Files that are wholly there or not at all, also after a kill, a power cut or on a full disk.

What is written stands beside its place under a temporary name, is flushed to the disk and then moved. The writer holds
a lock on it, which ends with its process: what a killed writer left is known by that, and the next one removes it.
"""

import errno
import fcntl
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from raysae.errors import NoRoom


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """An empty file to be written and moved to `path`; gone in the end, moved or not. NoRoom where the disk is full."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary, held = _create(path)
        with held:
            try:
                yield temporary
            finally:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoRoom(path) from error
        raise


def _create(path: Path) -> tuple[Path, BinaryIO]:
    while True:
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
        held = temporary.open("xb")
        with suppress(OSError):  # a file system without locks, where nothing is swept either
            fcntl.flock(held, fcntl.LOCK_EX)
        if os.fstat(held.fileno()).st_nlink:
            return temporary, held
        held.close()  # swept between its creation and its lock


def sweep(folder: Path) -> None:
    """Remove the temporary files of `folder` whose writers were killed."""
    for path in folder.glob(".*.tmp"):
        with suppress(OSError), path.open("rb") as left:
            fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def move(temporary: Path, path: Path) -> None:
    """Into its place, both the bytes and the name on the disk; what was there before is replaced."""
    sync(temporary)
    os.replace(temporary, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """A file or a folder reaches the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, data: bytes) -> None:
    """The file is wholly there or not at all."""
    with beside(path) as temporary:
        temporary.write_bytes(data)
        move(temporary, path)


def write_json(path: Path, value: Any) -> None:
    """`write_atomic` of indented JSON; a NaN is an error, never a file no parser reads."""
    write_atomic(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
