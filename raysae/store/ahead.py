"""Work done by threads before it is asked for, in the same order."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def ahead(items: Iterator[T], depth: int) -> Iterator[T]:
    """The same items, made by a thread of its own, up to `depth` of them before they are asked for."""
    end = object()
    thread = ThreadPoolExecutor(1, "ahead", _yielding)
    try:
        waiting = deque(thread.submit(next, items, end) for _ in range(depth))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(thread.submit(next, items, end))
            yield item  # type: ignore[misc]
    finally:
        thread.shutdown(cancel_futures=True)


def map_ahead(work: Callable[[S], T], items: Iterable[S], threads: int, depth: int) -> Iterator[T]:
    """`work` of each item, by several threads, up to `depth` of them before they are asked for."""
    pool = ThreadPoolExecutor(threads, "ahead", _yielding)
    waiting: deque[Future[T]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _yielding() -> None:
    """The thread takes its share of the processor, but does not interrupt the one that has just asked it for more: on
    two cores that was most of what a step waited."""
    with suppress(AttributeError, OSError):  # not on every system, and not in every container
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
