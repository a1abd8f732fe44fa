"""A run folder of an experiment about capture. All numbers are made up."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from raysae.falsification import decide, draft, seal
from raysae.stages.overhead import summarise
from raysae.types import Experiment

FACTS = {
    "device": "2 x made",
    "gpu": False,
    "model": "gpt2 with random weights",
    "parameters": 124_439_808,
    "blocks_run": 7,
    "sites": 1,
    "dtype": "float32",
    "stored_as": "float16",
    "batch_size": 8,
    "sequence_length": 256,
    "files": {"tokens": 4096, "rows": 4096, "wrong_documents": 0},
}
MEANS = {"base": (2.0, 2), "capture": (2.2, 2), "forward": (2.1, 1), "whole": (5.0, 1)}
PEAKS = {"memory-base": 2_000_000_000, "memory-capture": 2_100_000_000}


def shown() -> dict[str, Any]:
    """Base 2 s, hooked 2.1 s, captured about 2.2 s, whole model 5 s; forty files of 2.2 s."""
    wobble = {"capture": np.random.default_rng(0).uniform(0.99, 1.01, (30, 1))}
    seconds = {name: (mean * np.ones((30, n)) * wobble.get(name, 1)).tolist() for name, (mean, n) in MEANS.items()}
    proof = {"compared": 100, "differing": 0, "generated": 32, "changed": 0}
    stretch = {"seconds": [2.2] * 36 + [2.4] * 4, "tokens": [2048] * 40, "bytes": [10**6] * 40}
    memory = {name: FACTS | {"peaks": [peak] * 8, "total": 10**10} for name, peak in PEAKS.items()}
    return {"latency": FACTS | proof | {"seconds": seconds}, "throughput": FACTS | stretch, **memory}


def build_costs(folder: Path) -> Path:
    """Write the whole folder and return it."""
    experiment = Experiment.model_validate(
        {
            "name": folder.name,
            "model": {"name": "gpt2", "randomize": True},
            "capture": {"hookpoints": ["layers.6.resid_post"]},
            "protocol": {
                "criteria": ["capture_latency", "capture_throughput", "capture_memory"],
                "nulls": [],
                "mode": "confirmatory",
            },
        }
    )
    protocol = draft(
        experiment,
        l0_cap=0.0,
        splits={"TEST": "c5" * 32},
        test_documents=8,
        activation_documents=8,
        factors=(),
        dropped_factors={},
        causal_units=(),
        model_sha256="d6" * 32,
        tokenizer_sha256="none: the ids are drawn",
        commit=None,
    )
    sha256 = seal(protocol, folder / "protocol.json")
    metrics = summarise(protocol, shown(), 0)
    verdict = decide(protocol, metrics, sealed_sha256=sha256, source_sha256=protocol.source_sha256)
    plain = {name: metric.model_dump(mode="json") for name, metric in metrics.items()}
    files = {
        "experiment.json": {"name": experiment.name, "identity": experiment.identity()},
        "verdict.json": verdict.model_dump(mode="json"),
        "metrics/metrics.json": {"criteria": plain},
        "metrics/overhead.json": shown(),
    }
    for name, value in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(value))
    return folder
