"""What it costs to train eight SAEs on one stream of activations.

    python benchmarks/cotrain.py [--json FILE] [--rounds 3] [--skip-runs] [--only trials]

Three ratios, each with its two sides measured in the same run, one thread a process:

1. `steps`: eight SAEs trained together (reader, shuffling, curves, everything that `train_together` does) against eight
   bare optimizer steps on batches that lie ready, plus one reader. CPU seconds, median over rounds. Bound: 1.15.
2. `runs`: one `raysae sweep` of eight points, from text to results, against eight runs of one point each. CPU seconds
   of the processes, each of which does every stage itself. The results must be equal. Bound: 0.5.
3. `trials`: the sweep stage of 16 points under Ray Tune, two trials at a time, of eight points against of one. Wall
   and CPU seconds of the stage, Ray's start included in the first. The results must be equal. No bound: see
   docs/log.md, 2026-11-26.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from synthetic import POINT, sparse_sums, write_activations

from raysae.stages.cotrain import Place, train_together
from raysae.stages.halt import Halt
from raysae.stages.jobs import SAEJob, make_trainer
from raysae.store import ActivationStore
from raysae.types.learning import LossConfig, SAEConfig, TrainConfig

ROOT = Path(__file__).parents[1]
D_IN, BATCH, STEPS = 256, 1024, 25
POINTS = [(expansion, k) for expansion in (4, 8) for k in (16, 24, 32, 48)]
GRID = {"expansion": [4, 8], "k": [3, 4, 5, 6]}


def jobs(folder: Path) -> list[SAEJob]:
    train = TrainConfig(steps=STEPS, batch_tokens=BATCH, shards=1, workers=1)
    first = SAEJob(
        arm="main", seed=0, activations=folder, out=folder / "out", hookpoint=str(POINT), sae=SAEConfig(),
        loss=LossConfig(), train=train, experiment_seed=0, fingerprint="mark", provenance={}, order="order",
        made_by=None, shard=None,
    )  # fmt: skip
    return [
        replace(first, out=folder / f"out-{i}", sae=SAEConfig(expansion=expansion, k=k))
        for i, (expansion, k) in enumerate(POINTS)
    ]


def steps(rounds: int) -> dict[str, float]:
    """CPU seconds: together, bare steps, one reader."""
    torch.set_num_threads(1)
    samples: dict[str, list[float]] = {"together": [], "bare": [], "reader": []}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_activations(folder, BATCH * STEPS, D_IN, sparse_sums(D_IN))
        todo = jobs(folder)
        for _ in range(rounds):
            start = time.process_time()
            for _ in train_together(todo, Place(), Halt(folder), lambda course: None):
                pass
            samples["together"].append(time.process_time() - start)

            store = ActivationStore(folder)
            start = time.process_time()
            batches = [torch.from_numpy(batch) for batch in todo[0].stream.batches(store, 0, STEPS)]
            samples["reader"].append(time.process_time() - start)

            trainers = [make_trainer(job, store, torch.device("cpu")) for job in todo]
            start = time.process_time()
            for batch in batches:
                for trainer in trainers:
                    trainer.step([batch], lambda flat: None)
            samples["bare"].append(time.process_time() - start)
    ratios = [t / (b + r) for t, b, r in zip(*(samples[n] for n in ("together", "bare", "reader")), strict=True)]
    return {name: statistics.median(values) for name, values in samples.items()} | {"ratio": statistics.median(ratios)}


def one_run(out: Path, name: str, expansion: list[int], k: list[int]) -> tuple[float, list[dict[str, float]]]:
    """(CPU seconds of the process, its points) of one `raysae sweep`."""
    settings = [f"out={out}", f"name={name}", f"sweep.expansion={expansion}", f"sweep.k={k}"]
    command = [sys.executable, "-m", "raysae", "sweep", str(ROOT / "configs" / "quickstart.yaml"), *settings]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [*command, f"sweep.trials={len(expansion) * len(k)}"],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "RAYSAE_LOCAL": "1"},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, json.loads((out / name / "sweep" / "sweep.json").read_text())["trials"]


def runs() -> dict[str, float]:
    """CPU seconds: eight points in one run, in eight runs; four of them before and four after the one."""
    points = [(expansion, k) for expansion in GRID["expansion"] for k in GRID["k"]]
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        apart = [one_run(out, f"point-{e}-{k}", [e], [k]) for e, k in points[:4]]
        together, found = one_run(out, "together", GRID["expansion"], GRID["k"])
        apart += [one_run(out, f"point-{e}-{k}", [e], [k]) for e, k in points[4:]]
    alone = [trials[0] for _, trials in apart]
    same = [
        {key: a[key] == b[key] for key in a if key not in ("chosen", "pareto")}
        for a, b in zip(alone, found, strict=True)
    ]
    assert all(all(row.values()) for row in same), "a point has another result when it is trained alone"
    separate = sum(seconds for seconds, _ in apart)
    return {"together": together, "separate": separate, "ratio": together / separate}


def trials() -> dict[str, float]:
    """Seconds of the sweep stage: eight points to a trial of Tune, one, and eight again; the mean of the outer two."""
    axes = ["sweep.trials=16", "sweep.expansion=[4,8]", "sweep.k=[3,4,5,6]", "sweep.lr=[2e-3,3e-3]"]
    found: list[list[dict[str, float]]] = []
    spent: list[tuple[float, float]] = [(0.0, 0.0)]
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        command = [sys.executable, "-m", "raysae"]
        given = [str(ROOT / "configs" / "quickstart.yaml"), f"out={out}", *axes]
        subprocess.run([*command, "capture", *given], check=True, stdout=subprocess.DEVNULL)
        for together in (8, 1, 8):
            line = [*command, "sweep", *given, f"train.together={together}"]
            subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
            folder = out / "quickstart"
            found.append(json.loads((folder / "sweep" / "sweep.json").read_text())["trials"])
            row = json.loads((folder / "resources.json").read_text())["stages"]["sweep"]
            spent.append((row["wall_s"], row["cpu_hours"] * 3600))
            shutil.rmtree(folder / "sweep")
    assert found[0] == found[1] == found[2], "a point has another result when it is trained alone"
    (first, first_cpu), (apart, apart_cpu), (last, last_cpu) = (  # the ledger's row adds up
        (after[0] - before[0], after[1] - before[1]) for before, after in zip(spent, spent[1:], strict=False)
    )
    together, together_cpu = (first + last) / 2, (first_cpu + last_cpu) / 2
    wall = {"together": together, "separate": apart, "ratio": together / apart}
    return wall | {"cpu_together": together_cpu, "cpu_separate": apart_cpu, "cpu_ratio": together_cpu / apart_cpu}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--skip-runs", action="store_true", help="only the first ratio")
    parser.add_argument("--only", choices=("steps", "runs", "trials"))
    arguments = parser.parse_args()
    measures = {"steps": lambda: steps(arguments.rounds), "runs": runs, "trials": trials}
    wanted = [arguments.only] if arguments.only else ["steps"] if arguments.skip_runs else list(measures)
    report = {name: measures[name]() for name in wanted}
    for name, numbers in report.items():
        sys.stdout.write(f"{name}: " + ", ".join(f"{key} {value:.3f}" for key, value in numbers.items()) + "\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
