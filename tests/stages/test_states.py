"""Phase 1 in small: states without a model go the same road as activations, and what is planted is what is found."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from raysae.checks import check
from raysae.errors import BadInput
from raysae.falsification.criterion import F1_RECOVERED
from raysae.falsification.metrics.coherence import Unit
from raysae.pipeline import run
from raysae.saes import build, checkpoint, tied_dictionary
from raysae.stages.court import Court, Examination
from raysae.stages.exhibits.state_edits import HELD, StateEdits, edited_units, reader, state_pairs
from raysae.stages.measure import factor_matrix
from raysae.stages.progress import Reporter
from raysae.stages.states import directions, truth
from raysae.store import ActivationStore, Manifest, TokenStore
from raysae.types import Experiment, HookPoint, Split
from raysae.types.experiment import ModelConfig, stream_seed
from raysae.types.loading import load
from raysae.worlds.states import factor_names
from raysae.worlds.strata import activations
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
rivals: {relu_l1: {architecture: relu, l1: 0.1}}
protocol:
  {criteria: [alignment, causal_interchange], observations: [interventional],
   permutations: 60, bootstrap: 200, pairs: 20,
   nulls: [random_model, random_dictionary, permuted_labels, matched_latents, random_direction]}
beside:
  superposed: {model: {name: superposed, width: 30}, rivals: {}, train: {steps: 20},
               protocol: {criteria: [alignment], observations: [], nulls: [permuted_labels]}}
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


def test_planted_factors_are_found_and_no_null_finds_them(finished: Path) -> None:
    verdict = json.loads((finished / "verdict.json").read_text())
    aligned, moved = verdict["criteria"]["alignment"], verdict["criteria"]["causal_interchange"]
    registered = json.loads((finished / "protocol.json").read_text())["protocol"]
    assert aligned["n"] == moved["n"] == len(registered["factors"]) == len(registered["causal_units"]) == 29
    assert registered["causal_units"] == registered["factors"]
    assert aligned["value"] > 0.9 and moved["value"] > 0.8
    for row in (aligned, moved):
        assert row["outcome"] != "GO", "two seeds are never enough"
        assert all(null["p95"] == 0 for null in row["nulls"].values())
    assert set(moved["nulls"]) == {"random_model", "permuted_labels", "matched_latents", "random_direction"}
    held = states(finished, "main", Split.FIT)[1].sum(axis=1).mean()
    assert registered["l0_cap"] == pytest.approx(1.25 * held)


def test_what_stands_beside_the_number_is_measured_and_shown(finished: Path) -> None:
    measured = json.loads((finished / "metrics" / "metrics.json").read_text())
    metric, observed = measured["criteria"]["alignment"], measured["observations"]["interventional"]
    also = metric["also"]
    assert also["rival relu_l1"] < metric["value"] - 0.2, "an L1 weight under which hardly anything fires"
    assert also["cosine"] > 0.9 and also["purity"] > 0.9 and also["absorption"] < 0.1
    assert also["whole_state"] > 0.6
    assert metric["gates"][0]["name"] == "mcc"
    assert observed["value"] > 0.9 and observed["n"] == 29, "states that the machine never comes to"
    assert observed["nulls"]["random_dictionary"]["mean"] == 0
    beside = json.loads((finished.parent / "tiny-superposed" / "verdict.json").read_text())
    assert beside["criteria"]["alignment"]["value"] < 0.5, "twenty steps"
    page = (finished / "report.html").read_text()
    assert 'href="../tiny-superposed/report.html"' in page
    assert "architecture=relu, l1=0.1" in page


def examination(finished: Path, config: Path, **protocol: object) -> Examination:
    """The first SAE of the real arm, or what stands in for it."""
    experiment = load(config, [f"out={finished.parent}"])
    changed = experiment.model_copy(update={"protocol": experiment.protocol.model_copy(update=protocol)})
    return Court(changed).examine("main", 0)


def test_the_true_dictionary_is_aligned_and_its_edits_lead_to_the_predicted_states(
    finished: Path, config: Path
) -> None:
    exam = examination(finished, config)
    rows = torch.from_numpy(truth(exam.experiment).directions).float()
    like = exam.sae.requires_grad_(False)
    like.b_dec.zero_()
    exam.__dict__["sae"] = tied_dictionary(rows, like, exam.protocol.l0_cap / 1.25, exam.fit.x).requires_grad_(False)
    assert (exam.matched.test_f1 == 1).all()
    units = [Unit(**unit) for unit in edited_units(exam)["units"]]
    assert [unit.name for unit in units] == list(exam.protocol.causal_units)
    assert all(unit.latents == unit.ceiling == 1 for unit in units)
    assert max(max(unit.matched) for unit in units) == 0, "a random latent led to the predicted state"
    assert max(unit.random_direction for unit in units) < 0.2


def test_an_edit_that_does_nothing_and_one_that_copies_everything_fail(finished: Path, config: Path) -> None:
    exam = examination(finished, config)
    judge = StateEdits(exam, SYSTEMS["stack_machine"])
    for variable, values in SYSTEMS["stack_machine"].variables.items():
        pairs = state_pairs(exam.court, "stack_machine", variable, values)
        for rows in (pairs.base, pairs.source):
            assert judge.success(pairs, exam.test.x[rows] @ judge.reader).max() == 0


@pytest.mark.parametrize("name", ["rotated", "superposed"])
def test_the_state_of_a_system_is_read_without_an_error_in_both_strata(name: str) -> None:
    whole = truth(Experiment.model_validate({"name": "x", "model": {"name": name}, "corpus": {"name": list(SYSTEMS)}}))
    rng = np.random.default_rng(0)
    for system in SYSTEMS:
        own = np.array([factor.startswith(f"{system}.") for factor in whole.names])
        factors = own & (rng.random((2000, len(own))) < 0.1)
        x = torch.from_numpy(activations(factors, whole.directions, rng))
        amplitude = x @ reader(torch.from_numpy(whole.directions[own]))
        assert ((amplitude.numpy() > HELD) == factors[:, own]).all()


@pytest.mark.parametrize("null", ["permuted_labels", "random_dictionary", "random_model"])
def test_a_null_in_the_real_arms_place_recovers_nothing(null: str, finished: Path, config: Path) -> None:
    exam = examination(finished, config, stand_in=null)
    assert (exam.matched.test_f1 < F1_RECOVERED).all()
    assert not (examination(finished, config).matched.test_f1 < F1_RECOVERED).all()


def test_a_stand_in_must_be_a_registered_null(config: Path) -> None:
    with pytest.raises(
        BadInput, match="protocol.stand_in=frozen_decoder; allowed: random_model, random_dictionary, perm"
    ):
        check(load(config, ["protocol.stand_in=frozen_decoder"]))
    with pytest.raises(BadInput, match="rivals.random_model"):
        check(load(config, ["rivals={random_model: {l1: 1}}"]))
