"""Exhibits on labelled text, on the tiny run: what is shown survives JSON."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from raysae.stages.court import Court, Examination
from raysae.stages.exhibits import EXHIBITS, Evidence
from raysae.stages.exhibits import judged as judging
from raysae.types import Metric, Split
from raysae.types.loading import load


@pytest.fixture(scope="module")
def court(tiny_config: Path, undisturbed: Path) -> Court:
    return Court(load(tiny_config, [f"out={undisturbed.parent}"]))


def measured(court: Court, name: str, seeds: tuple[int, ...] = (0, 1)) -> Metric:
    """Seeds of the real SAE, written and read back as `evaluate` does."""
    shown = [{name: json.loads(json.dumps(EXHIBITS[name].examine(court.examine("main", seed))))} for seed in seeds]
    return EXHIBITS[name].summarise(Evidence(court.experiment, court.protocol, {"main": shown}))


def test_coverage_stands_beside_what_a_probe_covers(court: Court):
    found = measured(court, "coverage")
    assert found.n == len(court.protocol.factors) and found.value is not None
    assert found.ceiling is not None and found.ceiling >= found.value


def test_selectivity_counts_the_alive_latents_of_the_tiny_run(court: Court):
    found = measured(court, "selectivity")
    alive = [int(court.examine("main", seed).alive.sum()) for seed in (0, 1)]
    assert found.also["alive"] == np.mean(alive) and found.value is not None
    assert 0 < found.value < 1 and "permuted_labels" in found.nulls


def test_matched_latents_are_calibrated_on_fit(court: Court):
    found = measured(court, "calibration")
    assert found.value is not None and found.value < 0.05
    assert found.also["brier_skill"] is not None and found.also["brier_skill"] > 0


def test_of_a_factor_without_a_latent_the_fit_rate_is_forecast(court: Court):
    exam, whole = court.examine("main", 0), court.examine("main", 0)
    # Two latents that know a factor each, of which the first is dead: it is nobody's.
    two = [int(latent) for latent in whole.matched.latents if latent >= 0][:2]
    exam.fit_latents, exam.test_latents = whole.fit_latents[:, two], whole.test_latents[:, two]
    exam.alive = torch.tensor([False, True])
    assert sorted(exam.matched.latents) == [-1] * (len(exam.protocol.factors) - 1) + [1]
    found = EXHIBITS["calibration"].examine(exam)
    assert found is not None
    brier, base = (np.sum(found[name]["hits"], axis=0) for name in ("brier", "base"))
    assert (brier == base).tolist() == (exam.matched.latents < 0).tolist()


def test_the_surface_model_solves_the_step_types_of_this_text_and_is_shown_to(court: Court):
    found = measured(court, "probing", seeds=(0,))
    assert found.also["accuracy_surface_model"] == pytest.approx(1.0, abs=0.02)
    assert found.value is not None and found.ceiling is not None and found.value < found.ceiling + 0.05
    assert {"surface_model", "permuted_labels"} <= set(found.nulls)


def test_no_label_is_not_a_label_of_which_latents_are_pure(court: Court, monkeypatch: pytest.MonkeyPatch):
    exam = court.examine("main", 0)
    some = np.where(exam.test.token_id % 2 == 0, "a", None)
    part = replace(exam.test, labels={"known": some, "never": np.full(len(some), None)})
    monkeypatch.setattr(Examination, "test", part)
    found = EXHIBITS["purity"].examine(exam)
    # All labelled tokens share the one label there is, so that agreement is no more than the base rate.
    assert found is not None and found["real"]["top"] == 0.0
    monkeypatch.setattr(Examination, "test", replace(part, labels={"never": part.labels["never"]}))
    assert EXHIBITS["purity"].examine(exam) is None


def test_a_set_of_which_no_token_is_labelled_is_not_there(court: Court, monkeypatch: pytest.MonkeyPatch):
    real = court.sample
    test = real("main", Split.TEST)
    last = test.document.numpy() == test.documents - 1
    bare = replace(test, labels={name: np.where(last, None, values) for name, values in test.labels.items()})
    monkeypatch.setattr(court, "sample", lambda source, split: bare if split == Split.TEST else real(source, split))
    monkeypatch.setattr(judging, "sets_of", lambda court, sample: ["SEEN"] * (sample.documents - 1) + ["UNSEEN"])
    text = judging.judged.__wrapped__(court, "main")
    assert text is not None and set(text.test) == {"SEEN"}


def test_without_guided_saes_leakage_says_why_it_has_no_number(court: Court):
    found = EXHIBITS["leakage"].summarise(Evidence(court.experiment, court.protocol, {"main": [{}, {}]}))
    assert found.value is None and found.not_run is not None and "without guidance" in found.not_run
