"""What capture costs beside the forward pass that it cannot do without.

    python benchmarks/capture.py ../shared/data/gsm8k --tokenizer ../shared/data/gpt2_tokenizer [--json FILE]

GSM8K through a transformer of gpt2's dimensions with fresh weights, layer 6, float16 on disk. Per round, in turn:

- `bare`: the same documents in the same batches through the first seven blocks and nothing more; nothing is kept.
- `ours`: what an actor of the capture stage does with a block, from token block to Parquet, synced and hashed.
- `hidden_states`: the whole model with `output_hidden_states`, the layer in float16 by `torch.save`: a common way.
- `ray`: the capture stage with two actors; the clock runs from the first finished block of each actor to the last.

Tokens per second of wall time; every side has the same cores (`ray`: one thread for each of two actors). Ratios are
medians over rounds of a side to `bare` in the same round: 0.95 is asked of `ours`, 0.85 of `ray`.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

os.environ |= {"HF_HUB_OFFLINE": "1"}

from raysae.models.families import blocks
from raysae.models.load import load_model
from raysae.pipeline import run
from raysae.stages import capture
from raysae.stages.capture import MAIN, Capturer
from raysae.stages.forward import token_batches
from raysae.stages.progress import Reporter
from raysae.stages.resources import disconnect
from raysae.store import RunFolder, TokenStore
from raysae.types import Experiment

LAYER = 6


def experiment(out: Path, corpus: Path, tokenizer: Path, block_tokens: int, records: int) -> Experiment:
    return Experiment.model_validate(
        {
            "name": "capture",
            "out": out,
            "corpus": {"name": "gsm8k", "path": corpus, "records": records},
            "tokenizer": {"path": tokenizer, "block_tokens": block_tokens},
            "model": {"name": "gpt2", "randomize": True},
            "capture": {"hookpoints": [f"layers.{LAYER}.resid_post"], "batch_tokens": 4096},
            "protocol": {"criteria": ["reconstruction"], "nulls": []},
        }
    )


class Sides:
    """The same token blocks through every way to read a layer."""

    def __init__(self, config: Experiment, scratch: Path) -> None:
        self.config, self.scratch = config, scratch
        self.tokens = TokenStore(RunFolder(config).tokens)
        self.chosen = [block for block in self.tokens.blocks() if block.name.startswith("train")]
        self.model = load_model(config.model)
        self.rounds = 0

    def bare(self, block: Any) -> None:
        stack = blocks(self.model)
        after, self.model.transformer.h = stack, stack[: LAYER + 1]
        try:
            for ids, mask, _ in self._batches(block):
                with torch.no_grad():
                    self.model.transformer(ids, attention_mask=mask, use_cache=False)
        finally:
            self.model.transformer.h = after

    def ours(self, block: Any) -> None:
        out = self.scratch / f"ours-{self.rounds}"
        marks = capture.fingerprints(self.config, self.tokens.manifest)
        job = capture.Job(self.config.model, 0, self.config.capture, self.tokens.folder.absolute(), out, marks)
        if not hasattr(self, "actor"):
            self.actor = Capturer(job)
            self.actor.models[MAIN] = self.model
        self.actor.job = job
        self.actor({"arm": MAIN, "block": block.model_dump(mode="json")})

    def hidden_states(self, block: Any) -> None:
        kept = []
        for ids, mask, lengths in self._batches(block):
            with torch.no_grad():
                states = self.model(ids, attention_mask=mask, use_cache=False, output_hidden_states=True).hidden_states
            kept += [states[LAYER + 1][row, :length].half() for row, length in enumerate(lengths)]
        torch.save(torch.cat(kept), self.scratch / f"{block.name}.pt")

    def ray(self) -> float:
        """Tokens per second, the first block of each actor left out."""
        seen: list[tuple[float, int]] = []

        class Clock:
            def total(self, count: int) -> None:
                pass

            def advance(self, count: int, text: str = "") -> None:
                if count:
                    seen.append((time.perf_counter(), count))

            def say(self, text: str) -> None:
                pass

        capture.capture(self.config, self.tokens.folder, self.scratch / f"ray-{self.rounds}", Clock())  # type: ignore[arg-type]
        started, first = self.config.capture.actors, seen[self.config.capture.actors - 1][0]
        return sum(count for _, count in seen[started:]) / (seen[-1][0] - first)

    def _batches(self, block: Any) -> Any:
        documents = [ids for _, ids, _ in self.tokens.documents(block)]
        for batch in token_batches([len(ids) for ids in documents], self.config.capture.batch_tokens):
            ids = np.zeros((len(batch), len(documents[batch[0]])), np.int64)
            mask = np.zeros_like(ids)
            for row, i in enumerate(batch):
                ids[row, : len(documents[i])], mask[row, : len(documents[i])] = documents[i], 1
            yield torch.from_numpy(ids), torch.from_numpy(mask), [len(documents[i]) for i in batch]


def rate(side: Callable[[Any], None], block: Any, tokens: int) -> float:
    start = time.perf_counter()
    side(block)
    return tokens / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=20_000, help="per block and side")
    parser.add_argument(
        "--ray-tokens", type=int, default=100_000, help="through Ray, in each of as many rounds; 0: none"
    )
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    samples: dict[str, list[float]] = {"bare": [], "ours": [], "hidden_states": []}
    through_ray: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        records = max(arguments.ray_tokens, 2 * arguments.tokens) // 120
        config = experiment(out / "runs", arguments.corpus, arguments.tokenizer, arguments.tokens, records)
        run(config, Reporter(), "tokenize")
        sides = Sides(config, out)
        block = sides.chosen[0]
        tokens = sum(len(ids) for _, ids, _ in sides.tokens.documents(block))
        for name in samples:
            rate(getattr(sides, name), block, tokens)
        for sides.rounds in range(arguments.rounds):
            for name, rates in samples.items():
                rates.append(rate(getattr(sides, name), block, tokens))
            if arguments.ray_tokens:
                through_ray.append(sides.ray())
        disconnect()
    if through_ray:
        samples["ray"] = through_ray
    found = {
        "tokens_per_second": {name: round(statistics.median(rates)) for name, rates in samples.items()},
        "of_bare": {
            name: round(statistics.median(a / b for a, b in zip(rates, samples["bare"], strict=True)), 3)
            for name, rates in samples.items()
        },
        "rounds": samples,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(found, indent=1))  # noqa: T201
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
