"""The append-only, hash-chained record of every run: a line that was changed or removed breaks the chain."""

import fcntl
import hashlib
import json
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from raysae.errors import Refused
from raysae.types import LedgerEvent, RunRecord
from raysae.types.experiment import canonical_json

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
        with self.path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # two experiments may end in the same folder at the same moment
            previous = next(iter(deque((digest for digest, _ in self._verified()), maxlen=1)), GENESIS)
            plain = entry.model_dump(mode="json")
            digest = _digest(previous, plain)
            line = canonical_json({"previous": previous, "record": plain, "sha256": digest}) + "\n"
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        return digest

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

    def _verified(self) -> Iterator[tuple[str, Entry]]:
        if not self.path.is_file():
            return
        previous = GENESIS
        for number, line in enumerate(self.path.read_text(encoding="utf-8").split("\n")[:-1], 1):
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


def _digest(previous: str, record: object) -> str:
    return hashlib.sha256((previous + canonical_json(record)).encode()).hexdigest()
