"""The other end of saelens_capture.py: SAELens's runner in a process of its own, which runs once per call."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

PYTHON = os.environ.get("RAYSAE_PEERS", sys.executable)
ROW = 128
"""Tokens of SAELens's rows: GSM8K's documents are as long on average."""


class Spent(NamedTuple):
    wall_s: float
    cpu_s: float


def has_saelens() -> bool:
    find = "import importlib.util, sys; sys.exit(importlib.util.find_spec('sae_lens') is None)"
    return subprocess.run([PYTHON, "-c", find]).returncode == 0


class SAELens:
    """Its own model of the same dimensions, and the documents' tokens in full rows, as many as make full batches."""

    def __init__(
        self, model: Any, documents: Sequence[np.ndarray], layer: int, batch_tokens: int, dtype: str, scratch: Path
    ) -> None:
        ids, config = np.concatenate(documents), model.config
        rows_per_batch = batch_tokens // ROW
        rows = len(ids) // (ROW * rows_per_batch) * rows_per_batch
        self.tokens = rows * ROW
        np.save(scratch / "rows.npy", ids[: self.tokens].reshape(rows, ROW))
        options = {
            "layer": layer,
            "batch_tokens": batch_tokens,
            "layers": config.n_layer,
            "d_model": config.n_embd,
            "heads": config.n_head,
            "d_mlp": 4 * config.n_embd,
            "ctx_len": config.n_positions,
            "vocab": config.vocab_size,
            "device": model.device.type,
            "dtype": dtype,
        }
        script = Path(__file__).with_name("saelens_capture.py")
        command = [PYTHON, str(script), str(scratch / "rows.npy"), json.dumps(options)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def spent(self) -> Spent:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return Spent(*map(float, self.process.stdout.readline().split()))

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
