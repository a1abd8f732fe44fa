"""What capture costs beside the forward pass that it cannot do without, and what others take for the same tokens.

    python -m benchmarks.capture ../shared/data/gsm8k --tokenizer ../shared/data/gpt2_tokenizer [--json FILE]
    python -m benchmarks.capture CORPUS --tokenizer FOLDER --device cuda --model gpt2-medium --dtype bfloat16

GSM8K through a transformer of the model's dimensions with fresh weights, up to its probe layer, float16 on disk. Per
round, in turn:

- `bare`: the same documents in the same batches up to the layer and no further; nothing is kept.
- `ours`: what an actor of the capture stage does with a block, from token block to Parquet, synced and hashed.
- `hidden_states`: the whole model with `output_hidden_states`, the layer in float16 by `torch.save`: a common way.
- `saelens`: SAELens's CacheActivationsRunner, on its own model of these dimensions, for the same token ids in full rows
  of 128. It runs in this Python or in the one that RAYSAE_PEERS names: pip install 'raysae[bench]' there.
- `ray`: the capture stage with two actors; the clock runs from the first finished block of each actor to the last. Not
  on an accelerator.

Tokens per second of wall time; every side has the same cores (`ray`: one thread for each of two actors). Ratios are
medians over rounds of a side to `bare` in the same round: 0.95 is asked of `ours`, 0.85 of `ray`, and that `ours` is
twice `saelens`. The same ratios by CPU time tell what a machine that is busy otherwise does to the first. `mfu` is the
share of the peak that the products of the forward pass reach: twice a block's weights for each token, and its
attention. The peak is --peak-tflops, or what the table knows of the device, or a large product here.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

os.environ |= {"HF_HUB_OFFLINE": "1"}

from benchmarks.saelens import SAELens, Spent, has_saelens
from raysae.costs.devices import DEVICES, known
from raysae.costs.work import forward_flops
from raysae.models.load import describe, load_model
from raysae.models.plain import run_to
from raysae.pipeline import run
from raysae.stages import capture
from raysae.stages.capture import MAIN, Capturer
from raysae.stages.forward import Forward, token_batches
from raysae.stages.pieces import pieces
from raysae.stages.progress import Reporter
from raysae.stages.resources import disconnect
from raysae.store import RunFolder, TokenStore
from raysae.types import Experiment


def experiment(arguments: argparse.Namespace, out: Path) -> Experiment:
    model = {"name": arguments.model, "randomize": True, "dtype": arguments.dtype}
    layer = describe(Experiment.model_validate({"name": "x", "model": model}).model).probe_layer
    return Experiment.model_validate(
        {
            "name": "capture",
            "out": out,
            "corpus": {
                "name": "gsm8k",
                "path": arguments.corpus,
                "records": max(arguments.ray_tokens, 2 * arguments.tokens) // 120,
            },
            "tokenizer": {"path": arguments.tokenizer, "block_tokens": arguments.tokens},
            "model": model,
            "capture": {"hookpoints": [f"layers.{layer}.resid_post"], "batch_tokens": arguments.batch_tokens},
            "protocol": {"criteria": ["reconstruction"], "nulls": []},
        }
    )


class Sides:
    """The same token block through every way to read a layer."""

    def __init__(self, config: Experiment, scratch: Path, device: str) -> None:
        self.config, self.scratch = config, scratch
        self.tokens = TokenStore(RunFolder(config).tokens)
        self.piece = next(p for p in pieces(config, self.tokens) if p.block.name.startswith("train"))
        self.documents = [ids for _, ids, _ in self.tokens.documents(self.piece.block)]
        self.point = config.hookpoint
        self.model = load_model(config.model, device)
        self.actor = Capturer(self._job(0))
        self.actor.models[MAIN] = Forward(self.model, [self.point], config.capture.batch_tokens)
        self.rounds = 0

    def bare(self) -> None:
        for ids, mask, _ in self._batches():
            run_to(self.model, ids, mask, [self.point])
        if self.model.device.type == "cuda":
            torch.cuda.synchronize()

    def ours(self) -> None:
        self.rounds += 1
        self.actor.job = self._job(self.rounds)
        self.actor({"arm": MAIN, **self.piece.item()})

    @torch.no_grad()
    def hidden_states(self) -> None:
        kept = []
        for ids, mask, lengths in self._batches():
            states = self.model(ids, attention_mask=mask, use_cache=False, output_hidden_states=True).hidden_states
            layer = states[self.point.layer + 1].half().cpu()
            kept += [layer[row, :length] for row, length in enumerate(lengths)]
        torch.save(torch.cat(kept), self.scratch / "hidden_states.pt")

    def through_ray(self) -> float:
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
        started = self.config.capture.actors
        return sum(count for _, count in seen[started:]) / (seen[-1][0] - seen[started - 1][0])

    def flops_per_token(self) -> float:
        """Of the forward pass up to the layer."""
        lengths = np.array([len(ids) for ids in self.documents])
        return forward_flops(self.config, describe(self.config.model), (lengths**2).sum() / lengths.sum())

    def _job(self, number: int) -> capture.Job:
        marks = capture.fingerprints(self.config, self.tokens.manifest)
        folder, out = self.tokens.folder.absolute(), self.scratch / f"ours-{number}"
        return capture.Job(self.config.model, 0, self.config.capture, folder, out, marks)

    def _batches(self) -> Any:
        for batch in token_batches([len(ids) for ids in self.documents], self.config.capture.batch_tokens):
            lengths = [len(self.documents[i]) for i in batch]
            ids = np.zeros((len(batch), lengths[0]), np.int64)
            for row, i in enumerate(batch):
                ids[row, : lengths[row]] = self.documents[i]
            mask = (np.arange(lengths[0]) < np.array(lengths)[:, None]).astype(np.int64)
            yield torch.from_numpy(ids).to(self.model.device), torch.from_numpy(mask).to(self.model.device), lengths


def spent(side: Callable[[], None]) -> Spent:
    wall, cpu = time.perf_counter(), time.process_time()
    side()
    return Spent(time.perf_counter() - wall, time.process_time() - cpu)


def peak_flops(device: torch.device, dtype: str, given: float | None) -> tuple[float, str]:
    """FLOP/s, and where the number is from."""
    if given is not None:
        return given * 1e12, "--peak-tflops"
    cuda = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if cuda else "cpu"
    if cuda and dtype != "float32" and (row := known(name)) is not None:
        return DEVICES[row].tflops_16 * 1e12, name
    size = 8192 if cuda else 2048
    a = torch.randn(size, size, device=device, dtype=getattr(torch, dtype))

    def product() -> None:
        torch.mm(a, a)
        if cuda:
            torch.cuda.synchronize()

    product()
    return 2 * size**3 / min(spent(product).wall_s for _ in range(5)), f"a product of {size:,} x {size:,} on {name}"


def measure(arguments: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    config = experiment(arguments, scratch / "runs")
    run(config, Reporter(), "tokenize")
    sides = Sides(config, scratch, arguments.device)
    tokens = sum(map(len, sides.documents))
    in_turn: dict[str, tuple[Callable[[], Spent], int]] = {
        name: (partial(spent, getattr(sides, name)), tokens) for name in ("bare", "ours", "hidden_states")
    }
    shape = sides.point.layer, config.capture.batch_tokens, config.model.dtype
    peer = SAELens(sides.model, sides.documents, *shape, scratch) if has_saelens() else None
    if peer:
        in_turn["saelens"] = peer.spent, peer.tokens
    for side, _ in in_turn.values():
        side()
    rates: dict[str, list[float]] = defaultdict(list)
    by_cpu: dict[str, list[float]] = defaultdict(list)
    load = [os.getloadavg()[0]]
    for _ in range(arguments.rounds):
        for name, (side, count) in in_turn.items():
            took = side()
            rates[name].append(count / took.wall_s)
            by_cpu[name].append(count / took.cpu_s)
        if arguments.ray_tokens:
            rates["ray"].append(sides.through_ray())
        load.append(os.getloadavg()[0])
    if peer:
        peer.end()
    disconnect()
    peak, source = peak_flops(sides.model.device, config.model.dtype, arguments.peak_tflops)
    return {
        "tokens_per_second": {name: round(statistics.median(found)) for name, found in rates.items()},
        "of_bare": ratios(rates, "bare"),
        "of_saelens": ratios(rates, "saelens") if peer else "pip install 'raysae[bench]', or set RAYSAE_PEERS",
        "of_bare_by_cpu_time": ratios(by_cpu, "bare"),
        "mfu": {
            name: round(statistics.median(rates[name]) * sides.flops_per_token() / peak, 3) for name in ("bare", "ours")
        },
        "peak": {"tflops": round(peak / 1e12, 3), "from": source},
        "rounds": rates,
        "threads": torch.get_num_threads(),
        "load": load,
    }


def ratios(rates: dict[str, list[float]], other: str) -> dict[str, float]:
    return {
        name: round(statistics.median(a / b for a, b in zip(found, rates[other], strict=True)), 3)
        for name, found in rates.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=20_000, help="per block and side")
    parser.add_argument("--ray-tokens", type=int, help="through Ray, per round; 0: none (100,000, 0 on an accelerator)")
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--model", default="gpt2", choices=("gpt2", "gpt2-medium"))
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--peak-tflops", type=float, help="of the device in this precision")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.ray_tokens is None:
        arguments.ray_tokens = 0 if arguments.device == "cuda" else 100_000
    if not arguments.ray_tokens:
        os.environ["RAYSAE_LOCAL"] = "1"  # the text is tokenized without Ray too
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(arguments, Path(scratch))
    print(json.dumps(found, indent=1))  # noqa: T201
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
