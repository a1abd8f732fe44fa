"""The tokenize stage against a bare loop over the same fast tokenizer: throughput per core and memory beside Ray.

    python benchmarks/tokenization.py ../shared/data/gsm8k --tokenizer ../shared/data/gpt2_tokenizer

GSM8K is repeated with distinct ids to `--records` records. The bare loop calls the tokenizer of transformers on lists
of 1,000 texts and keeps nothing; it runs in as many processes as the stage has workers, on the same records, so that
both have the same cores, once before the stage and once after it, and the mean counts. Neither clock runs while
transformers is imported and the tokenizer read; the stage's runs while Ray starts its workers. CPU seconds, of the
stage's driver, workers and Ray itself, are printed beside wall time because they hold better on a machine that does
other work. Memory is the proportional set size of the driver and everything below it, sampled twice a second; the
baseline is the same tree after `ingest`, with nothing to do.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BATCH = 1000
os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "RAYSAE_LOCAL": "0"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gsm8k", type=Path, help="folder with GSM8K's train.jsonl and test.jsonl")
    parser.add_argument("--tokenizer", type=Path, help="folder with a tokenizer; default: the bundled tiny-gsm8k's")
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--bare", type=int, nargs=2, metavar=("INDEX", "OF"), help=argparse.SUPPRESS)
    parser.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.bare:
        bare_loop(chosen.corpus, chosen.tokenizer, *chosen.bare)
        return
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        corpus = repeated(chosen.gsm8k, chosen.records, out)
        before = bare(corpus, chosen)
        wall, cpu, tokens, memory = stage(corpus, chosen, out)
        bare_wall, bare_cpu = ((a + b) / 2 for a, b in zip(before, bare(corpus, chosen), strict=True))
    per_core = f"{bare_wall / wall:.2f} by wall time, {bare_cpu / cpu:.2f} by CPU time"
    for line in (
        f"bare loop  {chosen.records / bare_wall:9,.0f} records/s in {chosen.workers} processes, {bare_cpu:6.1f} CPU s",
        f"stage      {chosen.records / wall:9,.0f} records/s, {tokens / wall:,.0f} tokens/s, {cpu:6.1f} CPU s",
        f"throughput per core, stage / bare loop: {per_core}; at least 0.8 is asked",
        f"peak memory above Ray alone: {memory / 1e9:.2f} of the 1 GB that is allowed",
    ):
        sys.stdout.write(line + "\n")


def repeated(gsm8k: Path, count: int, out: Path) -> Path:
    """A corpus folder with the records of GSM8K again and again, each time under other ids."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from raysae.stages.ingest import ingest
    from raysae.stages.progress import Reporter
    from raysae.store import Manifest, write_block

    with Reporter().stage("ingest") as progress:
        once = ingest(experiment(gsm8k, out), out / "once", progress)
    blocks, written = [], 0
    for round_number in range(count):
        for block in once.blocks:
            table = pq.read_table(out / "once" / block.file).slice(0, count - written)
            if not table.num_rows:
                manifest = Manifest(kind="corpus", fingerprint=f"{once.fingerprint}/{count}", blocks=tuple(blocks))
                manifest.write(out / "corpus")
                return out / "corpus"
            ids = pa.array([f"{record}/{round_number}" for record in table["record_id"].to_pylist()])
            table = table.set_column(0, "record_id", ids)
            name, write = f"{round_number:04d}-{block.name}", lambda path, table=table: pq.write_table(table, path)
            blocks.append(
                write_block(out / "corpus", name, ".parquet", block.fingerprint, table.num_rows, write, **block.facts)
            )
            written += table.num_rows
    raise AssertionError("GSM8K is empty")


def experiment(gsm8k: Path, out: Path, tokenizer: Path | None = None, workers: int = 2):
    from raysae.types import Experiment

    return Experiment.model_validate(
        {
            "name": "benchmark",
            "out": out,
            "corpus": {"name": "gsm8k", "path": gsm8k},
            # Any model whose embedding holds the ids: its weights are never made.
            "model": {"name": "gpt2" if tokenizer else "tiny-gsm8k", "randomize": tokenizer is not None},
            "tokenizer": {"path": tokenizer and tokenizer.absolute(), "workers": workers},
        }
    )


def bare(corpus: Path, chosen: argparse.Namespace) -> tuple[float, float]:
    """(wall seconds of the slowest process, CPU seconds of all) spent in the loop alone."""
    command = [sys.executable, __file__, str(chosen.gsm8k), "--corpus", str(corpus)]
    command += ["--tokenizer", str(chosen.tokenizer)] if chosen.tokenizer else []
    processes = [
        subprocess.Popen([*command, "--bare", str(i), str(chosen.workers)], stdout=subprocess.PIPE, text=True)
        for i in range(chosen.workers)
    ]
    seconds = [tuple(map(float, process.communicate()[0].split())) for process in processes]
    return max(wall for wall, _ in seconds), sum(cpu for _, cpu in seconds)


def bare_loop(corpus: Path, tokenizer: Path | None, index: int, of: int) -> None:
    import pyarrow.parquet as pq

    from raysae.models.load import load_tokenizer
    from raysae.store import Manifest

    config = experiment(Path(), Path(), tokenizer)
    loaded = load_tokenizer(config.model, config.tokenizer)
    texts = [
        text
        for block in Manifest.read(corpus).blocks[index::of]
        for text in pq.read_table(corpus / block.file, columns=["text"])["text"].to_pylist()
    ]
    wall, cpu = time.perf_counter(), time.process_time()
    for first in range(0, len(texts), BATCH):
        loaded(texts[first : first + BATCH], return_attention_mask=False)
    sys.stdout.write(f"{time.perf_counter() - wall} {time.process_time() - cpu}")


def stage(corpus: Path, chosen: argparse.Namespace, out: Path) -> tuple[float, float, int, int]:
    """(wall seconds, CPU seconds of all processes, tokens, peak bytes above Ray alone)."""
    from raysae.models.load import load_tokenizer
    from raysae.stages.progress import Reporter
    from raysae.stages.resources import disconnect
    from raysae.stages.tokenize import tokenize

    time.sleep(5)  # the workers of `ingest` have ended
    before = tree_memory()
    config = experiment(chosen.gsm8k, out, chosen.tokenizer, chosen.workers)
    load_tokenizer(config.model, config.tokenizer)
    with watched() as (memory, cpu), Reporter().stage("tokenize") as progress:
        at_start, started = tree_cpu(), time.perf_counter()
        manifest = tokenize(config, corpus, out / "tokens", out / "labels", out / "alignment", progress)
        wall = time.perf_counter() - started
        cpu.update(tree_cpu())
    spent = sum(seconds - at_start.get(process, 0) for process, seconds in cpu.items())
    disconnect()
    return wall, spent, manifest.extra["tokens"], max(memory) - before


@contextmanager
def watched() -> Iterator[tuple[list[int], dict[int, float]]]:
    """(bytes at each look, CPU seconds of every process when it was last seen: Ray's workers end within the stage)."""
    memory, cpu = [0], {}
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.5):
            memory.append(tree_memory())
            cpu.update(tree_cpu())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield memory, cpu
    finally:
        stop.set()
        thread.join()


def tree() -> list[int]:
    """This process and everything below it."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue  # it has ended
    found = [os.getpid()]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found


def tree_memory() -> int:
    """Bytes of proportional set size: what several processes share is counted once."""
    total = 0
    for process in tree():
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().split("\n")
        except OSError:
            continue
        total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def tree_cpu() -> dict[int, float]:
    """Process -> its CPU seconds."""
    found: dict[int, float] = {}
    for process in tree():
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        found[process] = sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    return found


if __name__ == "__main__":
    main()
