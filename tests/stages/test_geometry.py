"""Redundancy, stability and the observations of geometry, through the stages: few seeds, so never a GO."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysae.falsification.metrics import redundancy
from raysae.falsification.metrics.dictionaries import Origin
from raysae.falsification.metrics.redundancy import Pair, Redundancy
from raysae.falsification.metrics.stability import compare_all, independent
from raysae.pipeline import run
from raysae.saes import checkpoint
from raysae.stages.court import Court
from raysae.stages.dictionaries import PLAIN
from raysae.stages.exhibits import OBSERVATIONS
from raysae.stages.exhibits.geometry import REDUNDANCY, geometry
from raysae.stages.jobs import plan
from raysae.stages.progress import Reporter
from raysae.types.loading import load
from tests.runs import copy_before

SHOWN = ("fvu_by_position", "firing_density", "redundancy_level", "purity", "clustering", "pw_mcc")
NULLS = ("random_model", "frozen_decoder", "random_dictionary", "permuted_labels")
EXTRA = ["sweep.trials=0", "train.steps=40", "train.seeds=3", "sae.expansion=2", "loss.decorrelation=1"]
EXTRA += ["protocol.criteria=[redundancy,stability]", f"protocol.nulls=[{','.join(NULLS)}]"]
EXTRA += [f"protocol.observations=[{','.join(SHOWN)}]", "protocol.attribution_sites=4", "protocol.attribution_window=2"]


@pytest.fixture(scope="module")
def folder(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("geometry")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYSAE_LOCAL", "1")
        run(load(tiny_config, [f"out={out}", *EXTRA]), Reporter(), "decide")
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


def test_seeds_that_were_not_trained_as_their_numbers_say_fail_every_gate_that_asks(
    folder: Path, tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every seed of the real arm begins as the first one does, and the arm beside it as it should."""
    monkeypatch.setenv("RAYSAE_LOCAL", "1")
    monkeypatch.setattr(
        "raysae.stages.train.plan",
        lambda *arguments: [
            replace(job, seed=0, order="sae/0/order") if job.arm == "main" else job for job in plan(*arguments)
        ],
    )
    copy_before("train", folder, tmp_path)
    experiment = load(tiny_config, [f"out={tmp_path}", *EXTRA])
    run(experiment, Reporter(), "train")
    court = Court(experiment)
    seeds = [geometry(court.examine("main", number)) for number in range(3)]
    plain, shown = (
        [Redundancy(**(REDUNDANCY.examine(court.examine(arm, number)) or {})) for number in range(3)]
        for arm in (PLAIN, "main")
    )
    of_pairs = redundancy.summarise({"main": [Pair(*pair) for pair in zip(plain, shown, strict=True)]}).gates
    gates = {gate.name: gate for gate in (*of_pairs, *independent(seeds, compare_all(seeds)))}
    for name, said in (
        ("same start", "2 of 3 pairs differ in the weights or the batch"),
        ("own initialisation", "2 of 3 seeds repeat the initialisation"),
        ("own data", "2 of 3 seeds repeat a data order"),
    ):
        assert not gates[name].passed and gates[name].detail.startswith(said)


def test_an_sae_that_does_not_say_how_it_began_has_no_origin_and_no_start(
    folder: Path, tiny_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    court = Court(load(tiny_config, [f"out={folder.parent}", *EXTRA]))
    exam = court.examine("main", 0)
    known = geometry(exam)
    assert None not in known.origin and known.start is not None
    monkeypatch.setattr(checkpoint, "provenance", lambda _: {})
    unknown = geometry(exam)
    assert unknown.origin == Origin() and unknown.start is None


def test_the_verdict_has_both_and_neither_is_go(folder: Path) -> None:
    verdict = json.loads((folder / "verdict.json").read_text())
    assert set(verdict["criteria"]) == {"redundancy", "stability"}
    assert all(row["outcome"] != "GO" for row in verdict["criteria"].values())
    assert verdict["criteria"]["stability"]["reason_code"] == "GATE_FAILED"
