"""Redundancy, stability and the observations of geometry, through the stages: few seeds, so never a GO."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysae.pipeline import run
from raysae.saes import checkpoint
from raysae.stages.exhibits import OBSERVATIONS
from raysae.stages.progress import Reporter
from raysae.types.loading import load

SHOWN = ("fvu_by_position", "firing_density", "redundancy_level", "purity", "clustering", "pw_mcc")
NULLS = ("random_model", "frozen_decoder", "random_dictionary", "permuted_labels")


@pytest.fixture(scope="module")
def folder(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("geometry")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYSAE_LOCAL", "1")
        extra = ["sweep.trials=0", "train.steps=40", "train.seeds=3", "sae.expansion=2", "loss.decorrelation=1"]
        extra += ["protocol.criteria=[redundancy,stability]", f"protocol.nulls=[{','.join(NULLS)}]"]
        extra += [
            f"protocol.observations=[{','.join(SHOWN)}]",
            "protocol.attribution_sites=4",
            "protocol.attribution_window=2",
        ]
        run(load(tiny_config, [f"out={out}", *extra]), Reporter(), "decide")
    return out / "tiny"


@pytest.fixture(scope="module")
def metrics(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics" / "metrics.json").read_text())


def test_every_observation_of_geometry_stands_beside_its_nulls(metrics: dict[str, Any]) -> None:
    assert set(SHOWN) <= set(OBSERVATIONS) and tuple(metrics["observations"]) == SHOWN
    for name, found in metrics["observations"].items():
        assert found["value"] is not None and found["interval"] is not None, name
        wanted = {*NULLS} - ({"permuted_labels"} if name != "purity" else set())
        assert set(found["nulls"]) == wanted, name
        assert all(null["mean"] is not None for null in found["nulls"].values()), name


def test_the_term_is_judged_against_the_same_seeds_without_it(folder: Path, metrics: dict[str, Any]) -> None:
    found = metrics["criteria"]["redundancy"]
    gates = {gate["name"]: gate["passed"] for gate in found["gates"]}
    assert gates["same start"] and found["seeds"] == 3
    with_it, without = (
        checkpoint.load(folder / "sae" / arm / "0").requires_grad_(False).W_dec
        for arm in ("main", "without_decorrelation")
    )
    assert not np.array_equal(with_it.numpy(), without.numpy())
    assert found["nulls"]["random_dictionary"]["mean"] == pytest.approx(found["ceiling"])


def test_stability_knows_that_these_seeds_shared_their_documents(metrics: dict[str, Any]) -> None:
    found = metrics["criteria"]["stability"]
    gates = {gate["name"]: gate for gate in found["gates"]}
    assert all(gates[name]["passed"] for name in ("own initialisation", "own numbering", "own start"))
    assert not gates["own data"]["passed"] and "2 a document shard" in gates["own data"]["detail"]
    assert gates["screened"]["passed"], "candidates were tested"
    assert all(
        0 < found["also"][name] <= 1 for name in ("candidates_that_fire_on_their_tokens", "candidates_without_effect")
    )
    assert {"random_model", "frozen_decoder"} <= set(found["nulls"])


def test_the_verdict_has_both_and_neither_is_go(folder: Path) -> None:
    verdict = json.loads((folder / "verdict.json").read_text())
    assert set(verdict["criteria"]) == {"redundancy", "stability"}
    assert all(row["outcome"] != "GO" for row in verdict["criteria"].values())
    assert verdict["criteria"]["stability"]["reason_code"] == "GATE_FAILED"
