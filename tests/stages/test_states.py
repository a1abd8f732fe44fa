"""Phase 1 in small: states without a model go the same road as activations, and what is planted is what is found."""

from pathlib import Path

import numpy as np
import pytest

from raysae.errors import BadInput
from raysae.pipeline import check, run
from raysae.saes import build, checkpoint
from raysae.stages.measure import factor_matrix
from raysae.stages.progress import Reporter
from raysae.stages.states import directions
from raysae.store import ActivationStore, Manifest, TokenStore
from raysae.types import HookPoint, Split
from raysae.types.experiment import ModelConfig, stream_seed
from raysae.types.loading import load
from raysae.worlds.states import factor_names
from raysae.worlds.systems import SYSTEMS
from tests.runs import hashes

MAP = ModelConfig(name="rotated", width=48)
POINT = HookPoint(layer=0, site="resid_post")
TINY = """
name: tiny
corpus: {name: stack_machine, records: 300, splits: {fit: 0.2, test: 0.4}}
tokenizer: {block_tokens: 2048}
model: {name: rotated, width: 48}
capture: {hookpoints: [layers.0.resid_post], dtype: float32}
sae: {expansion: 2, k: 6}
train: {steps: 250, batch_tokens: 256, seeds: 2, lr: 0.01, shards: 1, workers: 1}
protocol:
  {criteria: [alignment], permutations: 20, bootstrap: 200, alive_rate: 0.001,
   nulls: [random_model, random_dictionary, frozen_decoder, permuted_labels]}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("states") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def finished(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYSAE_LOCAL", "1")
        run(load(config, [f"out={out}"]), Reporter())
    return out / "tiny"


def states(folder: Path, arm: str, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Activations and factors of every token of a split."""
    store, tokens = ActivationStore(folder / "activations" / arm, tuple(Split)), TokenStore(folder / "tokens")
    names = factor_names([SYSTEMS["stack_machine"]])
    x = [store.read(block, POINT).activations for block in store.blocks(split)]
    factors = [factor_matrix(tokens.labels(block), names) for block in tokens.blocks(split)]
    return np.concatenate(x), np.concatenate(factors)


def test_an_activation_holds_the_state_of_its_own_token_and_the_twin_that_of_another(finished: Path) -> None:
    x, factors = states(finished, "main", Split.TEST)
    rows = directions(MAP, factors.shape[1], seed=0)
    assert ((x @ rows.T > 0.5) == factors).all()
    assert np.abs(x - (x @ rows.T) @ rows).max() < 0.1, "something beside the state was written"
    other, _ = states(finished, "random_model", Split.TEST)
    seed = Manifest.read(finished / "activations" / "random_model").extra["twin_seed"]
    read = other @ directions(MAP, factors.shape[1], seed).T > 0.5
    assert (read.sum(axis=0) == factors.sum(axis=0)).all()
    assert (read == factors).all(axis=1).mean() < 0.02


def test_no_two_blocks_share_noise_and_the_same_run_has_the_same_bytes(
    finished: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYSAE_LOCAL", "1")
    run(load(config, [f"out={tmp_path}"]), Reporter(), "capture")
    assert hashes(tmp_path / "tiny", "activations") == hashes(finished, "activations")
    store = ActivationStore(finished / "activations" / "main", tuple(Split))
    rows = directions(MAP, 45, seed=0)
    first, second = (store.read(block, POINT).activations for block in store.manifest.blocks[:2])
    noise = [part - part @ rows.T @ rows for part in (first, second)]
    assert np.abs(np.corrcoef(noise[0][:1500].ravel(), noise[1][:1500].ravel())[0, 1]) < 0.1


def test_no_sae_begins_near_a_true_direction(finished: Path) -> None:
    rows = directions(MAP, 45, seed=0)
    for number in range(2):
        fresh = build("batch_topk", 48, 96, 6, stream_seed(0, f"sae/{number}/init")).W_dec.detach().numpy()
        learnt = checkpoint.load(finished / "sae" / "main" / str(number)).W_dec.detach().numpy()
        assert np.abs(fresh @ rows.T).max() < 0.7, "the answer was planted in the initialisation"
        assert np.abs(learnt @ rows.T).max() > 0.9


def test_what_does_not_belong_together_is_refused_before_anything_is_written(config: Path) -> None:
    for overrides, said in (
        (["corpus.name=arithmetic_cot"], "whose states it writes"),
        (["model.width=40"], "45 factors in 40 dimensions"),
        (["model.name=superposed"], "45 factors in 48 dimensions"),
        (["model.name=tiny-cot"], "model.width=48 for tiny-cot"),
        (["protocol.criteria=[fidelity]"], "fidelity of states without a model"),
        (["protocol.observations=[hook_sweep]"], "hook_sweep of states without a model"),
    ):
        with pytest.raises(BadInput, match=said):
            check(load(config, overrides))
    check(load(config, ["model.name=superposed", "model.width=36"]))
    check(load(config, ["model.name=superposed", "model.width=null", "corpus.name=[stack_machine,bfs,dfs]"]))
