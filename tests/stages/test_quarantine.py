"""A document that the storage type cannot hold stops the run, or is left out everywhere and counted."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from raysae.models.describe import BUNDLED
from raysae.models.load import load_model
from raysae.stages.court import Court
from raysae.store import ActivationStore, GuideColumns, Manifest, TokenStore
from raysae.store.order import row_groups, shown
from raysae.types import HookPoint, Split
from raysae.types.experiment import ModelConfig
from raysae.types.loading import load
from tests.runs import in_process, overrides

POINT = HookPoint(layer=1, site="resid_post")
RARE = 13
"""A token whose embedding is broken: some documents have it and most do not."""

CONFIG = """
name: broken
corpus: {name: arithmetic_cot, records: 300, block_records: 100, splits: {fit: 0.2, test: 0.3}}
tokenizer: {block_tokens: 4000, name: tiny-cot}
capture: {hookpoints: [layers.1.resid_post]}
sae: {architecture: batch_topk, expansion: 2, k: 4}
train: {steps: 30, batch_tokens: 256, seeds: 1}
protocol:
  {criteria: [reconstruction, fidelity, alignment], nulls: [random_dictionary], permutations: 20, bootstrap: 200,
   test_tokens: 4000, test_documents: 40}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny-cot with one embedding that is no number."""
    folder = tmp_path_factory.mktemp("model")
    broken = load_model(ModelConfig(name="tiny-cot"))
    with torch.no_grad():
        broken.transformer.wte.weight[RARE] = torch.nan
        broken.lm_head.weight = torch.nn.Parameter(load_model(ModelConfig(name="tiny-cot")).lm_head.weight.clone())
    broken.config.tie_word_embeddings = False
    broken.save_pretrained(folder)
    for path in (BUNDLED / "tiny-cot").glob("tokenizer*"):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture(scope="module")
def command(model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    config = tmp_path_factory.mktemp("config") / "broken.yaml"
    config.write_text(CONFIG)
    return [str(config), f"model.path={model}"]


@pytest.fixture(scope="module")
def run(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("quarantined")
    done = in_process("run", *command, *overrides(out), "capture.quarantine=true")
    assert done.returncode == 0, done.stderr
    assert "documents quarantined" in done.stdout
    return out / "broken"


def broken_records(run: Path) -> set[str]:
    tokens = TokenStore(run / "tokens")
    return {record for block in tokens.blocks() for record, ids, _ in tokens.documents(block) if RARE in ids}


def test_without_quarantine_the_first_such_token_is_named(command: list[str], tmp_path: Path) -> None:
    done = in_process("run", *command, *overrides(tmp_path))
    assert done.returncode == 2
    (line,) = done.stderr.strip().split("\n")
    assert "activation nan at layers.1.resid_post, token" in line


def test_exactly_the_documents_with_such_a_token_are_left_out_and_listed(run: Path) -> None:
    expected = broken_records(run)
    assert 0 < len(expected) < 150
    listed = set()
    for block in Manifest.read(run / "activations" / "main").blocks:
        for document in block.facts.get("quarantined", ()):
            listed.add(document["record"])
            assert document["hookpoint"] == str(POINT)
            assert document["components"] % 64 == 0
        assert np.isfinite(block.facts["statistics"][str(POINT)]["rms"])
        frame = pd.read_parquet(run / "activations" / "main" / block.file)
        assert len(frame) == block.rows
        assert (frame[str(POINT)].isna() == frame["record"].isin(expected)).all()
    assert listed == expected


def test_training_sees_every_other_row_once_with_its_own_label(run: Path) -> None:
    store = ActivationStore(run / "activations" / "main")
    blocks = store.blocks(Split.TRAIN)
    rows = sum(int(shown(block).sum()) for block in blocks)
    assert rows == sum(group.rows for group in row_groups(blocks)) < sum(block.rows for block in blocks)
    expected = np.concatenate([store.read(block, POINT).activations for block in blocks])
    name, _ = store.label_values(None)
    labels = np.concatenate([store.labels(block, name) for block in blocks])
    assert np.isfinite(expected).all()
    found = np.concatenate(list(store.batches(POINT, 1, 0, steps=rows, guides=GuideColumns(name, pairs=False))))
    labelled = np.column_stack([expected, labels])
    assert sorted(map(tuple, found[:, :65].tolist())) == sorted(map(tuple, labelled.tolist()))


def test_the_court_reads_none_of_them_and_the_verdict_says_how_many(run: Path, command: list[str]) -> None:
    court = Court(load(Path(command[0]), [*command[1:], f"out={run.parent}", "capture.quarantine=true"]))
    sample, left_out = court.sample("main", Split.TEST), broken_records(run)
    assert not left_out & set(sample.records)
    assert len(sample.document.unique()) == sample.documents
    assert not any(RARE in ids for ids in court.test_ids)
    assert not left_out & {record.record_id for record in court.records}
    assert all(len(values) == len(sample.x) for values in sample.labels.values())
    verdict = json.loads((run / "verdict.json").read_text())
    assert all(np.isfinite(row["value"]) for row in verdict["criteria"].values() if row["value"] is not None)
    assert sum("Left out of TEST (main): " in remark for remark in verdict["remarks"]) == 1


def test_a_stream_cannot_know_beforehand(command: list[str], tmp_path: Path) -> None:
    settings = ["capture.quarantine=true", "activations.mode=stream"]
    done = in_process("run", *command, *overrides(tmp_path), *settings)
    assert done.returncode == 2
    assert "type activations.mode=cache" in done.stderr
