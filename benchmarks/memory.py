"""Does a dictionary of 65,536 latents train within 8 GB?

    python benchmarks/memory.py [--d-in 512] [--expansion 128] [--batch 512] [--steps 12] [--json FILE]

One worker takes a few steps and writes checkpoints on the way; prints the arithmetic beside the peak of the process.
"""

import argparse
import json
import resource
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from cotrain import jobs
from synthetic import sparse_sums, write_activations

from raysae.stages.cotrain import Place, train_together
from raysae.stages.halt import Halt
from raysae.training.memory import estimate, step_matrices
from raysae.types.learning import LossConfig, SAEConfig, TrainConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--d-in", type=int, default=512)
    parser.add_argument("--expansion", type=int, default=128)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    d_in, d_sae, batch = arguments.d_in, arguments.d_in * arguments.expansion, arguments.batch
    train = TrainConfig(
        steps=arguments.steps, batch_tokens=batch, shards=1, workers=1, checkpoint_steps=5, dead_after_tokens=4 * batch
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_activations(folder, batch * 4, d_in, sparse_sums(d_in))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        job = replace(
            jobs(folder)[0],
            sae=SAEConfig(expansion=arguments.expansion, k=32),
            loss=LossConfig(decorrelation=1.0),
            train=train,
        )
        for done, text in train_together([job], Place(), Halt(folder), lambda course: None):
            sys.stdout.write(f"step {done}: {text}\n")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    expected = estimate(d_in, d_sae, batch, 1, 1, 1, step_matrices(job.sae, job.loss, job.train, d_in))
    sys.stdout.write(
        f"{expected.text}\nmeasured: peak {peak / 1e9:.2f} GB, {before / 1e9:.2f} GB of it before training\n"
    )
    if arguments.json:
        report = {"estimate": expected.bytes, "peak": peak, "before": before}
        arguments.json.write_text(json.dumps(report))


if __name__ == "__main__":
    main()
