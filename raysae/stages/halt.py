"""SIGTERM -> every worker saves and stops after the same step, and the command ends with status 143.

The driver gets the signal; what the workers share with it is a folder. So the driver leaves a file there, rank 0
answers with the step after which all stop, and because a step ends with a sum over the group, every rank has seen the
answer when that step is done. No message is sent while nothing is asked.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from raysae.errors import NoRoom, Stopped
from raysae.store import write_atomic


@contextmanager
def halting(folder: Path) -> Iterator[None]:
    """While inside, SIGTERM asks the workers of `folder` to stop; on the way out it is raised as Stopped."""
    asked = folder.absolute() / "halt"
    folder.mkdir(parents=True, exist_ok=True)
    asked.unlink(missing_ok=True)
    if threading.current_thread() is not threading.main_thread():  # signals belong to the main thread
        yield
        return

    def ask(signum: int, frame: Any) -> None:
        asked.touch()

    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield
        if asked.exists():
            raise Stopped(
                "SIGTERM: what was in training is saved to its last step; the same command goes on from there"
            )
    finally:
        signal.signal(signal.SIGTERM, before)
        asked.unlink(missing_ok=True)


class Halt:
    """One rank's view of it; `now` is asked once after every step, on every rank."""

    def __init__(self, folder: Path, rank: int = 0, world: int = 1) -> None:
        self.asked, self.answer = folder / "halt", folder / "halt-after"
        self.rank, self.world = rank, world
        self.rounds = 0
        self.last: int | None = None
        if rank == 0:
            self.answer.unlink(missing_ok=True)

    @property
    def stopped(self) -> bool:
        return self.last is not None and self.rounds >= self.last

    def now(self) -> bool:
        """Whether this was the last step."""
        self.rounds += 1
        if self.last is None:
            if self.world == 1:
                self.last = self.rounds if self.asked.exists() else None
            elif self.rank == 0 and self.asked.exists():
                last = self.rounds + 1
                with suppress(NoRoom):  # asked again after the next step; the others are waiting in its sum
                    write_atomic(self.answer, str(last).encode())
                    self.last = last
            elif self.rank and self.answer.exists():
                self.last = int(self.answer.read_text())
        return self.stopped
