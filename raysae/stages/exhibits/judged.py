"""The tokens that probes for the guided label read, by the sets of a corpus (SCIENCE 5.1, 5.3).

A record of a world says in `extras` which set it is of; plain records, and all of any other corpus, are SEEN on TEST.
What is read of them is the label that guided the SAE, so a corpus decides by its labels where it can be read.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int

from raysae.falsification.metrics.tallies import Tally, accuracy, rate
from raysae.stages.controls import control_table
from raysae.stages.court import Court
from raysae.stages.measure import Sample, places, read_sample
from raysae.types import Split

PLAIN, SEEN = "PLAIN", "SEEN"


class Judged(NamedTuple):
    """The labelled tokens of some documents."""

    rows: Int[np.ndarray, " k"]
    """Of the sample."""
    x: torch.Tensor
    """float32 [k, d_in]"""
    y: Int[np.ndarray, " k"]
    """Place of the label among the classes."""
    control: Int[np.ndarray, " k"]
    """The same for control labels."""
    unit: Int[np.ndarray, " k"]
    """Document, or minimal pair, counted from 0."""
    names: tuple[str, ...]
    """Of the units: the record, or what the members of a group share."""
    position: Int[np.ndarray, " k"]
    """In its document."""

    @property
    def units(self) -> int:
        return len(self.names)

    def accuracy(self, said: Int[np.ndarray, " k"], y: Int[np.ndarray, " k"], classes: int) -> Tally:
        """Of what a probe said about these tokens."""
        return accuracy(y, said, self.unit, self.units, classes)


class Text(NamedTuple):
    """What a run has for probes to read."""

    classes: tuple[str, ...]
    fit: Judged
    test: dict[str, Judged]
    """Set -> its tokens."""
    suggested: Int[np.ndarray, " k"]
    """Of the set CUE: the class that each swapped cue suggests, -1 for none."""


def label_of(court: Court) -> str:
    """The variable that guides, and is probed."""
    return court.experiment.loss.probe_label or "step_type"


@lru_cache(maxsize=4)
def judged(court: Court, source: str) -> Text | None:
    """None for a corpus without two classes of the label on FIT. A set without a labelled token is not there."""
    label, fit = label_of(court), court.sample(source, Split.FIT)
    classes = tuple(sorted({value for value in fit.labels.get(label, ()) if value is not None}))
    if len(classes) < 2:
        return None
    test = court.sample(source, Split.TEST)
    names = sets_of(court, test)
    extras = {record.record_id: record.extras for record in court.records}
    groups = [str(extras.get(name, {}).get("group", name)) for name in test.records]
    sets = {
        called: _take(court, test, classes, [g if n == called else None for g, n in zip(groups, names, strict=True)])
        for called in dict.fromkeys(names)
    }
    sets = {called: part for called, part in sets.items() if len(part.rows) or called == SEEN}
    whole = _take(court, fit, classes, list(fit.records))
    return Text(classes, whole, sets, _suggested(test, sets.get("CUE"), classes))


def sets_of(court: Court, sample: Sample) -> list[str]:
    """The set of each document of a TEST sample."""
    extras = {record.record_id: record.extras for record in court.records}
    found = [str(extras.get(name, {}).get("set", PLAIN)) for name in sample.records]
    return [SEEN if name == PLAIN else name for name in found]


def aligned(one: Judged, other: Judged) -> tuple[Int[np.ndarray, " s"], Int[np.ndarray, " s"]]:
    """Where the same steps of the same groups stand in two sets that render them differently: as many words into the
    text. Labels that documents have exchanged leave steps that only one of the two has; they are left out."""
    places = [
        {(part.names[unit], int(at)): row for row, (unit, at) in enumerate(zip(part.unit, part.position, strict=True))}
        for part in (one, other)
    ]
    shared = sorted(places[0].keys() & places[1].keys())
    rows = [np.array([place[key] for key in shared], np.int64) for place in places]
    return rows[0], rows[1]


def read_train(court: Court, source: str, text: Text) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(x, y, document) of the labelled tokens of TRAIN and FIT: all that guidance and its probe have learnt from."""
    limit = court.experiment.protocol.test_tokens
    train = read_sample(court.store(source), court.tokens, Split.TRAIN, court.hookpoint, limit)
    found = _take(court, train, text.classes, list(train.records))
    return (
        np.concatenate([found.x.numpy(), text.fit.x.numpy()]),
        np.concatenate([found.y, text.fit.y]),
        np.concatenate([found.unit, text.fit.unit + found.units]),
    )


def cue_rate(text: Text, said: Int[np.ndarray, " k"]) -> Tally:
    """How often a probe says the class that a swapped cue suggests."""
    cue = text.test["CUE"]
    return rate(said == text.suggested, cue.unit, cue.units)


@lru_cache(maxsize=2)
def _controls(court: Court, classes: tuple[str, ...]) -> np.ndarray:
    """By token id."""
    return np.array(control_table(court.experiment, court.tokens, label_of(court), list(classes)))


def _take(court: Court, sample: Sample, classes: tuple[str, ...], units: list[str | None] | list[str]) -> Judged:
    """The labelled tokens of the documents that have a unit."""
    y = places(sample.labels[label_of(court)], classes)
    document = sample.document.numpy()
    known = np.array([unit is not None for unit in units])
    names = np.unique([unit for unit in units if unit is not None])
    number = np.searchsorted(names, [unit or "" for unit in units])
    rows = np.flatnonzero((y >= 0) & known[document])
    starts = np.searchsorted(document, np.arange(len(units)))
    return Judged(
        rows=rows,
        x=sample.x[rows],
        y=y[rows],
        control=_controls(court, classes)[sample.token_id[rows]],
        unit=number[document[rows]],
        names=tuple(names.tolist()),
        position=rows - starts[document[rows]],
    )


def _suggested(sample: Sample, cue: Judged | None, classes: tuple[str, ...]) -> np.ndarray:
    if cue is None or "cue_label" not in sample.labels:
        return np.empty(0, np.int64)
    return places(sample.labels["cue_label"][cue.rows], classes)
