"""A run with the probe and the temporal term: what its curves say, and what is refused before anything is trained."""

from pathlib import Path

import pytest

from raysae.errors import BadInput
from raysae.stages.cotrain import Course, Place, train_together
from raysae.stages.halt import Halt
from raysae.stages.jobs import groups, plan
from raysae.types.loading import load


def test_a_guided_run_logs_its_leakage_gap(undisturbed: Path, tiny_config: Path, tmp_path: Path) -> None:
    settings = ["loss.probe=0.1", "loss.temporal=0.01", "train.steps=50", "train.seeds=1"]
    job = plan(load(tiny_config, settings), undisturbed / "activations", tmp_path)[0]
    finished: list[Course] = []
    list(train_together([job], Place(), Halt(tmp_path), finished.append))
    (course,) = finished
    history = course.history
    for name in ("probe", "temporal", "probe_accuracy", "fit_probe_accuracy", "leakage_gap", "fit_fvu", "fit_l0"):
        assert len(history[name]) == len(history["step"]), name
    assert history["probe"][-1] > 0
    assert history["temporal"][-1] > 0
    assert 0 < history["fit_fvu"][-1] < 1
    gaps = zip(history["leakage_gap"], history["probe_accuracy"], history["fit_probe_accuracy"], strict=True)
    assert all(gap == seen - held_out for gap, seen, held_out in gaps)


def test_a_label_the_corpus_does_not_have_is_refused(undisturbed: Path, tiny_config: Path, tmp_path: Path) -> None:
    jobs = plan(load(tiny_config, ["loss.probe_label=colour"]), undisturbed / "activations", tmp_path)
    with pytest.raises(BadInput, match="loss.probe_label=colour; labelled in this corpus: "):
        groups(jobs, 8)
