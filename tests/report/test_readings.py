"""Every number that a metric prints beside its value is explained, and stands in the row it belongs to."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from raysae.falsification import metrics
from raysae.falsification.metrics import (
    alignment,
    answers,
    attributed,
    calibration,
    candidates,
    causal,
    clustering,
    coverage,
    fidelity,
    hook_sweep,
    leakage,
    mediation,
    overhead,
    precision,
    probing,
    purity,
    reconstruction,
    recovery,
    redundancy,
    selectivity,
    sparsity,
    stability,
    step_control,
    transfer_map,
)
from raysae.report import readings
from raysae.report.readings import is_explained
from raysae.stages.exhibits import transfer as of_another_run
from raysae.types import Metric

from ..falsification.metrics import (
    test_answers,
    test_attribution,
    test_brittleness,
    test_causal,
    test_document_metrics,
    test_leakage,
    test_mediation,
    test_overhead,
    test_precision,
    test_purity,
    test_redundancy,
    test_selectivity,
    test_stability,
    test_step_control,
    test_transfer,
    test_transfer_map,
)

BOOT = {"bootstrap": 50, "seed": 0}


def matched() -> alignment.Alignment:
    on = np.eye(3, dtype=bool).repeat(5, axis=0)
    latents = torch.tensor(on, dtype=torch.float32)
    return alignment.align(latents, on, latents, on)


def purities() -> Metric:
    code, labels, document = test_purity.sample()
    rows = np.random.default_rng(0).standard_normal((test_purity.LATENTS, 8))
    real, permuted = purity.measure(rows, code, labels[:, None], document, document, draws=2, seed=0)
    return purity.summarise({"main": [real] * 2, "random_dictionary": permuted}, permuted=[permuted] * 2)


def places() -> Metric:
    codes = [test_transfer_map.code(test_transfer_map.sparse_rows(0)) for _ in range(3)]
    floor = [test_transfer_map.code(test_transfer_map.sparse_rows(seed)) for seed in (1, 2, 3)]
    return transfer_map.summarise([test_transfer_map.cell(codes, codes, floor)])[0]


def probed() -> Metric:
    tally = test_leakage.seeds(count=1, documents=30)[0]["guided", "SEEN"]
    return probing.summarise({arm: [probing.Probed(tally, tally)] for arm in ("main", "surface_model")}, **BOOT)


def reliable() -> Metric:
    score, label, document = test_brittleness.scored(0, 600)
    p = np.minimum(score / 4, 1)[:, None]
    return calibration.summarise(
        {"main": [calibration.reliability(p, label[:, None], np.array([0.3]), document, 30)]}, **BOOT
    )


def hooks() -> Metric:
    rng = np.random.default_rng(0)
    cells = [hook_sweep.Cell(f"layers.{i}.resid_post", rng.normal(1, 1, 40), rng.normal(1, 1, 40)) for i in (0, 1)]
    return hook_sweep.summarise(cells, seed=0)[0]


def controlled() -> Metric:
    seeds = [test_step_control.World(seed).control(draws=4) for seed in (0, 1)]
    return step_control.summarise(seeds, test_step_control.COUNTS, **test_step_control.HOW)


def lost() -> Metric:
    columns = test_document_metrics.losses(1.0, 1.1, 3.0)
    columns |= {"kl": columns["clean"], "sae_zero": columns["sae"], "ablated_zero": columns["ablated"]}
    return fidelity.summarise({"main": [columns] * 2}, **BOOT)


EMITTED: dict[str, Callable[[], Metric]] = {
    "alignment": lambda: alignment.summarise({"main": [matched()] * 2}, names=["a", "b", "c"]),
    "answer_accuracy": lambda: answers.summarise({"main": [test_answers.columns([1, 0] * 9, [1, 0] * 9)] * 2}, **BOOT),
    "brittleness": lambda: test_brittleness.summarised(2),
    "calibration": reliable,
    "candidates": lambda: candidates.summarise({"main": [test_brittleness.examined()]}),
    "capture_latency": lambda: overhead.latency(test_overhead.seconds(6), test_overhead.SOUND, **BOOT),
    "capture_memory": lambda: overhead.memory(
        np.array([5, 6]), np.array([7, 8]), 100, test_overhead.SOUND._replace(gpu=False)
    ),
    "capture_throughput": lambda: overhead.throughput(
        np.full(20, 9), np.ones(20), np.full(20, 9), 20.0, test_overhead.SOUND, **BOOT
    ),
    "causal_attribution": lambda: attributed.summarise(
        {"main": [test_attribution.measured()]}, latents=test_attribution.RANKS, seed=0
    ),
    "causal_interchange": lambda: causal.summarise(
        {"main": [[test_causal.unit(u, 0.9, readable=0.8, changed=0.1, matched_changed=0.1) for u in (0, 1)]] * 2},
        pairs=200,
    ),
    "clustering": lambda: clustering.summarise(
        {"main": clustering.compare([clustering.group(np.eye(30), seed) for seed in (0, 1, 2)])}, gap=[2, 2, 2]
    ),
    "coverage": lambda: coverage.summarise({"main": [matched()]}, probe=[np.ones(3)], n=3),
    "fidelity": lost,
    "firing_density": lambda: sparsity.summarise_density({"main": [sparsity.density(torch.eye(4))] * 2}),
    "fvu_by_position": lambda: reconstruction.summarise_positions(
        {"main": [{"sse": np.ones(4), "sst": np.full(4, 2.0)}] * 2}
    ),
    "hook_sweep": hooks,
    "leakage": lambda: leakage.summarise(test_leakage.seeds(documents=60), gates=(), **BOOT),
    "probing": probed,
    "purity": purities,
    "pw_mcc": lambda: stability.summarise(
        {arm: stability.compare_all(test_stability.nulls(3)) for arm in ("main", "random_dictionary")}
    ),
    "reconstruction": lambda: reconstruction.summarise(
        {"main": [test_document_metrics.errors(torch.randn(60, 4), torch.randn(60, 4))]}, l0_cap=9.0, **BOOT
    ),
    "redundancy": lambda: redundancy.summarise({"main": test_redundancy.pairs()}),
    "redundancy_level": lambda: redundancy.level({"main": [test_redundancy.one(0.2), test_redundancy.one(0.3)]}),
    "selectivity": lambda: selectivity.summarise({"main": [test_selectivity.measured(3, draws=5)] * 2}, **BOOT),
    "sparsity": lambda: test_document_metrics.zero_fraction(torch.eye(40), torch.ones(40, dtype=torch.bool)),
    "stability": lambda: test_stability.judged(test_stability.find(test_stability.seeds_of())),
    "step_control": controlled,
    "transfer": lambda: test_transfer.found(0.8, 0.9, 0.5),
    "transfer_map": places,
    "verification": lambda: mediation.summarise({"main": [test_mediation.patched(40)]}, **BOOT),
}


@pytest.mark.parametrize("name", EMITTED)
def test_every_reading_that_a_metric_prints_is_explained(name: str) -> None:
    metric = EMITTED[name]()
    assert metric.name == name and metric.also
    assert [key for key in metric.also if not is_explained(name, key, metric.also)] == []


def test_no_metric_is_left_out_of_that() -> None:
    made = set()
    for path in Path(metrics.__path__[0]).glob("*.py"):
        made |= set(re.findall(r'(?:Metric\(\s*name=|return over_seeds\(\s*)"(\w+)"', path.read_text(encoding="utf-8")))
    assert made == set(EMITTED)


def test_what_an_exhibit_adds_to_a_metric_is_explained() -> None:
    alone = precision.summarise([precision.select(test_precision.effects(test_precision.ONE_EACH), 10, seed=0)])
    added = {
        "alignment": [*recovery.Recovery._fields, "rival topk"],
        "transfer": of_another_run.SHOWN,
        "causal_interchange": alone,
    }
    for name, keys in added.items():
        assert [key for key in keys if not is_explained(name, key, dict.fromkeys(keys))] == []


def test_a_bound_stands_beside_its_number_and_a_family_in_one_row() -> None:
    also = {"benefit": 0.2, "benefit_lower": 0.1, "benefit_upper": 0.3, "guided on SEEN": 0.9, "baseline on SEEN": 0.8}
    one, family = readings.rows({"name": "leakage", "also": also})
    assert (one["name"], one["value"]) == ("benefit", "0.20 [0.10, 0.30]")
    assert family["members"] == [("guided", "0.900"), ("baseline", "0.800")]
    half = readings.rows({"name": "brittleness", "also": {"paraphrase": 0.1, "paraphrase_upper": 0.2}})
    assert [row["value"] for row in half] == ["0.100, at most 0.200"]
    (unknown,) = readings.rows({"name": "leakage", "also": {"new_one": None}})
    assert (unknown["name"], unknown["about"], unknown["value"]) == ("new one", "", "–")


def test_the_values_by_seed_say_why_the_value_may_be_lower_than_all_of_them() -> None:
    row = readings.by_seed({"name": "alignment", "value": 0.0, "per_seed": [0.125, 0.125]})
    assert row is not None and row["value"] == "0.125, 0.125" and "at least 80% of the seeds" in row["about"]
    other = readings.by_seed({"name": "fidelity", "per_seed": [0.9]})
    assert other is not None and "80%" not in other["about"]
    assert readings.by_seed({"name": "fidelity"}) is None


def test_a_worst_case_names_the_part_that_makes_it() -> None:
    also = {"memorisation": 0.119, "memorisation_lower": 0.093, "memorisation_upper": 0.145, "cue": 0.2}
    metric = {"name": "leakage", "value": 0.2, "also": also}
    assert readings.worst(metric).startswith("Worst channel: cue, 0.200 (")
    assert "memorisation, 0.119 [0.093, 0.145]" in readings.worst(metric | {"also": also | {"cue": 0.0}})
    assert readings.worst(metric | {"value": None}) == readings.worst(metric | {"name": "fidelity"}) == ""
