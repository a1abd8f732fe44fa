"""Streamed activations: the rows of the cache, no file of them, and the same SAEs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from raysae.models.describe import BUNDLED
from raysae.stages.jobs import plan
from raysae.store import ActivationStore, GuideColumns, Manifest
from raysae.types import HookPoint, Split
from raysae.types.loading import load
from tests.conftest import GSM8K
from tests.runs import copy_before, hashes, in_process, kill_when, outcomes, overrides

POINT = HookPoint(layer=1, site="resid_post")
ULP = 2**-10
"""Of float16, relative: a token is stored as a number that differs by one, where it came through the model in another
batch."""


@pytest.fixture(scope="module")
def streamed(undisturbed: Path, tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("streamed")
    folder = copy_before("capture", undisturbed, out)
    done = in_process("run", str(tiny_config), *overrides(out), "activations.mode=stream")
    assert done.returncode == 0, done.stderr
    return folder


def store(folder: Path, tiny_config: Path) -> ActivationStore:
    experiment = load(tiny_config, [f"out={folder.parent}"])
    job = plan(experiment, folder / "activations", folder / "sae")[0]
    return ActivationStore(job.activations, feed=job.made_by.rows if job.made_by else None)


def test_train_leaves_its_statistics_and_no_rows(streamed: Path, undisturbed: Path) -> None:
    for arm in ("main", "random_model"):
        blocks, cached = (Manifest.read(folder / "activations" / arm).blocks for folder in (streamed, undisturbed))
        assert [block.name for block in blocks] == [block.name for block in cached]
        for block, whole in zip(blocks, cached, strict=True):
            assert block.file.endswith(".parquet") == (block.facts["split"] != Split.TRAIN)
            if block.facts["split"] == Split.TRAIN:
                assert (block.rows, block.facts["statistics"]) == (whole.rows, whole.facts["statistics"])
                assert (
                    json.loads((streamed / "activations" / arm / block.file).read_text()) == whole.facts["statistics"]
                )


def test_held_out_blocks_hold_what_will_be_read(streamed: Path, undisturbed: Path) -> None:
    kept = {block.name: block for block in Manifest.read(streamed / "activations" / "main").blocks}
    for whole in Manifest.read(undisturbed / "activations" / "main").blocks:
        if whole.facts["split"] == Split.TRAIN:
            continue
        columns = ["record", "position", str(POINT)]
        mine, theirs = (
            pq.read_table(folder / "activations" / "main" / f"{whole.name}.parquet", columns=columns)
            for folder in (streamed, undisturbed)
        )
        assert len(mine) == kept[whole.name].rows <= whole.rows
        assert mine["record"].to_pylist() == theirs["record"].to_pylist()[: len(mine)]


@pytest.mark.usefixtures("in_this_process")
def test_the_same_rows_in_the_same_order_from_any_step(streamed: Path, undisturbed: Path, tiny_config: Path) -> None:
    guides = GuideColumns("operation", pairs=True)
    stores = [store(folder, tiny_config) for folder in (streamed, undisturbed)]
    for start, wanted in ((0, None), (37, None), (5, guides)):
        mine, cached = (list(s.batches(POINT, 256, 3, start_step=start, steps=40, guides=wanted)) for s in stores)
        assert len(mine) == len(cached) == 40
        for one, other in zip(mine, cached, strict=True):
            np.testing.assert_allclose(one, other, rtol=ULP, atol=ULP)
            assert np.array_equal(one[:, 64:], other[:, 64:])
    for s in stores:
        assert s.same_document(256, 3) == stores[0].same_document(256, 3)


def test_the_same_saes_and_the_same_verdict(streamed: Path, undisturbed: Path) -> None:
    assert outcomes(streamed).keys() == outcomes(undisturbed).keys()
    for path in sorted((undisturbed / "sae").rglob("sae_weights.safetensors")):
        cached, mine = load_file(path), load_file(streamed / path.relative_to(undisturbed))
        alike = (cached["W_dec"] * mine["W_dec"]).sum(axis=1)
        assert np.median(alike) > 0.999, path
    for name, (outcome, value, _) in outcomes(undisturbed).items():
        assert outcomes(streamed)[name][0] == outcome
        assert outcomes(streamed)[name][1] == pytest.approx(value, abs=0.05)


@pytest.mark.usefixtures("in_this_process")
def test_streamed_rows_are_for_training_alone(streamed: Path) -> None:
    alone = ActivationStore(streamed / "activations" / "main")
    with pytest.raises(Exception, match="TRAIN of .* was not kept .activations.mode=stream.; only train and sweep"):
        next(alone.batches(POINT, 256, 0))


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYSAE_LOCAL", "1")


@pytest.mark.slow
def test_killed_in_the_middle_of_a_stream_training_ends_with_the_same_weights(
    streamed: Path, tiny_config: Path, tmp_path: Path
) -> None:
    folder = copy_before("train", streamed, tmp_path)
    command = ["train", str(tiny_config), *overrides(tmp_path), "activations.mode=stream"]
    assert kill_when((folder / "sae" / "main" / "1.checkpoint.safetensors").is_file, *command)
    assert not Manifest.exists(folder / "sae" / "main" / "1")
    again = in_process(*command)
    assert again.returncode == 0, again.stderr
    assert hashes(folder, "sae") == hashes(streamed, "sae")


GSM = """
name: gsm
corpus: {name: gsm8k, path: %s, records: 600, block_records: 200, splits: {fit: 0.15, test: 0.1}}
tokenizer: {block_tokens: 32768}
model: {name: tiny-gsm8k}
capture: {hookpoints: [layers.2.resid_post], batch_tokens: 4096}
sae: {architecture: batch_topk, expansion: 4, k: 12}
train: {steps: 200, batch_tokens: 1024, seeds: 1}
protocol: {criteria: [reconstruction, sparsity], nulls: [random_dictionary], bootstrap: 200, test_tokens: 20000}
"""


@pytest.mark.slow
@pytest.mark.skipif(not GSM8K.is_dir(), reason=f"GSM8K is not at {GSM8K}")
def test_gsm8k_cached_and_streamed_by_name_and_by_folder_ends_in_the_same_sae(tmp_path: Path) -> None:
    config = tmp_path / "gsm.yaml"
    config.write_text(GSM % GSM8K)
    shutil.copytree(BUNDLED / "tiny-gsm8k", tmp_path / "model")
    weights, values = {}, {}
    for mode in ("cache", "stream"):
        for model in ([], [f"model.path={tmp_path / 'model'}"]):
            out = tmp_path / mode / str(len(model))
            done = in_process("run", str(config), *overrides(out), f"activations.mode={mode}", *model)
            assert done.returncode == 0, done.stderr
            weights[mode, len(model)] = load_file(out / "gsm" / "sae" / "main" / "0" / "sae_weights.safetensors")
            values[mode, len(model)] = outcomes(out / "gsm")["reconstruction"][1]  # type: ignore[index]
    for mode in ("cache", "stream"):
        for name, tensor in weights[mode, 0].items():
            assert np.array_equal(tensor, weights[mode, 1][name]), "a folder is another model than the same by name"
    alike = (weights["cache", 0]["W_dec"] * weights["stream", 0]["W_dec"]).sum(axis=1)
    assert np.median(alike) > 0.999
    assert np.quantile(alike, 0.1) > 0.995
    assert values["stream", 0] == pytest.approx(values["cache", 0], abs=0.002)
