"""Brittleness, the refutation of candidate latents, and calibration."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from raysae.falsification import Protocol, decide
from raysae.falsification.intervals import t_interval
from raysae.falsification.metrics import brittleness, calibration, candidates
from raysae.falsification.metrics.brittleness import CLEAN, PERTURBATIONS
from raysae.falsification.metrics.tallies import Tally, f1
from raysae.types import Metric, Outcome, Reason

BOOT = {"bootstrap": 400, "seed": 0}
DOCUMENTS, LENGTH, FACTORS = 100, 20, 8


def detections(seed: int, hit: float, fired: float = 0.01) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Detectors that catch this share of what they should and fire by mistake at this rate."""
    rng = np.random.default_rng(seed)
    factors = np.random.default_rng(0).random((DOCUMENTS * LENGTH, FACTORS)) < 0.1
    fires = np.where(factors, rng.random(factors.shape) < hit, rng.random(factors.shape) < fired)
    return fires, factors, np.repeat(np.arange(DOCUMENTS), LENGTH)


def perturbed(seed: int, clean: float = 0.95, **hits: float) -> dict[str, Tally]:
    rates = {CLEAN: clean, **{kind: clean for kind in PERTURBATIONS}, **hits}
    return {kind: f1(*detections(seed + i, hit), DOCUMENTS) for i, (kind, hit) in enumerate(rates.items())}


def summarised(count: int = 5, nulls: dict[str, Any] | None = None, **hits: float) -> Metric:
    arms = {"main": [perturbed(10 * seed, **hits) for seed in range(count)], **(nulls or {})}
    return brittleness.summarise(arms, **BOOT)


@pytest.fixture
def judge(make_protocol: Callable[..., Protocol]) -> Callable[[Metric], Any]:
    protocol = make_protocol(criteria=["brittleness"])

    def verdict(metric: Metric) -> Any:
        hashes = {"sealed_sha256": protocol.sha256, "source_sha256": protocol.source_sha256}
        return decide(protocol, {"brittleness": metric}, **hashes).criteria["brittleness"]

    return verdict


WEAK = {null: [perturbed(900, clean=0.1)] * 5 for null in ("random_dictionary", "permuted_labels", "random_model")}


def test_the_loss_is_that_of_mean_f1_under_the_worst_perturbation():
    metric = summarised(cue_removal=0.6)
    losses = []
    for seed in range(5):
        score = {}
        for i, hit in ((0, 0.95), (3, 0.6)):
            fires, factors, _ = detections(10 * seed + i, hit)
            score[i] = np.mean([f1_score(factors[:, f], fires[:, f]) for f in range(FACTORS)])
        losses.append(1 - score[3] / score[0])
    assert metric.value == metric.also["cue_removal"] == pytest.approx(np.mean(losses))
    assert metric.interval is not None and metric.interval[0] < np.mean(losses) < metric.interval[1]
    assert metric.also["paraphrase"] == pytest.approx(0, abs=0.01) and metric.n == DOCUMENTS


def test_what_keeps_its_detection_is_go_and_what_loses_it_is_no_go(judge: Callable):
    assert judge(summarised(nulls=WEAK)).outcome is Outcome.GO
    assert judge(summarised(nulls=WEAK, token_injection=0.6)).outcome is Outcome.NO_GO


def test_a_null_with_nothing_to_lose_does_not_pass_and_one_that_loses_nothing_voids(judge: Callable):
    metric = summarised(nulls=WEAK)
    assert (
        metric.nulls["random_model"].interval == (1.0, 1.0) and "nothing to lose" in metric.nulls["random_model"].note
    )
    strong = {**WEAK, "random_model": [perturbed(500)] * 5}
    assert judge(summarised(nulls=strong)).reason_code is Reason.VOID


def test_detectors_that_detect_little_have_nothing_to_lose(judge: Callable):
    said = judge(summarised(nulls=WEAK, clean=0.2, **dict.fromkeys(PERTURBATIONS, 0.2)))
    assert said.reason_code is Reason.GATE_FAILED and "something to lose" in said.reason


def test_a_perturbation_that_was_not_measured_is_named(judge: Callable):
    arms = {"main": [{CLEAN: perturbed(s)[CLEAN], "paraphrase": perturbed(s)["paraphrase"]} for s in range(5)], **WEAK}
    said = judge(brittleness.summarise(arms, **BOOT))
    assert (
        said.reason_code is Reason.NOT_RUN and "token_injection, cue_removal, length_shift not measured" in said.reason
    )
    nothing = brittleness.summarise({"main": []}, **BOOT)
    assert nothing.value is None and nothing.not_run


def test_other_documents_than_the_clean_ones_are_an_error():
    one = perturbed(0)
    short = Tally(one["paraphrase"].hits[:50], one["paraphrase"].of[:50])
    with pytest.raises(ValueError, match=r"\[50, 100\] documents"):
        brittleness.summarise({"main": [{**one, "paraphrase": short}]}, **BOOT)


def test_auroc_agrees_with_scikit_learn_and_its_bound_covers():
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 1, (60, 4))
    positive, negative = (np.round(shared + rng.normal(mean, 1, (60, 4)), 1) for mean in (0.4, 0.0))
    value, lower, p = candidates.auroc(positive, negative)
    labels = np.repeat([1, 0], 60)
    naive = [roc_auc_score(labels, np.concatenate([positive[:, c], negative[:, c]])) for c in range(4)]
    assert value == pytest.approx(naive)
    resampled = np.array([
        candidates.auroc(positive[rows], negative[rows])[0]
        for rows in rng.integers(0, 60, (600, 60))
    ])  # fmt: skip
    assert lower == pytest.approx(np.quantile(resampled, 0.05, axis=0), abs=0.03)
    assert ((lower > 0.5) == (p < 0.05)).all()


def test_few_pairs_bound_nothing():
    value, lower, p = candidates.auroc(np.ones((29, 1)), np.zeros((29, 1)))
    assert value[0] == 1.0 and np.isnan(lower[0]) and p[0] == 1.0


def examined(seed: int = 0) -> candidates.Candidates:
    """Five candidates: one that holds, and one refuted by each test."""
    rng = np.random.default_rng(seed)

    def fires(rows: int, *rates: float) -> np.ndarray:
        return rng.random((rows, 5)) < np.array(rates)

    shift = np.array([1.5, 1.5, 1.5, 1.5, 0.0])
    return candidates.examine(
        injected=fires(200, 0.02, 0.6, 0.02, 0.02, 0.02),
        with_cues=np.ones((200, 5), bool),
        cue_free=fires(200, 0.95, 0.95, 0.3, 0.95, 0.95),
        original=np.ones((200, 5), bool),
        paraphrase=fires(200, 0.95, 0.95, 0.95, 0.5, 0.95),
        positive=rng.normal(shift, 1, (200, 5)),
        negative=rng.normal(0, 1, (200, 5)),
    )


def test_a_candidate_survives_only_all_four_attempts():
    found = examined()
    assert candidates.survives(found).tolist() == [True, False, False, False, False]
    metric = candidates.summarise({"main": [found], "random_model": [examined(1)]})
    assert (metric.value, metric.n) == (0.2, 5)
    assert [metric.also[name] for name in metric.also] == [0.2, 0.2, 0.2, 0.2]
    assert candidates.summarise({"main": []}).not_run


def of_candidates(survivors: int, tried: int) -> candidates.Candidates:
    """So many candidates, of which the first ones survive."""
    holds = np.arange(tried) < survivors
    return candidates.Candidates(
        injection=np.where(holds, 0.0, 1.0), cue_free=np.ones(tried), paraphrase=np.ones(tried),
        auroc=np.full(tried, 0.9), auroc_lower=np.full(tried, 0.8), p=np.full(tried, 1e-6),
    )  # fmt: skip


def test_candidates_of_one_sae_are_not_independent_of_each_other():
    """In two trainings of five every candidate survives, in the others none: 12 of 30, pooled, would look certain."""
    arms = {arm: [of_candidates(6 * (s < 2), 6) for s in range(5)] for arm in ("main", "random_dictionary")}
    metric = candidates.summarise(arms)
    assert (metric.value, metric.n, metric.per_seed) == (0.4, 30, (1.0, 1.0, 0.0, 0.0, 0.0))
    over_seeds = t_interval(np.array(metric.per_seed))
    assert metric.interval is not None and over_seeds is not None
    assert metric.interval[0] <= max(over_seeds[0], 0.0) and metric.interval[1] >= over_seeds[1]
    null = metric.nulls["random_dictionary"]
    assert (null.mean, null.interval, null.p95) == (0.4, metric.interval, 1.0)


def test_every_sae_counts_alike_however_many_candidates_it_has_and_none_counts_not():
    metric = candidates.summarise({"main": [of_candidates(1, 1), of_candidates(0, 3), of_candidates(0, 0)]})
    assert (metric.value, metric.n, metric.seeds) == (0.5, 4, 3)
    assert metric.also["fire_on_injection"] == 0.5 and metric.not_run is None


def test_a_candidate_that_never_fires_retains_nothing_and_no_injected_text_clears_nobody():
    silent, nothing = np.zeros((10, 1), bool), np.zeros((0, 1), bool)
    found = candidates.examine(nothing, silent, silent, silent, silent, np.ones((40, 1)), np.zeros((40, 1)))
    assert (found.cue_free[0], found.paraphrase[0], found.injection[0]) == (0.0, 0.0, 1.0)


def scored(seed: int, n: int = 6000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    score = rng.gamma(1.0, 1.0, n)
    return score, rng.random(n) < 1 / (1 + np.exp(3 - 2 * score)), np.arange(n) // 20


@pytest.mark.parametrize("method", ["isotonic", "platt"])
def test_scores_become_calibrated_probabilities(method: Any):
    (fit_score, fit_label, _), (score, label, document) = scored(0), scored(1)
    p = calibration.probabilities(fit_score, fit_label, score, method)
    rate = np.array([fit_label.mean()])
    good = calibration.reliability(p[:, None], label[:, None], rate, document, 300)
    bold = calibration.reliability(np.clip(1.5 * p, 0, 1)[:, None], label[:, None], rate, document, 300)
    found = calibration.summarise({"main": [good] * 2, "random_dictionary": [bold]}, **BOOT)
    assert found.value is not None and found.value < 0.03 and found.interval is not None
    null = found.nulls["random_dictionary"].mean
    assert null is not None and null > 0.1
    assert found.also["brier"] == pytest.approx(((p - label) ** 2).mean())
    assert found.also["brier_base_rate"] == pytest.approx(((rate - label) ** 2).mean())


def test_ece_agrees_with_a_loop_over_bins_of_equal_mass():
    score, label, document = scored(2, n=600)
    p = np.minimum(score / 4, 1)
    found = calibration.summarise(
        {"main": [calibration.reliability(p[:, None], label[:, None], np.array([0.3]), document, 30)]}, **BOOT
    )
    naive = 0.0
    for rows in np.array_split(np.argsort(p, kind="stable"), 15):
        naive += len(rows) / 600 * abs(p[rows].mean() - label[rows].mean())
    assert found.value == pytest.approx(naive, abs=0.005)


def test_the_base_rate_is_calibrated_and_without_skill():
    _, label, document = scored(3)
    p = np.full((len(label), 1), label.mean())
    one = calibration.reliability(p, label[:, None], np.array([label.mean()]), document, 300)
    found = calibration.summarise({"main": [one]}, **BOOT)
    assert found.value == pytest.approx(0, abs=1e-9) and found.also["brier_skill"] == pytest.approx(0)


def test_a_label_that_fit_never_holds_has_probability_zero():
    p = calibration.probabilities(np.arange(5.0), np.zeros(5, bool), np.array([9.0]))
    assert p.tolist() == [0.0]
