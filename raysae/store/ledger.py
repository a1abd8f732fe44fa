"""The append-only, hash-chained record of every run: a line that was changed or removed breaks the chain."""

import fcntl
import hashlib
import json
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO

from raysae.errors import Refused
from raysae.store.atomic import write_atomic
from raysae.types import LedgerEvent, RunRecord
from raysae.types.experiment import canonical_json

LEDGER = "ledger.jsonl"
GENESIS = "0" * 64
"""What the first line names as its predecessor."""

Entry = RunRecord | LedgerEvent


class Ledger:
    """`ledger.jsonl`: each line is {"previous", "record", "sha256"} with sha256 over previous and record."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, entry: Entry) -> str:
        """Add a line and return its hash. Refused if the chain is already broken: nothing is built on it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked() as file:  # two experiments may end in the same folder at the same moment
            previous = next(iter(deque((digest for digest, _ in self._verified()), maxlen=1)), GENESIS)
            digest, line = _line(previous, entry.model_dump(mode="json"))
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        return digest

    def merge(self, theirs: bytes) -> bytes:
        """Go on from another copy of this ledger: its lines, then those that only this one has, chained anew. Returns
        what is in the file then. Refused if either chain is broken."""
        if not theirs and not self.path.is_file():
            return b""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked():
            mine = self.path.read_bytes()
            if not mine.startswith(theirs):
                ours, others = mine.splitlines(keepends=True), theirs.splitlines(keepends=True)
                shared = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(ours, others, strict=False))))
                deque(self._read(mine), maxlen=0)
                previous = deque((digest for digest, _ in self._read(theirs)), maxlen=1).pop()
                for own in ours[shared:]:
                    previous, line = _line(previous, json.loads(own)["record"])
                    theirs += line
                write_atomic(self.path, mine := theirs)
        return mine

    def entries(self) -> list[Entry]:
        """All lines, the chain checked; Refused names the first bad one."""
        return [entry for _, entry in self._verified()]

    def records(self) -> list[RunRecord]:
        """The decisions."""
        return [entry for entry in self.entries() if isinstance(entry, RunRecord)]

    def events(self, kind: str) -> list[LedgerEvent]:
        """What happened beside them, of one kind."""
        return [entry for entry in self.entries() if isinstance(entry, LedgerEvent) and entry.kind == kind]

    def attempts(self, protocol_sha256: str) -> int:
        """How often a sealed protocol has been decided."""
        return sum(record.protocol_sha256 == protocol_sha256 for record in self.records())

    @contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        """The file, nobody else's until the end; made if it is not there."""
        while True:
            with self.path.open("a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(file.fileno()), self.path.stat()):  # else merged while it was waited for
                    yield file
                    return

    def _verified(self) -> Iterator[tuple[str, Entry]]:
        return self._read(self.path.read_bytes() if self.path.is_file() else b"")

    def _read(self, data: bytes) -> Iterator[tuple[str, Entry]]:
        previous = GENESIS
        for number, line in enumerate(data.decode("utf-8").split("\n")[:-1], 1):
            try:
                plain = json.loads(line)
                intact = plain["previous"] == previous and plain["sha256"] == _digest(previous, plain["record"])
                kind = RunRecord if plain["record"].get("kind", "decision") == "decision" else LedgerEvent
                entry = kind.model_validate(plain["record"])
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise Refused(
                    f"{self.path}:{number}: not a ledger line ({type(error).__name__}); restore it from a copy"
                ) from error
            if not intact:
                raise Refused(f"{self.path}:{number}: the hash chain is broken here; restore the file from a copy")
            previous = plain["sha256"]
            yield previous, entry


def _line(previous: str, record: object) -> tuple[str, bytes]:
    """(its hash, the line)."""
    digest = _digest(previous, record)
    return digest, (canonical_json({"previous": previous, "record": record, "sha256": digest}) + "\n").encode()


def _digest(previous: str, record: object) -> str:
    return hashlib.sha256((previous + canonical_json(record)).encode()).hexdigest()
