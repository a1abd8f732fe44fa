"""How the stages reach Ray: connect once, map work over a pool of actors, report what arrives.

`RAYSAE_LOCAL=1` runs every stage in this process, one item after the other, so that a debugger can step through it; the
artifacts are the same.
"""

import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from raysae.errors import BadInput, RaysaeError, Refused
from raysae.stages.gauges import show_queue
from raysae.stages.usage import Process, Used, hear

LOGICAL_CPUS = 4
"""Declared at least: actors, tasks and writers are scheduled together even where there are fewer cores."""

WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "PYTHONWARNINGS": "ignore::FutureWarning",
}
"""One thread per worker: parallelism comes from the pool, and results do not depend on the number of cores."""


class Worker(Protocol):
    """Made once per actor; called once per item, twice if a worker was lost: its output has a fixed name."""

    def __call__(self, item: Any) -> Any: ...


def local_mode() -> bool:
    return os.environ.get("RAYSAE_LOCAL", "") not in ("", "0")


def connect() -> None:
    """Attach to the cluster of RAY_ADDRESS (set inside a Ray job), else start one here. Twice does nothing."""
    if local_mode():
        return
    # Set before Ray is imported: they are read at import time.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "ERROR")
    # The core's remarks on stderr, one per actor pool; what goes wrong still arrives as an exception.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # Tune's table; ours is drawn by rich
    cluster = os.environ.get("RAY_ADDRESS")
    if not cluster:
        # A cluster of our own on the loopback interface lives and dies with this process; a shared one must choose.
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    import ray

    if ray.is_initialized():
        return
    common: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": "ERROR",
        "runtime_env": {"env_vars": {**WORKER_ENVIRONMENT, **_passed_on()}},
    }
    if not cluster:
        cpus = max(LOGICAL_CPUS, os.cpu_count() or 1)
        common |= {"address": "local", "num_cpus": cpus, "include_dashboard": False, "object_store_memory": 2**30}
    with _quiet_start():
        ray.init(**common)
    logging.getLogger("ray").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False


@contextmanager
def _quiet_start() -> Iterator[None]:
    """Ray's core announces its log level on stderr, below Python; it is held back unless the start fails."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _passed_on() -> dict[str, str]:
    """Settings of this shell that the workers need as well."""
    return {name: os.environ[name] for name in ("HF_HUB_OFFLINE", "HF_HOME") if name in os.environ}


def map_blocks(
    worker: type,
    arguments: tuple[Any, ...],
    items: Sequence[dict[str, Any]],
    *,
    actors: int,
    max_actors: int | None = None,
    cpus: float = 1,
    gpus: float = 0,
) -> Iterator[Any]:
    """Results of `worker(*arguments)(item)` as they finish, in any order. Items and results are plain JSON values.

    A RaysaeError raised by a worker is raised here as it was; anything else arrives with Ray's trace of the worker.
    """
    if not items:
        return
    if local_mode():
        instance: Callable[[Any], Any] = worker(*arguments)
        for item in items:
            yield instance(item)
        return
    import ray

    connect()
    results = ray.data.from_items(
        [{"item": json.dumps(item)} for item in items], override_num_blocks=len(items)
    ).map_batches(
        _Guarded,
        fn_constructor_args=(worker, arguments, gpus),
        batch_size=1,
        batch_format="numpy",
        compute=actor_pool(len(items), actors, max_actors),
        num_cpus=cpus,
        num_gpus=gpus or None,
    )
    show_queue(worker.__name__, len(items))
    for answered, row in enumerate(results.iter_rows(), 1):
        answer = json.loads(row["answer"])
        hear(answer["process"], Used(*answer["used"]))
        if "error" in answer:
            raise revive(answer)
        show_queue(worker.__name__, len(items) - answered)
        yield answer["value"]


def actor_pool(items: int, actors: int, max_actors: int | None) -> Any:
    """A fixed pool, or one that grows while it is behind; never more actors than items."""
    import ray

    least = min(actors, items)
    if max_actors is None:
        return ray.data.ActorPoolStrategy(size=least)
    return ray.data.ActorPoolStrategy(min_size=least, max_size=max(min(max_actors, items), least))


class _Guarded:
    """Carries a user's error back as a value: Ray would wrap it, retry it and print the worker's trace. With it goes
    what the actor used so far."""

    def __init__(self, worker: type, arguments: tuple[Any, ...], gpus: float) -> None:
        self.process = Process(gpus)
        self.worker: Callable[[Any], Any] | None = None
        self.problem: RaysaeError | None = None
        try:
            self.worker = worker(*arguments)
        except RaysaeError as error:
            self.problem = error

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        answers: list[str] = []
        for item in batch["item"]:
            try:
                if self.problem is not None:
                    raise self.problem
                assert self.worker is not None
                answer = {"value": self.worker(json.loads(item))}
            except RaysaeError as error:
                answer = {"error": str(error), "status": error.status}
            answers.append(json.dumps({**answer, "process": self.process.name, "used": self.process.used()}))
        return {"answer": answers}


def revive(answer: dict[str, Any]) -> RaysaeError:
    """A worker's error, {error, status}, as the exception it was."""
    kind = {BadInput.status: BadInput, Refused.status: Refused}.get(answer["status"], RaysaeError)
    error = kind.__new__(kind)  # the message is already one line
    RaysaeError.__init__(error, answer["error"])
    return error


def disconnect() -> None:
    if not local_mode():
        import ray

        if ray.is_initialized():
            ray.shutdown()
