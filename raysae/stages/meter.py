"""The real capture path on a bench: the actor's own class, from token block to Parquet on disk, beside forward passes
without hooks. What is measured is left as `metrics/<measure>.evidence.json`.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raysae.falsification.criterion import MEMORY_RUNS, SUSTAINED_S
from raysae.falsification.protocol import source_sha256
from raysae.models.capture import capture, last_of
from raysae.models.load import describe
from raysae.models.plain import decode, reference, run_to, run_whole
from raysae.stages.capture import MAIN, Capturer, Job, fingerprints, make_forward
from raysae.stages.forward import token_batches
from raysae.stages.pieces import Piece
from raysae.stages.provenance import device
from raysae.stages.usage import forget_gpu_peaks, forget_resident_peak, resident_peak
from raysae.stages.written import Written
from raysae.store import RunFolder, TokenStore, write_block
from raysae.types import Experiment

WARMUP_BLOCKS = 2
PROMPTS, PROMPT_TOKENS, DECODED = 2, 32, 16
TICKS = "ticks"
"""File of a bench, a byte longer for every run; by it the driver sees how far it is."""


class Meter:
    """Measures one thing per item: `latency`, `throughput`, `memory-base` or `memory-capture`.

    Where there is no Ray they share a process, and its resident memory says little.
    """

    def __init__(self, experiment: Experiment, mark: str) -> None:
        self.experiment, self.mark, self.measured_by = experiment, mark, source_sha256()
        self.folder = RunFolder(experiment)

    def __call__(self, item: dict[str, str]) -> dict[str, Any]:
        name = item["measure"]
        scratch = self.folder.overhead / name
        shutil.rmtree(scratch, ignore_errors=True)  # of an attempt that was killed
        scratch.mkdir(parents=True)
        with _every_core():
            bench = Bench(self.experiment, self.folder, scratch)
            found = bench.facts() | MEASURES[name](bench) | {"files": bench.written.counts()}
        shutil.rmtree(scratch)
        info = write_block(
            self.folder.metrics,
            name,
            ".evidence.json",
            self.mark,
            1,
            lambda path: path.write_text(json.dumps(found), encoding="utf-8"),
            source_sha256=self.measured_by,
        )
        return {"block": info.model_dump(mode="json")}


class Bench:
    """One actor of the capture stage, the model it holds, and the documents of one run."""

    def __init__(self, experiment: Experiment, folder: RunFolder, scratch: Path) -> None:
        self.experiment, self.scratch, self.config = experiment, scratch, experiment.overhead
        store = TokenStore(folder.tokens)
        (self.block,) = store.blocks()
        self.whole_block = Piece(self.block, self.block.rows, self.block.facts["tokens"], kept=True)
        documents = [(record, ids) for record, ids, _ in store.documents(self.block)]
        chosen = experiment.capture.model_copy(
            update={"batch_tokens": self.config.batch_size * self.config.sequence_length}
        )
        job = Job(
            model=experiment.model,
            twin_seed=0,
            capture=chosen,
            tokens=folder.tokens,
            out=scratch,
            fingerprints=fingerprints(experiment, store.manifest),
        )
        self.actor = Capturer(job)
        self.actor.models[MAIN] = make_forward(job, MAIN)
        self.model, self.device = self.actor.models[MAIN].model, self.actor.models[MAIN].device
        self.points = experiment.capture.hookpoints
        self.batches = [
            torch.from_numpy(np.stack([documents[i][1] for i in batch]).astype(np.int64))
            for batch in token_batches([len(ids) for _, ids in documents], chosen.batch_tokens)
        ]
        self.written = Written(documents, chosen)
        self.files = 0

    def base(self) -> None:
        for ids, seen in self._inputs():
            run_to(self.model, ids, seen, self.points)

    def forward(self) -> None:
        for ids, seen in self._inputs():
            capture(self.model, ids, seen, self.points)

    def whole(self) -> None:
        for ids, seen in self._inputs():
            run_whole(self.model, ids, seen)

    def capture(self) -> None:
        """One file more in the scratch folder."""
        self.files += 1
        self.actor.job = replace(self.actor.job, out=self.scratch / str(self.files))
        self.actor({"arm": MAIN, **self.whole_block.item()})

    def timed(self, run: Callable[[], None]) -> float:
        """Seconds of a run, with nothing left to do on the device at either end."""
        self._wait()
        start = time.perf_counter()
        run()
        self._wait()
        taken = time.perf_counter() - start
        with (self.scratch / TICKS).open("a") as ticks:
            ticks.write(".")
        return taken

    def file(self, number: int) -> Path:
        return self.scratch / str(number) / MAIN / f"{self.block.name}.parquet"

    def check(self, numbers: range) -> None:
        """Look into captured files, then remove them: outside of every timer."""
        for number in numbers:
            self.written.add(self.file(number))
            shutil.rmtree(self.scratch / str(number))

    def facts(self) -> dict[str, Any]:
        """What a number is worth nothing without."""
        row, (name, count) = describe(self.experiment.model), device()
        last = last_of(self.points)
        return {
            "device": f"{count} x {name}",
            "gpu": self.device.type == "cuda",
            "model": row.name + (" with random weights" if self.experiment.model.randomize else ""),
            "parameters": sum(weights.numel() for weights in self.model.parameters()),
            "blocks_run": last.layer + (last.site != "resid_pre"),
            "sites": len(self.points),
            "dtype": self.experiment.model.dtype,
            "stored_as": self.experiment.capture.dtype,
            "batch_size": self.config.batch_size,
            "sequence_length": self.config.sequence_length,
        }

    def _inputs(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for batch in self.batches:
            ids = batch.to(self.device)
            yield ids, torch.ones_like(ids)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            for number in range(torch.cuda.device_count()):
                torch.cuda.synchronize(number)


def latency(bench: Bench) -> dict[str, Any]:
    """Seconds of every run of every block, behind a look at whether capture reads what is there and leaves it so."""
    prompt = bench.batches[0][:PROMPTS, :PROMPT_TOKENS].to(bench.device)
    clean = decode(bench.model, prompt, DECODED)
    compared, differing = _compare(bench)
    seconds: dict[str, list[list[float]]] = {name: [] for name in ("base", "capture", "forward", "whole")}
    for number in range(-WARMUP_BLOCKS, bench.config.blocks):
        first = bench.files + 1
        base = [bench.timed(bench.base)]
        captured = [bench.timed(bench.capture), bench.timed(bench.capture)]
        base.append(bench.timed(bench.base))
        block = {"base": base, "capture": captured}
        block |= {"forward": [bench.timed(bench.forward)], "whole": [bench.timed(bench.whole)]}
        bench.check(range(first, bench.files + 1))
        if number >= 0:
            for name, taken in block.items():
                seconds[name].append(taken)
    hooked, after = decode(bench.model, prompt, DECODED, bench.points), decode(bench.model, prompt, DECODED)
    changed = [~((again[0] == clean[0]) & (again[1] == clean[1]).all(dim=2)) for again in (hooked, after)]
    return {
        "seconds": seconds,
        "compared": compared,
        "differing": differing,
        "generated": clean[0].numel(),
        "changed": int((changed[0] | changed[1]).sum()),
    }


def throughput(bench: Bench) -> dict[str, Any]:
    """Tokens, seconds and bytes of files written without a pause."""
    for _ in range(WARMUP_BLOCKS):
        bench.timed(bench.capture)
    bench.check(range(1, bench.files + 1))
    first, started = bench.files + 1, time.perf_counter()
    ends: list[float] = []
    while not ends or (
        len(ends) * bench.config.run_tokens < bench.config.sustained_tokens and ends[-1] - started < SUSTAINED_S
    ):
        bench.timed(bench.capture)
        ends.append(time.perf_counter())
    files = range(first, bench.files + 1)
    size = [bench.file(number).stat().st_size for number in files]
    bench.check(files)
    return {
        "seconds": np.diff([started, *ends]).tolist(),
        "tokens": [bench.config.run_tokens] * len(ends),
        "bytes": size,
    }


def memory(name: str, bench: Bench) -> dict[str, Any]:
    """The highest memory of each run of one kind; no other kind was run in this process. None where the system has no
    word for it."""
    run, peaks, where = getattr(bench, name), [], bench.device.type
    if _reset_peak(where):
        for _ in range(WARMUP_BLOCKS + MEMORY_RUNS):
            _reset_peak(where)
            bench.timed(run)
            peaks.append(_peak(where))
    bench.check(range(1, bench.files + 1))
    return {"peaks": peaks[WARMUP_BLOCKS:], "total": _total(where)}


MEASURES: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "latency": latency,
    "throughput": throughput,
    "memory-base": lambda bench: memory("base", bench),
    "memory-capture": lambda bench: memory("capture", bench),
}


def _compare(bench: Bench) -> tuple[int, int]:
    """Numbers that were held against the reference, and how many differ: as captured, and as stored."""
    bench.capture()
    compared = differing = 0
    found = []
    for ids, seen in bench._inputs():
        expected = reference(bench.model, ids, seen, bench.points)
        for point, tensor in capture(bench.model, ids, seen, bench.points).items():
            compared += tensor.numel()
            differing += int((tensor != expected[point]).sum())
        found.append({str(point): tensor.float().cpu().numpy() for point, tensor in expected.items()})
    stored, wrong = bench.written.compare(
        bench.file(bench.files), {name: np.concatenate([batch[name] for batch in found]) for name in found[0]}
    )
    bench.check(range(bench.files, bench.files + 1))
    return compared + stored, differing + wrong


@contextmanager
def _every_core() -> Iterator[None]:
    """A thread for each core: with fewer, what is written beside the forward pass would run on cores that stand idle,
    and cost nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _reset_peak(where: str) -> bool:
    """False where the system has no word for it."""
    if where != "cuda":
        return forget_resident_peak()
    forget_gpu_peaks()
    return True


def _peak(where: str) -> int:
    """Bytes: of what torch has allocated on the GPUs of this actor, or of this process's resident memory."""
    if where == "cuda":
        return sum(torch.cuda.max_memory_allocated(number) for number in range(torch.cuda.device_count()))
    return resident_peak()


def _total(where: str) -> int:
    if where == "cuda":
        devices = range(torch.cuda.device_count())
        return sum(torch.cuda.get_device_properties(number).total_memory for number in devices)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
