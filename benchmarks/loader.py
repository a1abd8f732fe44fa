"""Whether a training step ever waits for its batch.

    python benchmarks/loader.py [--width 768] [--rows 524288] [--json FILE]

Activation blocks of random numbers, float16. Per round, in turn:

- `pyarrow`: every row group of the hook point's column by `read_row_group`, and nothing done with it.
- `ours`: the same rows as shuffled float32 batches of 4,096.

Ratio: median over rounds of pyarrow's time to ours in the same round; 0.7 is asked. Then steps of 20 ms (one busy
thread) on the batches: the share of wall time that they wait, the first batch included; less than 5 % is asked. The
files are in the page cache, so this is about the processor, not the disk.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
import torch
from synthetic import POINT, noise, write_activations

from raysae.store import ActivationStore, Manifest

BLOCKS = 4
STEP_S = 0.02


def by_pyarrow(folder: Path) -> float:
    start = time.perf_counter()
    for block in Manifest.read(folder).blocks:
        file = pq.ParquetFile(folder / block.file)
        for number in range(file.num_row_groups):
            file.read_row_group(number, columns=[str(POINT)])
    return time.perf_counter() - start


def by_us(folder: Path, rows: int, batch: int) -> float:
    start = time.perf_counter()
    for _ in ActivationStore(folder).batches(POINT, batch, 0, steps=rows // batch):
        pass
    return time.perf_counter() - start


def waiting(folder: Path, rows: int, batch: int, width: int) -> dict[str, float]:
    """Shares of wall time, of as many steps as four epochs have."""
    weights, wait, first = torch.zeros(width, 64), 0.0, 0.0
    steps = 4 * (rows // batch)
    batches = ActivationStore(folder).batches(POINT, batch, 0, steps=steps)
    start = time.perf_counter()
    for step in range(steps):
        asked = time.perf_counter()
        x = torch.from_numpy(next(batches))
        got = time.perf_counter()
        wait, first = wait + got - asked, first if step else got - asked
        while time.perf_counter() - got < STEP_S:
            x @ weights
    whole = time.perf_counter() - start
    return {"share": round(wait / whole, 4), "share_after_the_first": round((wait - first) / (whole - first), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--rows", type=int, default=1 << 20)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_activations(folder, arguments.rows, arguments.width, noise(arguments.width), BLOCKS)
        by_pyarrow(folder), by_us(folder, arguments.rows, arguments.batch)
        rounds = [(by_pyarrow(folder), by_us(folder, arguments.rows, arguments.batch)) for _ in range(arguments.rounds)]
        chance, shuffled = ActivationStore(folder).same_document(arguments.batch, 0)
        found = {
            "of_pyarrow": round(statistics.median(theirs / ours for theirs, ours in rounds), 3),
            "rows_per_second": {
                name: round(arguments.rows / statistics.median(times))
                for name, times in zip(("pyarrow", "ours"), zip(*rounds, strict=True), strict=True)
            },
            "waiting": waiting(folder, arguments.rows, arguments.batch, arguments.width),
            "two_rows_of_one_document": {"batch": chance, "perfect_shuffle": shuffled},
            "load": os.getloadavg()[0],
        }
    print(json.dumps(found, indent=1))  # noqa: T201
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
