"""Phase 2 in small: bracket machines on the road of every experiment, judged by what is known of them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from raysae.falsification.metrics.coherence import Unit, judge
from raysae.models.compiled.registers import CODED, registers
from raysae.saes import tied_dictionary
from raysae.stages.court import Court, Examination
from raysae.stages.exhibits.interchange import INTERCHANGE, WRONG_SITE
from raysae.stages.exhibits.known_circuit import readable
from raysae.types.loading import load
from tests.runs import in_process

TINY = """
name: tiny
corpus: {name: [brackets_a, brackets_c], records: 260, splits: {fit: 0.2, test: 0.5}}
tokenizer: {block_tokens: 4096}
model: {name: compiled}
capture: {hookpoints: [layers.1.resid_post], dtype: float32}
sae: {expansion: 1, k: 4}
train: {steps: 30, batch_tokens: 256, seeds: 1, shards: 1, workers: 1}
protocol:
  {criteria: [causal_interchange], permutations: 20, bootstrap: 200, pairs: 20, least_f1: 0.9,
   nulls: [random_model, permuted_labels, matched_latents, random_direction, wrong_site]}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compiled") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def finished(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    result = in_process("run", str(config), f"out={out}")
    assert result.returncode == 0, result.stderr
    return out / "tiny"


@pytest.fixture
def exam(finished: Path, config: Path) -> Examination:
    """With the true codes as its dictionary."""
    found = Court(load(config, [f"out={finished.parent}"])).examine("main", 0)
    code = registers("compiled", 0).code
    like = found.sae.requires_grad_(False)
    like.b_dec.zero_()
    rows = torch.from_numpy(np.stack([code[name] for name in CODED])).float()
    oracle = tied_dictionary(rows, like, 3.0, found.fit.x).requires_grad_(False)
    oracle.threshold.fill_(0.5)
    found.__dict__["sae"] = oracle
    return found


def test_every_value_of_both_machines_is_registered_and_the_evidence_says_what_each_edit_did(finished: Path) -> None:
    registered = json.loads((finished / "protocol.json").read_text())["protocol"]
    assert len(registered["causal_units"]) == (5 + 2 + 3) + (5 + 3 + 3)
    assert registered["least_f1"] == 0.9
    metric = json.loads((finished / "metrics" / "metrics.json").read_text())["criteria"]["causal_interchange"]
    assert metric["n"] == 21 and metric["also"]["mean_ceiling_j"] == 1.0
    assert 0 <= metric["also"]["precision_low"] <= metric["also"]["precision"] <= metric["also"]["precision_high"] <= 1
    assert set(metric["nulls"]) == {
        "random_model", "permuted_labels", "matched_latents", "random_direction", "wrong_site"
    }  # fmt: skip
    assert all(null["p95"] == 0 for null in metric["nulls"].values())
    assert 0 <= metric["also"]["any_change"] <= 1 and 0 <= metric["also"]["any_change_matched"] <= 1


def test_the_true_dictionary_is_coherent_in_every_unit_and_nothing_else_is(exam: Examination) -> None:
    shown = INTERCHANGE.examine(exam)
    assert shown is not None
    units = [Unit(**{**unit, "matched": tuple(unit["matched"])}) for unit in shown["units"]]
    assert all(unit.latents == unit.ceiling == unit.readable == unit.changed == 1 for unit in units)
    assert not any(unit.illusion for unit in units)
    assert max(max(unit.matched) for unit in units) < 0.1 and max(unit.random_direction for unit in units) < 0.2
    assert np.mean([unit.matched_changed for unit in units]) > 0.5, "nearly any edit changes something"
    j, matched = np.array([unit.latents for unit in units]), np.array([unit.matched for unit in units])
    assert judge(j, matched, j).coherent.all()
    for null in ("permuted_labels", WRONG_SITE):
        assert max(unit["latents"] for unit in shown[null]) == 0
    alone = shown["single_latents"]
    for latent, significant, share in zip(alone["latents"], alone["significant"], alone["share"], strict=True):
        if significant:
            one_thing = CODED[latent][0] in ("depth", "top", "operation")
            assert share > 0.95 if one_thing else share < 0.5, "parity and the kind of word are no variable's"
    assert sum(alone["significant"]) == 21 + 3


def test_what_nothing_reads_is_taken_out_of_a_patch(exam: Examination) -> None:
    known = registers("compiled", 0)
    inside, generator = torch.from_numpy(known.site).float(), torch.Generator().manual_seed(0)
    seen = torch.randn((4, len(inside)), generator=generator) @ inside
    unseen = torch.randn((4, 216), generator=generator)
    unseen -= unseen @ inside.T @ inside
    left = readable(exam, seen + 5 * unseen)
    assert left is not None and torch.allclose(left, seen, atol=1e-4)
    assert readable(exam.court.examine("random_model", 0), seen) is None
