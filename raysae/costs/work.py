"""The work of each stage as arithmetic: from the experiment and the size of its text to bytes and operations.

Operations count a multiplication and an addition as two. A forward pass takes two for each weight of the blocks it runs
through, and four dimensions of the model for every token that a token attends to. A step of an SAE with a budget of k
takes two for each weight of its encoder and eight for each weight of its k active latents; without a budget its five
products are dense. Adam moves eight float32 a parameter through memory in every step.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from raysae.models.capture import last_of, width
from raysae.models.maps import is_map
from raysae.models.registry import ModelRow
from raysae.saes import ARCHITECTURES
from raysae.store.schema import NUMBER_BYTES
from raysae.types import Experiment

GATED_MLP = ("Llama", "Gemma", "Mistral", "Qwen")
"""Architectures whose MLP has three matrices."""
FLOAT = 4
ADAM_MOVES = 8 * FLOAT
"""Bytes a parameter and step: weight, gradient and both moments are read, the gradient, the weight and both moments
written."""


@dataclass(frozen=True)
class Sizes:
    """How much there is to do. Counted where token blocks exist, estimated from the corpus before."""

    records: int
    tokens: int
    """Of all splits, in each arm."""
    context: float
    """Tokens of a document, the mean: what a token attends to."""
    captured: int
    """Tokens that go through the model before training begins."""
    kept: int
    """Those whose activations are written."""
    disk: int
    """Bytes of an arm's files at most."""


@dataclass(frozen=True)
class Arms:
    """What an experiment needs beside its real model and its real SAEs."""

    models: int
    """Models whose activations are captured."""
    saes: int
    """SAEs of each seed."""
    streams: int
    """Sequences of a model's activations that those of a seed learn from."""
    points: tuple[tuple[int, int], ...]
    """Expansion and k of each trial of the sweep."""


class Work(NamedTuple):
    """Of one stage."""

    units: float
    """What its time grows with."""
    tokens: int = 0
    numbers: int = 0
    """Bytes of activations or weights before compression."""
    disk: int = 0
    """Bytes on disk at most, checkpoints included."""
    reads: int = 0
    """Bytes of earlier stages' numbers."""
    flops: float = 0.0
    moved: float = 0.0
    """Bytes through the device's memory beside the products."""
    gpus: float = 0.0
    """Asked for; 0 for a stage on the CPU."""
    workers: float = 1.0
    """At the same time."""
    half: bool = False
    """Whether its products are of 16-bit numbers."""


def work(experiment: Experiment, row: ModelRow, sizes: Sizes, arms: Arms) -> dict[str, Work]:
    """By stage. `experiment.sae` is the SAE that is trained, or the widest that the sweep may choose."""
    capture, train, sweep = experiment.capture, experiment.train, experiment.sweep
    streamed = experiment.activations.mode == "stream"
    seeds = len(train.seed_numbers)
    d_in = width(row, experiment.hookpoint)
    number = NUMBER_BYTES[capture.dtype]
    widths = sum(width(row, point) for point in capture.hookpoints)
    per_token = forward_flops(experiment, row, sizes.context)

    through_model = sizes.captured * arms.models
    each = sae_bytes(experiment.sae.architecture, d_in, d_in * experiment.sae.expansion, experiment.sae.k)
    in_training = min(train.together, arms.saes)
    checkpoint = 3 * each * in_training * (train.keep_checkpoints + 1)
    shown, tried = train.steps * train.batch_tokens, sweep.steps * train.batch_tokens
    actors = (capture.max_actors or capture.actors) * (capture.gpus_per_actor or capture.cpus_per_actor)
    streamed_flops = per_token if streamed else 0.0
    found = {
        "ingest": Work(sizes.records),
        "tokenize": Work(sizes.tokens, tokens=sizes.tokens),
        "quality": Work(sizes.tokens),
        "seal": Work(0),
        "capture": Work(
            through_model,
            tokens=sizes.tokens * arms.models,
            numbers=sizes.kept * arms.models * widths * number,
            disk=sizes.disk * arms.models,
            flops=through_model * per_token,
            gpus=(capture.max_actors or capture.actors) * capture.gpus_per_actor,
            workers=actors,
            half=experiment.model.dtype != "float32",
        ),
        "sweep": Work(
            sweep.steps,
            tokens=len(arms.points) * tried,
            reads=0 if streamed else tried * d_in * number,
            flops=tried * streamed_flops
            + tried * sum(sae_flops(experiment, d_in, d_in * expansion, k) for expansion, k in arms.points),
            moved=sweep.steps
            * sum(ADAM_MOVES * parameters(experiment, d_in, d_in * expansion) for expansion, _ in arms.points),
            workers=sweep.concurrent,
        ),
        "train": Work(
            seeds * train.steps,
            tokens=seeds * arms.saes * shown,
            numbers=seeds * arms.saes * each,
            disk=seeds * arms.saes * each + checkpoint,
            reads=0 if streamed else seeds * arms.streams * shown * d_in * number,
            flops=seeds * arms.saes * shown * sae_flops(experiment, d_in, d_in * experiment.sae.expansion)
            + seeds * arms.streams * shown * streamed_flops,
            # every worker steps all weights
            moved=seeds
            * arms.saes
            * train.steps
            * train.workers
            * ADAM_MOVES
            * parameters(experiment, d_in, d_in * experiment.sae.expansion),
            gpus=float(train.workers * train.gpu),
            workers=train.workers,
            half=train.precision != "float32",
        ),
        "evaluate": Work(
            seeds * (experiment.protocol.test_documents + experiment.protocol.pairs), workers=experiment.protocol.actors
        ),
        "decide": Work(0),
        "report": Work(0),
    }
    return found if arms.points else {stage: one for stage, one in found.items() if stage != "sweep"}


def forward_flops(experiment: Experiment, row: ModelRow, context: float) -> float:
    """Of one token up to the last hook point; 0 where there is no model to run. Grouped queries are counted as if every
    head had its own."""
    if is_map(experiment.model):
        return 0.0
    last = last_of(experiment.capture.hookpoints)
    blocks = last.layer + (last.site != "resid_pre")
    matrices = 3 if row.architecture.startswith(GATED_MLP) else 2
    weights = 4 * row.d_model**2 + matrices * row.d_model * row.d_mlp
    return blocks * (2 * weights + 4 * context * row.d_model)


def sae_flops(experiment: Experiment, d_in: int, d_sae: int, k: int | None = None) -> float:
    """Of one token in one step."""
    if ARCHITECTURES[experiment.sae.architecture].needs_k:
        return 2 * d_in * d_sae + 8 * d_in * (k or experiment.sae.k)
    return 10 * d_in * d_sae


def parameters(experiment: Experiment, d_in: int, d_sae: int) -> int:
    """Trained numbers of one SAE."""
    return _shapes(experiment.sae.architecture, d_in, d_sae, experiment.sae.k)[0]


def sae_bytes(architecture: str, d_in: int, d_sae: int, k: int) -> int:
    """Of the tensors in its file."""
    return FLOAT * _shapes(architecture, d_in, d_sae, k)[1]


@lru_cache
def _shapes(architecture: str, d_in: int, d_sae: int, k: int) -> tuple[int, int]:
    """(parameters, numbers in the file), from the SAE built without its numbers."""
    import torch

    from raysae.saes.batch_topk import BatchTopK

    with torch.device("meta"):
        sae = ARCHITECTURES[architecture](d_in, d_sae, k)
    trained = sum(parameter.numel() for parameter in sae.parameters())
    return trained, trained + (d_sae if isinstance(sae, BatchTopK) else 0)
