"""Whether a fast step is a good one: FVU at one L0, ours against SAELens, dictionary_learning and sparsify.

    raysae capture configs/gsm8k.yaml corpus.path=<GSM8K>
    pip install -e '.[bench]' && python -m benchmarks.quality runs/gsm8k/activations/main layers.2.resid_post

Two kinds of activations: those of a run (above, tiny-gsm8k's on GSM8K), and sparse sums of known random directions.
Every trainer gets the same batches in the same order, as many steps, the same warm-up and, where it has one, decay, and
the same choice of learning rates; the rest are its defaults. The learning rate is chosen by FVU on FIT, and TEST gives
the number. All select exactly k latents a token, or k times the batch in a batch, so L0 is the same. The known
directions come at random, so that their number varies from token to token.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # noqa: E402, I001 - after the number of threads

from benchmarks import peers  # noqa: E402
from raysae.saes import build  # noqa: E402
from raysae.store import ActivationStore  # noqa: E402
from raysae.training import SAETrainer  # noqa: E402
from raysae.training.kernels import encode, products  # noqa: E402
from raysae.types import HookPoint, Split  # noqa: E402
from raysae.types.learning import LossConfig, TrainConfig  # noqa: E402

ARCHITECTURES = ("topk", "batch_topk")
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
BATCH = 1024
K = 16
EXPANSION = 8
TOKENS = 16 * BATCH
"""Of FIT and of TEST."""


class Data(NamedTuple):
    batches: torch.Tensor
    """float32 [steps, BATCH, d_in], of mean square 1, what every trainer sees"""
    fit: torch.Tensor
    """float32 [TOKENS, d_in]"""
    test: torch.Tensor


def of_run(activations: Path, hookpoint: HookPoint, steps: int) -> Data:
    store = ActivationStore(activations, tuple(Split))

    def read(split: Split, count: int) -> torch.Tensor:
        batches = store.batches(hookpoint, BATCH, 0, split=split, steps=count)
        return torch.stack([torch.from_numpy(batch) for batch in batches])

    held_out = [read(split, TOKENS // BATCH).flatten(0, 1) for split in (Split.FIT, Split.TEST)]
    scale = store.input_scale(hookpoint)
    return Data(*(part * scale for part in (read(Split.TRAIN, steps), *held_out)))


def known(width: int, features: int) -> torch.Tensor:
    """float32 [features, width], of unit length."""
    rows = torch.randn(features, width, generator=torch.Generator().manual_seed(7))
    return torch.nn.functional.normalize(rows, dim=1)


def of_directions(rows: torch.Tensor, steps: int) -> Data:
    """Each token the sum of `K` of them on average, by chance, of amplitudes from 1 to 2, and a little noise."""
    generator = torch.Generator().manual_seed(11)
    features, width = rows.shape

    def draw(tokens: int) -> torch.Tensor:
        on = torch.rand(tokens, features, generator=generator) < K / features
        amplitude = on * (1 + torch.rand(tokens, features, generator=generator))
        return amplitude @ rows + 0.01 * torch.randn(tokens, width, generator=generator)

    parts = [draw(steps * BATCH), draw(TOKENS), draw(TOKENS)]
    scale = parts[0].square().mean().rsqrt()
    return Data((parts[0] * scale).view(steps, BATCH, width), *(part * scale for part in parts[1:]))


def makers(architecture: str, x: torch.Tensor, course: peers.Course) -> dict[str, peers.Maker]:
    d_sae = EXPANSION * x.shape[1]
    rivals = peers.build(architecture, x, d_sae, K, course)
    kept = {name: make for name, make in rivals.items() if name.endswith("float32") and "sparse acti" not in name}
    return {"raysae": lambda: ours(architecture, x, d_sae, course), **kept}


def ours(architecture: str, x: torch.Tensor, d_sae: int, course: peers.Course) -> peers.Peer:
    sae = build(architecture, x.shape[1], d_sae, K, 0).requires_grad_(False)
    train = TrainConfig(
        steps=course.steps, batch_tokens=BATCH, shards=1, workers=1, lr=course.lr, warmup_steps=course.warmup,
        decay_fraction=course.decay / course.steps,
    )  # fmt: skip
    trainer = SAETrainer(sae, LossConfig(), train, K, 1.0)

    def reconstruct(rows: torch.Tensor) -> torch.Tensor:
        active = products(encode(sae, rows - sae.b_dec, sae.rule(K, len(rows))), sae, len(rows), "float32")
        return active.decode(active.keep(sae.respond(active.pre, active.which)), sae.W_dec)[0] + sae.b_dec

    return peers.Peer(lambda: trainer.step([x], lambda flat: None), reconstruct)


@torch.no_grad()
def fvu(peer: peers.Peer, x: torch.Tensor) -> float:
    error = sum(float((peer.reconstruct(part) - part).double().square().sum()) for part in x.split(BATCH))
    return error / float((x - x.mean(dim=0)).double().square().sum())


def judge(architecture: str, data: Data, steps: int) -> Iterator[tuple[str, dict[str, float]]]:
    """(trainer, what it reached with the learning rate that FIT chose)."""
    x = torch.empty_like(data.batches[0])
    names = list(makers(architecture, x, peers.Course(1.0, steps)))
    for name in names:
        tried = []
        for rate in RATES:
            course = peers.Course(rate, steps, warmup=steps // 20, decay=steps // 5)
            peer = makers(architecture, x, course)[name]()
            for batch in islice(data.batches, steps):
                x.copy_(batch)
                peer.step()
            tried.append((fvu(peer, data.fit), rate, peer))
        _, rate, best = min(tried, key=lambda row: row[0])
        yield name, {"fvu": fvu(best, data.test), "lr": rate, **{f"fit {r:g}": value for value, r, _ in tried}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("activations", type=Path)
    parser.add_argument("hookpoint", type=HookPoint.parse)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    report: dict[str, object] = {"steps": arguments.steps, "k": K, "peers_missing": peers.missing()}
    kinds = {
        "run": of_run(arguments.activations, arguments.hookpoint, arguments.steps),
        "directions": of_directions(known(128, 512), arguments.steps),
    }
    for kind, data in kinds.items():
        for architecture in ARCHITECTURES:
            found = {}
            for name, row in judge(architecture, data, arguments.steps):
                found[name] = row
                sys.stdout.write(f"{kind:10s} {architecture:10s} {name:28s} FVU {row['fvu']:.4f}  lr {row['lr']:g}\n")
                sys.stdout.flush()
            report[f"{kind} {architecture}"] = found
            if arguments.json:
                arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    os._exit(0)  # sparsify's threads are parked inside fit()


if __name__ == "__main__":
    main()
