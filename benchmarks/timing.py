"""Interleaved samples of rival functions in one process, so that ratios hold on a machine that others use too."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def interleave(
    variants: Mapping[str, Callable[[], object]], rounds: int, device: torch.device, warm: int = 2
) -> dict[str, list[float]]:
    """Seconds of every variant, `rounds` of each, one of each per round: of this process's CPU time, or on CUDA of wall
    time with the device synchronised."""
    samples: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(warm):
        for run in variants.values():
            run()
    for _ in range(rounds):
        for name, run in variants.items():
            samples[name].append(_seconds(run, device))
    return samples


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        start = time.perf_counter()
        run()
        torch.cuda.synchronize(device)
        return time.perf_counter() - start
    start = time.process_time()
    run()
    return time.process_time() - start


def ratio(numerator: list[float], denominator: list[float]) -> float:
    """The median over rounds of the quotient of two variants in the same round."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))
