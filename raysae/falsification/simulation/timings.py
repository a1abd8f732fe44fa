"""What capture costs, on a machine whose speed drifts: timings of runs, files one after the other, peaks of memory."""

import numpy as np
from jaxtyping import Float

from raysae.falsification.criterion import (
    BLOCKS_FOR_GO,
    LATENCY,
    MEMORY,
    MEMORY_RUNS,
    PARTS,
    REPLICATES,
    TOKENS_PER_SECOND,
)
from raysae.falsification.metrics import overhead
from raysae.falsification.metrics.overhead import Capture
from raysae.falsification.simulation.trial import Simulation, World, seed_of
from raysae.types.metric import Metric

SOUND = Capture(
    device="made",
    gpu=True,
    model="made",
    parameters=1,
    blocks_run=1,
    sites=1,
    dtype="float32",
    stored_as="float16",
    batch_size=1,
    sequence_length=1,
    compared=1,
    differing=0,
    generated=1,
    changed=0,
    tokens=1,
    rows=1,
    wrong_documents=0,
)
FILES, FILE_TOKENS = 50, 2048
"""As many as make 100,000 tokens."""
SPREAD, STALLS = 0.1, 0.03
"""Standard deviation of the logarithm of a run's time; how many runs take half as long again, as when another program
wants the machine."""
ALIKE = 0.3
"""Correlation of a file's time with that of the one before."""
GPU_BYTES = 80 * 10**9


def seconds(rng: np.random.Generator, mean: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Times of runs about `mean`."""
    return mean * rng.lognormal(0, SPREAD, mean.shape) * np.where(rng.random(mean.shape) < STALLS, 1.5, 1.0)


def slower(rng: np.random.Generator, share: float) -> Metric:
    """In the median capturing takes `1 + share` of the time without; over the blocks the machine's speed wanders."""
    drift = np.exp(np.cumsum(0.05 * rng.standard_normal((BLOCKS_FOR_GO, 1)), axis=0))
    runs = {name: seconds(rng, drift * np.ones(2)) for name in ("base", "capture", "forward", "whole")}
    runs["capture"] *= 1 + share
    return overhead.latency(runs, SOUND, bootstrap=REPLICATES, seed=seed_of(rng))


def written(rng: np.random.Generator, rate: float) -> Metric:
    """Files of so many tokens per second in the long run, each about as slow as the one before."""
    shocks = rng.standard_normal(FILES)
    mood = np.empty(FILES)
    mood[0] = shocks[0]
    for i in range(1, FILES):
        mood[i] = ALIKE * mood[i - 1] + np.sqrt(1 - ALIKE**2) * shocks[i]
    taken = FILE_TOKENS / rate * np.exp(SPREAD * mood - SPREAD**2 / 2)
    tokens = np.full(FILES, FILE_TOKENS)
    return overhead.throughput(tokens, taken, tokens, None, SOUND, bootstrap=REPLICATES, seed=seed_of(rng))


def held(rng: np.random.Generator, share: float) -> Metric:
    """Capturing takes `share` of the device beside the forward pass; an allocator rounds now and then."""
    base = np.full(MEMORY_RUNS, 20 * 10**9) + rng.integers(0, 3, MEMORY_RUNS) * 2 * 10**6
    captured = np.full(MEMORY_RUNS, 20 * 10**9 + round(share * GPU_BYTES)) + rng.integers(0, 3, MEMORY_RUNS) * 2 * 10**6
    return overhead.memory(base, captured, GPU_BYTES, SOUND)


LATENCY_SIMULATION: Simulation = {
    "threshold": World(
        f"In the median capturing takes {LATENCY:g} longer, the limit itself.",
        lambda rng: slower(rng, LATENCY),
        BLOCKS_FOR_GO,
    ),
    "truth": World(
        "In the median capturing takes 0.3 longer.", lambda rng: slower(rng, 0.3), BLOCKS_FOR_GO, claim_holds=True
    ),
}
THROUGHPUT_SIMULATION: Simulation = {
    "threshold": World(
        f"In the long run {TOKENS_PER_SECOND:g} tokens a second are written, the threshold itself.",
        lambda rng: written(rng, TOKENS_PER_SECOND),
        PARTS,
    ),
    "truth": World(
        "In the long run 1,100 tokens a second are written.", lambda rng: written(rng, 1100.0), PARTS, claim_holds=True
    ),
}
MEMORY_SIMULATION: Simulation = {
    "threshold": World(
        f"Capturing takes {MEMORY:g} of the GPU's memory, the limit itself.",
        lambda rng: held(rng, MEMORY),
        MEMORY_RUNS,
    ),
    "truth": World(
        "Capturing takes 0.02 of the GPU's memory.", lambda rng: held(rng, 0.02), MEMORY_RUNS, claim_holds=True
    ),
}
