"""One full optimizer step on the same activations: ours against SAELens, dictionary_learning and sparsify.

    pip install -e '.[bench]' && python -m benchmarks.train_step --json out.json

All variants are interleaved in one process, in CPU time of one core (on CUDA in wall time), and every number is the
median over rounds of a ratio within a round. The bound, the one dense float32 encoder product through `torch.mm`, is
timed beside them. `speedup_over_fastest_peer` takes the fastest peer in float32 for our float32 step, and the fastest
in any precision for our bfloat16 step.
"""

import argparse
import json
import os
import statistics
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # noqa: E402, I001 - after the number of threads

from benchmarks import peers  # noqa: E402
from benchmarks.timing import interleave, ratio  # noqa: E402
from raysae.saes import build  # noqa: E402
from raysae.training import SAETrainer  # noqa: E402
from raysae.types.learning import LossConfig, TrainConfig  # noqa: E402

SHAPES = ("2048x512->4096", "4096x768->6144")
"""tokens x d_in -> d_sae"""
ARCHITECTURES = ("topk", "relu", "batch_topk", "jumprelu")
LR = 1e-6
"""So small that the density set by the biases holds over the run."""
STEADY_STEP = 2000
BOUND = "encoder product, torch.mm float32"


def activations(tokens: int, d_in: int, d_sae: int, device: torch.device) -> torch.Tensor:
    """Sparse mixtures of d_sae random directions and a little noise, of mean square 1 per dimension."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(d_sae, d_in, generator=generator), dim=1)
    which = torch.randint(0, d_sae, (tokens, 24), generator=generator)
    sizes = torch.rand(tokens, 24, generator=generator) + 0.3
    x = torch.nn.functional.embedding_bag(which, rows, per_sample_weights=sizes, mode="sum")
    x = x + 0.05 * torch.randn(tokens, d_in, generator=generator)
    return (x * (d_in**0.5 / x.norm(dim=1).mean())).to(device)


def bias_for(x: torch.Tensor, density: float):
    """Encoder rows -> the bias that leaves this share of pre-activations positive, the same for every latent."""

    def bias(rows: torch.Tensor) -> torch.Tensor:
        ranked = (x @ rows.T).sort(dim=0).values
        place = int((1 - density) * (len(x) - 1))
        return -(ranked[place] + ranked[place + 1]) / 2  # between two samples: nothing lies at 0

    return bias


def ours(architecture: str, precision: str, x: torch.Tensor, d_sae: int, k: int, density: float) -> peers.Step:
    sae = build(architecture, x.shape[1], d_sae, k, 0).requires_grad_(False).to(x.device)
    if not sae.needs_k:
        sae.b_enc.copy_(bias_for(x - x.mean(dim=0), density)(sae.W_enc.T))
    if architecture == "jumprelu":
        sae.b_enc.add_(sae.threshold)
    train = TrainConfig(
        steps=10**6, batch_tokens=len(x), shards=1, workers=1, lr=LR, warmup_steps=0, k_anneal_fraction=0,
        precision=precision,
    )  # fmt: skip
    loss = LossConfig(l1=1e-3) if architecture == "relu" else LossConfig(l0=1e-3 if architecture == "jumprelu" else 0)
    trainer = SAETrainer(sae, loss, train, k, 1.0)
    return lambda: trainer.step([x], lambda flat: None)


def measure(
    architecture: str, shape: str, k: int, density: float, rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds per step of every variant: ours as `raysae PRECISION`."""
    tokens, d_in, d_sae = (int(part) for part in shape.replace("->", "x").split("x"))
    x = activations(tokens, d_in, d_sae, device)
    W, out = torch.randn(d_in, d_sae, device=device), torch.empty(tokens, d_sae, device=device)
    variants: dict[str, peers.Step] = {BOUND: lambda: torch.mm(x, W, out=out)}
    for precision in ("float32", "bfloat16"):
        variants[f"raysae {precision}"] = ours(architecture, precision, x, d_sae, k, density)
    course = peers.Course(LR, begin=STEADY_STEP)
    rivals = peers.build(architecture, x, d_sae, k, course, bias_for(x, density))
    variants |= {name: make().step for name, make in rivals.items()}
    return interleave(variants, rounds, device)


def summary(architecture: str, shape: str, samples: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """The ratios of one architecture and shape, by the keys of the JSON file."""
    found: dict[str, dict[str, float]] = {"speedup_over_fastest_peer": {}, "step_over_encoder_product": {}}
    found["speedup_over_each_peer"] = {}
    rivals = [name for name in samples if not name.startswith("raysae") and name != BOUND]
    for precision in ("float32", "bfloat16"):
        key, mine = f"{architecture} {precision} {shape}", samples[f"raysae {precision}"]
        found["step_over_encoder_product"][key] = ratio(mine, samples[BOUND])
        faster = {name: ratio(samples[name], mine) for name in rivals}
        found["speedup_over_each_peer"] |= {f"{key} / {name}": value for name, value in faster.items()}
        comparable = [v for name, v in faster.items() if precision == "bfloat16" or name.endswith("float32")]
        if comparable:
            found["speedup_over_fastest_peer"][key] = min(comparable)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs="*", default=SHAPES, help="tokens x d_in -> d_sae")
    parser.add_argument("--architecture", nargs="*", default=ARCHITECTURES, choices=ARCHITECTURES)
    parser.add_argument("--k", type=int, default=32, help="of topk and batch_topk")
    parser.add_argument("--density", type=float, default=0.03, help="of relu and jumprelu: share of active latents")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    device = torch.device(options.device)
    report: dict[str, object] = {
        "torch": torch.__version__, "device": str(device), "k": options.k, "density": options.density,
        "peers_missing": peers.missing(), "milliseconds": {},
    }  # fmt: skip
    for shape in options.shape:
        for architecture in options.architecture:
            samples = measure(architecture, shape, options.k, options.density, options.rounds, device)
            times = {name: 1e3 * statistics.median(values) for name, values in samples.items()}
            report["milliseconds"] |= {f"{architecture} {shape}": times}  # type: ignore[operator]
            for key, values in summary(architecture, shape, samples).items():
                report[key] = {**report.get(key, {}), **values}  # type: ignore[dict-item]
            for name, time in times.items():
                against = ratio(samples[name], samples[BOUND])
                sys.stdout.write(
                    f"{shape} {architecture:12s} {name:40s} {time:8.1f} ms  {against:6.2f} x the product\n"
                )
            sys.stdout.flush()
            if options.json:
                options.json.write_text(json.dumps(report, indent=1) + "\n")
    os._exit(0)  # sparsify's threads are parked inside fit()


if __name__ == "__main__":
    main()
