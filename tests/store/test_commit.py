"""The commit protocol under every interleaving and kill that hypothesis thinks of.

A worker is a thread that stops before each call that changes the disk. The test lets it go on or kills it there: a
killed one runs nothing more, not even its clean-up, and its locks end, as with SIGKILL.
"""

import fcntl
import itertools
import os
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from raysae.store import BlockInfo, Manifest, finished_blocks, sha256_file, write_block

NAMES = ("train-0", "train-1", "fit-0", "test-0")
MARK, OTHER = "fingerprint", "another one"
CALLS = ("replace", "link", "unlink")


def content(name: str, mark: str = MARK) -> bytes:
    """Two records of three tokens; another configuration gives other bytes, as many."""
    rows = [f"{name}/{record} {position}\n" for record in range(2) for position in range(3)]
    return "".join(rows if mark == MARK else reversed(rows)).encode()


ROWS = sorted(row for name in NAMES for row in content(name).decode().splitlines())


class Killed(BaseException):
    pass


class Process(threading.Thread):
    """Does `work` one call at a time."""

    def __init__(self, work: Callable[[], Any], name: str = "") -> None:
        super().__init__(name=name, daemon=True)
        self.work, self.before, self.result = work, "start", None
        self.dead = self.done = False
        self.error: BaseException | None = None
        self._go, self._at = threading.Semaphore(0), threading.Semaphore(0)
        self.start()
        self._at.acquire()

    def run(self) -> None:
        try:
            self.stop("start")
            self.result = self.work()
        except Killed:
            pass
        except BaseException as error:  # raised in the test, by `go_on`
            self.error = error
        self.done = True
        self._at.release()

    def stop(self, before: str) -> None:
        if not self.dead:
            self.before = before
            self._at.release()
            self._go.acquire()
        if self.dead:
            raise Killed

    def go_on(self, calls: int = 1) -> None:
        for _ in range(calls):
            if self.done:
                break
            self._go.release()
            self._at.acquire()
        if self.error is not None:
            raise self.error

    def kill(self) -> None:
        if not self.done:
            self.dead = True
            self.go_on()
            self.join()


def stopping(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        process = threading.current_thread()
        if isinstance(process, Process):
            process.stop(name)
        return real(*args, **kwargs)

    return call


def locking(real: Callable[..., Any]) -> Callable[..., Any]:
    """Waiting for a lock is stopping again and again."""

    def call(file: Any, how: int) -> None:
        while True:
            try:
                return real(file, how | fcntl.LOCK_NB)
            except BlockingIOError:
                if how & fcntl.LOCK_NB:
                    raise

    real = stopping("flock", real)
    return call


def patch_calls(patch: pytest.MonkeyPatch) -> None:
    for name in CALLS:
        patch.setattr(os, name, stopping(name, getattr(os, name)))
    patch.setattr(os, "fsync", stopping("fsync", lambda _: None))  # no power is cut here
    patch.setattr(fcntl, "flock", locking(fcntl.flock))


@pytest.fixture
def stopped_calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch_calls(patch)
        yield


def write(folder: Path, name: str, mark: str = MARK) -> BlockInfo:
    def halves(path: Path) -> None:
        data = content(name, mark)
        with path.open("wb") as file:
            file.write(data[:20])
            file.flush()
            stopping("write", file.write)(data[20:])

    return write_block(folder, name, ".txt", mark, 6, halves)


def finished(folder: Path) -> dict[str, BlockInfo]:
    return finished_blocks(folder, NAMES, MARK)


def finish(folder: Path, infos: dict[str, BlockInfo]) -> None:
    Manifest(kind="activations", fingerprint=MARK, blocks=tuple(infos[name] for name in NAMES)).write(folder)


def check_finished(folder: Path) -> None:
    """The manifest's files are whole, hold every row once, and nothing else lies there."""
    manifest = Manifest.read(folder)
    assert manifest.problems(folder) == []
    rows = [row for block in manifest.blocks for row in (folder / block.file).read_text().splitlines()]
    assert sorted(rows) == ROWS


def check_tidy(folder: Path) -> None:
    expected = {f"{name}{suffix}" for name in NAMES for suffix in (".txt", ".json")} | {"manifest.json"}
    assert {path.name for path in folder.iterdir()} == expected


def leave(folder: Path, name: str, kind: str) -> None:
    """What may lie there from before."""
    path = folder / f"{name}.txt"
    if kind == "another configuration":
        write(folder, name, OTHER)
    elif kind == "cut short":
        write(folder, name)
        path.write_bytes(content(name)[:-1])
    elif kind == "no receipt":
        path.write_bytes(content(name, OTHER))
    elif kind == "only a receipt":
        write(folder, name)
        path.unlink()
    elif kind == "foreign receipt":
        (folder / f"{name}.json").write_text('{"hello": 1}')
    elif kind == "temporary":
        (folder / f".{name}.txt.0000.tmp").write_bytes(content(name)[:10])


LEFT = ("another configuration", "cut short", "no receipt", "only a receipt", "foreign receipt", "temporary")


class Commit(RuleBasedStateMachine):
    """Two drivers, each with any number of workers, on one folder."""

    def __init__(self) -> None:
        super().__init__()
        self.place = tempfile.TemporaryDirectory()
        self.folder = Path(self.place.name)
        self.patch = pytest.MonkeyPatch()
        patch_calls(self.patch)
        names = itertools.count()  # the same for the same rules, so that hypothesis can repeat what it found
        self.patch.setattr(uuid, "uuid4", lambda: SimpleNamespace(hex=f"{next(names):08x}"))
        self.known: list[dict[str, BlockInfo]] = [{}, {}]
        self.running: list[list[Process]] = [[], []]
        self.orphans: list[Process] = []
        self.committed: set[str] = set()

    @initialize(left=st.dictionaries(st.sampled_from(NAMES), st.sampled_from(LEFT)))
    def something_lies_there(self, left: dict[str, str]) -> None:
        for name, kind in left.items():
            leave(self.folder, name, kind)

    @rule(driver=st.sampled_from((0, 1)), orphaned=st.booleans())
    def a_driver_is_killed_and_started_again(self, driver: int, orphaned: bool) -> None:
        """Its workers end with it, or go on for a while and report to nobody."""
        workers, self.running[driver] = self.running[driver], []
        if orphaned:
            self.orphans += workers
        else:
            for worker in workers:
                worker.kill()
        self.known[driver] = finished(self.folder)
        assert self.committed <= self.known[driver].keys(), "finished work would be done again"

    @rule(driver=st.sampled_from((0, 1)))
    def a_worker_begins_a_block(self, driver: int) -> None:
        taken = {*self.known[driver], *(worker.name for worker in self.running[driver])}
        name = next((name for name in NAMES if name not in taken), None)
        if name is not None:
            self.running[driver].append(Process(partial(write, self.folder, name), name))

    @rule(driver=st.sampled_from((0, 1)))
    def a_driver_finishes(self, driver: int) -> None:
        known = self.known[driver]
        if len(known) == len(NAMES) and not self.running[driver]:
            self.running[driver].append(Process(lambda: finish(self.folder, known), "finish"))

    @rule(calls=st.lists(st.integers(0, 6), min_size=1, max_size=8))
    def they_go_on(self, calls: list[int]) -> None:
        """Each by its own number of calls."""
        for process, count in zip(self._all(), itertools.cycle(calls), strict=False):
            process.go_on(count)
            if process.done and process.name in NAMES:
                self.committed.add(process.name)
                for known, running in zip(self.known, self.running, strict=True):
                    if process in running:
                        known[process.name] = process.result
        self._forget_ended()

    @rule(which=st.integers(0, 7))
    def one_is_killed(self, which: int) -> None:
        for process in self._all()[which : which + 1]:
            process.kill()
        self._forget_ended()

    @invariant()
    def what_is_finished_is_whole(self) -> None:
        found = finished(self.folder)
        assert self.committed <= found.keys()
        for name, info in found.items():
            assert (self.folder / info.file).read_bytes() == content(name)
            assert sha256_file(self.folder / info.file) == info.sha256

    @invariant()
    def a_manifest_is_complete(self) -> None:
        if Manifest.exists(self.folder):
            check_finished(self.folder)

    def teardown(self) -> None:
        """Whatever happened: the same command once more ends it, and two may say so."""
        try:
            for process in self._all():
                process.kill()
            known = finished(self.folder)
            finish(self.folder, {name: known.get(name) or write(self.folder, name) for name in NAMES})
            finish(self.folder, finished(self.folder))
            check_finished(self.folder)
            check_tidy(self.folder)
        finally:
            self.patch.undo()
            self.place.cleanup()

    def _all(self) -> list[Process]:
        return [process for group in (*self.running, self.orphans) for process in group]

    def _forget_ended(self) -> None:
        for group in (*self.running, self.orphans):
            group[:] = [process for process in group if not process.done]


Commit.TestCase.settings = settings(
    max_examples=40, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
TestCommit = Commit.TestCase


@pytest.mark.usefixtures("stopped_calls")
def test_a_worker_killed_before_any_of_its_calls_leaves_what_the_same_command_finishes(tmp_path: Path) -> None:
    """Every moment in turn: before the write, in its middle, before the rename, before the receipt, after it."""
    seen: list[str] = []
    while not seen or seen[-1] != "end":
        folder = tmp_path / str(len(seen))
        folder.mkdir()
        worker = Process(lambda folder=folder: write(folder, NAMES[0]))
        worker.go_on(len(seen))
        seen.append("end" if worker.done else worker.before)
        worker.kill()
        receipt_in_place = seen[:-1].count("replace") == 2
        assert (NAMES[0] in finished(folder)) == receipt_in_place
        finish(folder, {name: finished(folder).get(name) or write(folder, name) for name in NAMES})
        check_finished(folder)
        check_tidy(folder)
    block = ["flock", "write", "fsync", "replace", "fsync", "unlink"]
    receipt = [call for call in block if call != "write"]
    assert seen == ["start", *block, *receipt, "end"]
