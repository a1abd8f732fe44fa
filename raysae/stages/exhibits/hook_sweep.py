"""The hook sweep over `capture.hookpoints`: which of them the task is read at, chosen on FIT, confirmed on TEST."""

from collections.abc import Sequence

import numpy as np

from raysae.falsification.metrics import hook_sweep
from raysae.falsification.metrics.hook_sweep import Cell
from raysae.stages.capture import MAIN
from raysae.stages.court import Examination
from raysae.stages.exhibits.base import Comparison, Evidence, Plain
from raysae.stages.exhibits.pushing import Pushed
from raysae.stages.exhibits.readouts import Readouts
from raysae.stages.measure import Sample, read_sample
from raysae.types import Metric, Split

NAME = "hook_sweep"
DOCUMENTS = 256
"""Of each split, at most; one site in each, the same at every hook point."""


def _examine(exams: Sequence[Examination]) -> Plain:
    """By hook point and split, the excess of the principal axes by document."""
    court, source = exams[0].court, exams[0].source
    experiment = court.experiment
    readouts = Readouts(experiment, court.tokenizer)
    rows = {split: _sites(court.sample(source, split), readouts, court.seed(f"{NAME}/{split}")) for split in SPLITS}
    found: Plain = {}
    for point in experiment.capture.hookpoints:
        limit = experiment.protocol.test_tokens
        steps = hook_sweep.axes(read_sample(court.store(source), court.tokens, Split.FIT, point, limit).x)
        found[str(point)] = {
            str(split): hook_sweep.excess(
                Pushed(court, source, split, rows[split], readouts, point),
                len(rows[split]),
                steps,
                readouts.targets,
                court.seed(f"{NAME}/{point}/{split}"),
            ).tolist()
            for split in SPLITS
        }
    return found


def _sites(sample: Sample, readouts: Readouts, seed: int) -> np.ndarray:
    """One token in each of the documents, before a word that can be a target."""
    candidates = np.random.default_rng(seed).permutation(np.flatnonzero(readouts.readable(sample, 1)))
    _, first = np.unique(sample.document.numpy()[candidates], return_index=True)
    return candidates[first][:DOCUMENTS]


def _cells(evidence: Evidence) -> list[Cell]:
    shown = evidence.across(NAME)[MAIN]
    return [Cell(name, *(np.array(by_split[str(split)]) for split in SPLITS)) for name, by_split in shown.items()]


def _summarise(evidence: Evidence) -> Metric:
    return hook_sweep.summarise(_cells(evidence), evidence.bootstrap["seed"])[0]


def rows(evidence: Evidence) -> list[Plain]:
    """What `metrics/hook_sweep.json` holds."""
    return hook_sweep.summarise(_cells(evidence), evidence.bootstrap["seed"])[1]


SPLITS = (Split.FIT, Split.TEST)
HOOK_SWEEP = Comparison(_examine, _summarise)
