"""How long the whole judge takes on one SAE with every null, and whether the number of actors changes a number.

    python benchmarks/judge.py [--json FILE] [--tokens 100000] [--actors 1 2 4]

Prepares a run (d_in 64, m 512, every null arm built), then times `evaluate` alone: on two cores it should stay below
three minutes. Repeats it with each number of actors in a folder of its own and compares the metrics, byte for byte.
"""

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

from raysae.falsification import CRITERIA, NULLS
from raysae.pipeline import run
from raysae.stages.exhibits import EXHIBITS, OBSERVATIONS
from raysae.stages.progress import Reporter
from raysae.stages.resources import disconnect
from raysae.types.experiment import Experiment
from raysae.types.loading import load

ROOT = Path(__file__).parents[1]
WORDS_OF_A_RECORD = 30
"""Tokens of an arithmetic chain of thought, about; half of the records are TEST here."""


def experiment(out: Path, tokens: int, actors: int) -> Experiment:
    judged = [name for name in CRITERIA if name in EXHIBITS]
    return load(
        ROOT / "configs" / "quickstart.yaml",
        [
            f"out={out}", "name=judge", f"corpus.records={tokens * 2 // WORDS_OF_A_RECORD * 5 // 4}",
            "corpus.splits={fit: 0.2, test: 0.5}", "sae.expansion=8", "sweep.trials=0",
            "train.seeds=1", "train.steps=800",
            f"protocol.test_tokens={tokens}", "protocol.test_documents=400", "protocol.permutations=200",
            "protocol.bootstrap=2000", "protocol.pairs=200", f"protocol.actors={actors}",
            f"protocol.nulls=[{','.join(NULLS)}]", f"protocol.criteria=[{','.join(judged)}]",
            f"protocol.observations=[{','.join(OBSERVATIONS)}]",
        ],
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--actors", type=int, nargs="+", default=[2, 1, 4])
    arguments = parser.parse_args()
    seconds: dict[int, float] = {}
    metrics: dict[int, str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        built = Path(scratch) / "built"
        run(experiment(built, arguments.tokens, 2), Reporter(), "train")
        for actors in arguments.actors:
            out = Path(scratch) / f"actors-{actors}"
            shutil.copytree(built, out)
            disconnect()
            started = time.monotonic()
            run(experiment(out, arguments.tokens, actors), Reporter(), "evaluate")
            seconds[actors] = round(time.monotonic() - started, 1)
            metrics[actors] = (out / "judge" / "metrics" / "metrics.json").read_text()
        disconnect()
    found = {"tokens": arguments.tokens, "seconds": seconds, "identical": len(set(metrics.values())) == 1}
    print(json.dumps(found, indent=1))  # noqa: T201
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
