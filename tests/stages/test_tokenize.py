"""Token blocks: the same bytes for any number of workers and after a kill, and every text comes back from them."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from raysae.corpora.encoding import Encoder
from raysae.pipeline import run
from raysae.stages.progress import Reporter
from raysae.store import Manifest, TokenStore
from raysae.types.loading import load
from tests.conftest import GSM8K
from tests.runs import hashes, in_process, kill_when, raysae

SMALL = """
corpus: {name: gsm8k, records: 120, block_records: 30, splits: {fit: 0.2, test: 0.2}}
model: {name: tiny-gsm8k}
tokenizer: {block_tokens: 3000}
"""

pytestmark = pytest.mark.skipif(not GSM8K.is_dir(), reason=f"the GSM8K files are not at {GSM8K}")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


def tokenize(config: Path, name: str, *overrides: str) -> Path:
    """The run folder, made in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYSAE_LOCAL", "1")
        chosen = [f"out={config.parent / 'runs'}", f"name={name}", f"corpus.path={GSM8K}", *overrides]
        run(load(config, chosen), Reporter(), "tokenize")
    return config.parent / "runs" / name


def texts(folder: Path) -> dict[str, str]:
    blocks = Manifest.read(folder / "corpus").blocks
    rows = [row for block in blocks for row in pq.read_table(folder / "corpus" / block.file).to_pylist()]
    return {row["record_id"]: row["text"] for row in rows}


def detokenized(folder: Path) -> dict[str, str]:
    """Record -> the text its tokens stand for, put together from all rows that hold some of them; EOS left out."""
    pieces: dict[str, dict[int, list[int]]] = defaultdict(dict)
    for block in Manifest.read(folder / "tokens").blocks:
        for row in pq.read_table(folder / "tokens" / block.file).to_pylist():
            ends = [*row["document_starts"][1:], len(row["input_ids"])]
            for record, start, end in zip(row["documents"], row["document_starts"], ends, strict=True):
                first = row["skipped"] if start == 0 and record == row["documents"][0] else 0
                assert first not in pieces[record], "tokens twice"
                pieces[record][first] = row["input_ids"][start:end]
    encoder = Encoder((folder / "tokens" / "tokenizer.json").read_text(), 0)
    found = {}
    for record, parts in pieces.items():
        ids = [token for first in sorted(parts) for token in parts[first]]
        assert [first for first in sorted(parts)][1:] == np.cumsum([len(parts[f]) for f in sorted(parts)])[:-1].tolist()
        assert ids[-1] == 0, "a document ends in EOS"
        found[record] = encoder.decode(ids[:-1])
    return found


@pytest.mark.parametrize("overrides", [[], ["tokenizer.overflow=window"], ["tokenizer.layout=packed"]])
@pytest.mark.parametrize("ctx_len", [32, 512])
def test_detokenized_blocks_give_back_every_text(config: Path, overrides: list[str], ctx_len: int) -> None:
    folder = tokenize(config, "x", f"tokenizer.ctx_len={ctx_len}", *overrides)
    known = texts(folder)
    if not overrides and ctx_len == 32:  # truncated
        manifest = Manifest.read(folder / "tokens")
        assert manifest.extra["truncated_tokens"] > 0
        assert all(block.facts["longest"] == 32 for block in manifest.blocks)
        return
    assert detokenized(folder) == known
    assert Manifest.read(folder / "tokens").extra["truncated_tokens"] == 0


def test_blocks_are_filled_across_corpus_blocks_and_described(config: Path) -> None:
    folder = tokenize(config, "x")
    manifest, store = Manifest.read(folder / "tokens"), TokenStore(folder / "tokens")
    assert len(manifest.blocks) < len(Manifest.read(folder / "corpus").blocks) * 3
    for block, after in zip(manifest.blocks, manifest.blocks[1:], strict=False):
        facts = block.facts
        ids = [ids for _, ids, _ in store.documents(block)]
        assert facts["tokens"] == sum(map(len, ids)) <= 3000
        if after.facts["split"] == facts["split"]:
            next_row = next(store.documents(after))[1]
            assert facts["tokens"] + len(next_row) > 3000, "the next document would have fitted"
        assert facts["shape"] == [len(ids), None]
        assert (facts["dtype"], ids[0].dtype) == ("int32", np.int32)
        assert {block.name} == {b.name for b in Manifest.read(folder / "labels").blocks if b.name == block.name}
    assert manifest.extra["corpus_fingerprint"] == Manifest.read(folder / "corpus").fingerprint
    assert len(manifest.extra["tokenizer_sha256"]) == 64
    assert not (folder / "tokens" / "parts").exists()


def test_packed_rows_are_as_long_as_the_context(config: Path) -> None:
    folder = tokenize(config, "x", "tokenizer.layout=packed", "tokenizer.ctx_len=64")
    manifest, store = Manifest.read(folder / "tokens"), TokenStore(folder / "tokens")
    for split in ("TRAIN", "FIT", "TEST"):
        blocks = [block for block in manifest.blocks if block.facts["split"] == split]
        lengths = [len(ids) for block in blocks for _, ids, _ in store.documents(block)]
        assert set(lengths[:-1]) == {64}
        assert all(block.facts["shape"] == [46, 64] for block in blocks[:-1])
    names = [record for block in manifest.blocks for record, _, _ in store.documents(block)]
    assert len(set(names)) == len(names)
    assert manifest.extra["layout"] == "packed"


def test_labels_are_in_the_order_of_the_tokens(config: Path) -> None:
    folder = tokenize(config, "x", "tokenizer.ctx_len=40", "tokenizer.overflow=window")
    store = TokenStore(folder / "tokens")
    for block, labels in zip(store.blocks(), Manifest.read(folder / "labels").blocks, strict=True):
        found = pq.read_table(folder / "labels" / labels.file, columns=["record", "position"]).to_pylist()
        expected = [(record, at) for record, ids, _ in store.documents(block) for at in range(len(ids))]
        assert [(row["record"], row["position"]) for row in found] == expected


@pytest.mark.parametrize("seen", ["parts/gsm8k-train-train-00001.json", "train-00001.json"])
def test_a_kill_in_either_half_ends_as_if_undisturbed(config: Path, seen: str) -> None:
    undisturbed = tokenize(config, "undisturbed")
    folder = config.parent / "runs" / "killed"
    command = ["tokenize", str(config), f"out={folder.parent}", "name=killed", f"corpus.path={GSM8K}"]
    assert kill_when((folder / "tokens" / seen).is_file, *command)
    assert not Manifest.exists(folder / "tokens"), "the kill came too late to test anything"
    times = {path: path.stat().st_mtime_ns for kind in ("arrow", "parquet") for path in folder.rglob(f"*.{kind}")}
    again = in_process(*command)
    assert again.returncode == 0, again.stderr
    assert hashes(folder) == hashes(undisturbed)
    redone = [path for path, stamp in times.items() if path.exists() and path.stat().st_mtime_ns != stamp]
    assert len(redone) <= 2, "more than what was in flight was done again"


@pytest.mark.ray
@pytest.mark.slow
def test_one_two_and_four_workers_write_the_same_bytes(config: Path) -> None:
    ends = []
    for workers in (1, 2, 4):
        name = f"of{workers}"
        out = config.parent / "runs"
        chosen = [f"out={out}", f"name={name}", f"corpus.path={GSM8K}", f"tokenizer.workers={workers}"]
        done = raysae("tokenize", str(config), *chosen, local=False)
        assert done.returncode == 0, done.stderr
        ends.append(hashes(out / name))
    assert ends[0] == ends[1] == ends[2] == hashes(tokenize(config, "alone"))


def test_packing_needs_an_eos(config: Path, tmp_path: Path) -> None:
    definition = tmp_path / "words"
    definition.mkdir()
    source = json.loads((Path(__file__).parents[2] / "raysae/models/bundled/tiny-gsm8k/tokenizer.json").read_text())
    (definition / "tokenizer.json").write_text(json.dumps(source))
    chosen = [f"out={tmp_path / 'runs'}", f"corpus.path={GSM8K}", f"tokenizer.path={definition}"]
    result = in_process("tokenize", str(config), *chosen, "tokenizer.layout=packed")
    assert result.returncode == 2
    assert "has no EOS" in result.stderr
