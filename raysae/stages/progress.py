"""What a person sees while a run goes on: one live line per stage on a terminal, plain lines in a job's log."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


class StageProgress:
    """Handed to a stage: `total`, `advance`, `say`."""

    def __init__(self, name: str, console: Console, bar: Progress | None, task: TaskID | None) -> None:
        self._name = name
        self._console = console
        self._bar = bar
        self._task = task
        self._total = 0.0
        self.done = 0.0
        self._spoken = time.monotonic()

    def total(self, total: float, text: str = "") -> None:
        """How much there is to do; `text` stands beside the bar."""
        self._total = total
        self._show(text)

    def advance(self, amount: float = 1, text: str = "") -> None:
        self.done += amount
        self._show(text)

    def at(self, done: float, text: str = "") -> None:
        """Set the absolute position."""
        self.done = done
        self._show(text)

    @contextmanager
    def following(self, look: Callable[[], tuple[float, str] | None]) -> Iterator[None]:
        """While the driver is blocked, ask `look` twice a second how far its workers are."""
        stop = threading.Event()

        def follow() -> None:
            while not stop.wait(0.5):
                if (seen := look()) is not None:
                    self.at(*seen)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(f"  [dim]{text}[/dim]", highlight=False)

    def _show(self, text: str) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=self._total or None, completed=self.done, text=text)
        elif time.monotonic() - self._spoken > 10:  # a log: a line every ten seconds at most
            self._spoken = time.monotonic()
            share = f"{self.done / self._total:4.0%} " if self._total else ""
            self._console.print(f"  {self._name}: {share}{text}", highlight=False)


class Reporter:
    """Prints the story of a run."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(soft_wrap=True)

    @contextmanager
    def stage(self, name: str) -> Iterator[StageProgress]:
        """Times a stage and leaves one line behind: `capture   12.3 s`."""
        started = time.monotonic()
        if self.console.is_terminal:
            columns = (
                SpinnerColumn(),
                TextColumn("{task.description:<9}"),
                BarColumn(24),
                TimeElapsedColumn(),
                TextColumn("{task.fields[text]}"),
            )
            with Progress(*columns, console=self.console, transient=True) as bar:
                yield StageProgress(name, self.console, bar, bar.add_task(name, total=None, text=""))
        else:
            self.console.print(f"{name} ...", highlight=False)
            yield StageProgress(name, self.console, None, None)
        self.console.print(f"[green]done[/green] {name:<9} {time.monotonic() - started:6.1f} s", highlight=False)

    def found(self, name: str) -> None:
        self.console.print(f"[dim]have {name:<9} finished before[/dim]", highlight=False)

    def line(self, text: str = "") -> None:
        self.console.print(text, highlight=False)
