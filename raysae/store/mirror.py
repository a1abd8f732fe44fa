"""A run folder on an object store: worked on in a copy on this machine's disk, which the store follows.

What a stage writes is whole once it is there, and replaced whole or not at all. So following it is copying what is
new, in the order in which it was written: at any moment the store holds what a machine could have left that was killed
then, and any other goes on from there. One machine at a time; a note beside the run folder on the store says which.
"""

import json
import math
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path, PurePath
from typing import NamedTuple

from raysae.errors import RaysaeError, Refused
from raysae.store.atomic import write_json
from raysae.store.ledger import LEDGER, Ledger
from raysae.store.manifest import MANIFEST
from raysae.store.remote import Remote, Seen, at_first, later, reason
from raysae.types.place import url_of

PERIOD = 15.0
"""Seconds between two looks at what is new."""
SILENCE = 6 * PERIOD
"""Seconds after which a machine that said nothing is taken for dead."""
KEPT = {".json", ".jsonl", ".parquet", ".safetensors", ".html"}
"""What stages leave; everything else is of a moment, or made again."""
PASSING = {"ray_train", "ray_tune", "used"}
"""Folders of a moment."""
FINISHED = {"report.html", "verdict.json", "record.json"}
"""What only a finished run has: its activations are not fetched to say so."""


class Mine(NamedTuple):
    """A file of the working copy."""

    bytes: int
    changed: int
    """Nanoseconds since 1970."""


class Note(NamedTuple):
    """Who wrote on the store last."""

    machine: str
    copy: str
    """Of its working copies: what the store holds came from this one."""
    writes: bool
    """Still at it, if it was heard of lately."""


@cache
def machine() -> str:
    """Its name, and what tells two of one name apart."""
    return f"{platform.node()}-{uuid.getnode():x}"


class Mirror:
    """The run folder `root`, a working copy, and its place on the store. OSError where the store does not answer."""

    def __init__(self, root: Path) -> None:
        self.root, self.remote, self.around = root, Remote(root), Remote(root.parent)
        self.writer = f".{root.name}.writer.json"
        self.memory = root.with_name(f".{root.name}.mirror.json")
        self._busy = threading.Lock()
        self._copy = uuid.uuid4().hex
        self._sent: dict[str, Mine] = {}
        """Here, of what the store has."""
        self._seen: dict[str, Seen] = {}
        """There, when it was last looked at."""
        self._recall()

    def hold(self) -> None:
        """Pull, and write here from now on. Refused while another machine does."""
        last, seen = self._last(), self.around.look(self.writer)
        if last and seen and last.writes and last.machine != machine():
            silent = max(time.time() - seen.changed, 0)
            if silent < SILENCE:
                raise Refused(
                    f"{self.remote.url} is being written by {last.machine}, last heard of {silent:.0f} s ago; "
                    f"allowed: one machine at a time; stop it, or wait {SILENCE:.0f} s if it is gone"
                )
        self.pull()
        self.say(writes=True)

    def say(self, writes: bool) -> None:
        """That this machine writes here, or no more."""
        self.around.write(self.writer, json.dumps(Note(machine(), self._copy, writes)._asdict()).encode())

    def pull(self, activations: bool | None = None) -> None:
        """Make the copy what the store holds; without the activations if not asked for, null: if the run is finished.

        Where the store came from this very copy, only what was never fetched is missing, and what was not sent yet, by
        a run that was killed or is still at it, stays.
        """
        with self._busy:
            last, there = self._last(), self.remote.listing()
            if last is None or last.copy == self._copy:
                changed = there.keys() - self._sent.keys() - self._local().keys()
            else:
                changed = {name for name, seen in there.items() if self._seen.get(name) != seen}
                for name in self._local().keys() - there.keys():
                    (self.root / name).unlink()
            wanted = not there.keys() >= FINISHED if activations is None else activations
            if not wanted:
                changed = {name for name in changed if PurePath(name).parts[0] != "activations"}
            with ThreadPoolExecutor(8) as threads:
                list(threads.map(lambda name: self.remote.fetch(name, there[name]), changed))
            here = self._local()
            known = {name: here[name] for name in changed if name in here}
            self._sent = {name: facts for name, facts in self._sent.items() if name in there} | known
            self._seen = {name: there[name] for name in self._sent}
            self._remember()
            _merge_ledger(self.around)

    def push(self, settled: bool = False) -> None:
        """Send what is new, oldest first, and remove what is gone; `settled` leaves out what is newer than this call,
        and so all that might name a file which the walk over the folder came too early for."""
        with self._busy:
            last = self._last()
            if last is not None and last.copy != self._copy:
                raise Refused(
                    f"{self.remote.url} was taken over by {last.machine}; nothing of this machine is sent any more; "
                    f"what it made is in {self.root}"
                )
            horizon = self._now() if settled else math.inf
            here = self._local()
            new = sorted(
                (mine.changed, name)
                for name, mine in here.items()
                if self._sent.get(name) != mine and mine.changed < horizon
            )
            gone = [name for name in self._sent if not (self.root / name).exists()]
            for _, name in new:
                with suppress(FileNotFoundError):  # passed meanwhile
                    self.remote.send(name)
                    self._sent[name] = here[name]
            for name in sorted(gone, key=lambda name: PurePath(name).name != MANIFEST):
                self.remote.remove(name)
                del self._sent[name]
            if new or gone:
                there = self.remote.listing()
                self._seen = {name: there[name] for name in self._sent if name in there}
                self._remember()
            _merge_ledger(self.around)

    def _local(self) -> dict[str, Mine]:
        found = {}
        for folder, folders, files in os.walk(self.root):
            folders[:] = [name for name in folders if name not in PASSING]
            for path in (Path(folder, name) for name in files if name[0] != "."):
                with suppress(FileNotFoundError):
                    if path.suffix in KEPT:
                        facts = path.stat()
                        found[path.relative_to(self.root).as_posix()] = Mine(facts.st_size, facts.st_mtime_ns)
        return found

    def _now(self) -> int:
        """By the clock of the disk, which may be another machine's."""
        probe = self.root.with_name(f".{self.root.name}.now")
        probe.touch()
        return probe.stat().st_mtime_ns

    def _last(self) -> Note | None:
        told = self.around.read(self.writer)
        return Note(**json.loads(told)) if told else None

    def _recall(self) -> None:
        """What an earlier process of this machine knew of this copy."""
        if self.memory.is_file():
            told = json.loads(self.memory.read_text())
            self._copy = told["copy"]
            self._sent = {name: Mine(*facts) for name, (facts, _) in told["files"].items()}
            self._seen = {name: Seen(*facts) for name, (_, facts) in told["files"].items()}

    def _remember(self) -> None:
        files = {name: (self._sent[name], seen) for name, seen in self._seen.items()}
        write_json(self.memory, {"copy": self._copy, "files": files})


@contextmanager
def followed(root: Path, say: Callable[[str], None]) -> Iterator[None]:
    """While inside, the store follows the run folder `root` if it is a working copy; on the way out it holds all of it.

    BadInput for a store that this machine cannot use, Refused while another machine writes there, Unreachable in the
    end where the store does not answer any more: the copy is whole, and the same command goes on from it.
    """
    if (url := url_of(root)) is None:
        yield
        return
    with at_first(url):
        mirror = Mirror(root)
        mirror.hold()
    say(f"{url}, worked on in {root}")
    done = threading.Event()
    thread = threading.Thread(target=_follow, args=(mirror, done, say), daemon=True)
    thread.start()

    def close() -> None:
        done.set()
        thread.join()
        with later(url, root):
            mirror.push()
            mirror.say(writes=False)

    try:
        yield
    except BaseException:
        with suppress(RaysaeError):  # that one is not told instead of this
            close()
        raise
    close()


def fetch(path: Path, activations: bool = True) -> None:
    """Bring a working copy up to date, to be read: the files of a run folder, and the ledger beside it."""
    if (url := url_of(path)) is not None:
        with at_first(url):
            Mirror(path).pull(activations)


def fetch_ledger(out: Path) -> None:
    """The same of the ledger alone."""
    if (url := url_of(out)) is not None:
        with at_first(url):
            _merge_ledger(Remote(out))


def _merge_ledger(there: Remote) -> None:
    """Lines of either side that the other lacks: another experiment may have ended under the same address."""
    theirs = there.read(LEDGER)
    if (both := Ledger(there.here / LEDGER).merge(theirs)) != theirs:
        there.write(LEDGER, both)


def _follow(mirror: Mirror, done: threading.Event, say: Callable[[str], None]) -> None:
    silent = False
    while not done.wait(PERIOD):
        try:
            mirror.push(settled=True)
            mirror.say(writes=True)
            silent = False
        except (OSError, RaysaeError) as error:
            if not silent:
                say(f"{mirror.remote.url} was not written and is tried again: {reason(error)}")
            silent = True
