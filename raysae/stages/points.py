"""What a sweep may try: the axes of `sweep`, the grid they span, and the experiment at one point of it."""

import itertools
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np

from raysae.errors import BadInput
from raysae.saes import ARCHITECTURES
from raysae.saes import check as check_sae
from raysae.types import Experiment
from raysae.types.experiment import stream_seed

Point = dict[str, Any]
"""A value for every axis."""

AXES = {
    "architecture": ("sae", "architecture"),
    "expansion": ("sae", "expansion"),
    "k": ("sae", "k"),
    "l1": ("loss", "l1"),
    "l0_weight": ("loss", "l0"),
    "decorrelation": ("loss", "decorrelation"),
    "probe": ("loss", "probe"),
    "lr": ("train", "lr"),
}
"""Axis -> where in an experiment it stands. `l0_weight` is no `l0`, which is measured."""
OF_ARCHITECTURES = {"l1": ("relu", "gated"), "l0_weight": ("jumprelu",)}
"""Axes that only these read; k is read by those that need it."""


def axes(experiment: Experiment) -> dict[str, tuple[Any, ...]]:
    """The values of each; that of the experiment where none are given."""
    sweep = experiment.sweep
    return {name: getattr(sweep, key) or (_base(experiment)[name],) for name, (_, key) in AXES.items()}


def grid(experiment: Experiment) -> list[Point]:
    """The whole grid, or a random part of it by the experiment's seed. BadInput if it is too small."""
    sweep, points = experiment.sweep, list(_all(experiment))
    if sweep.trials > len(points):
        raise BadInput(
            f"sweep.trials={sweep.trials}",
            f"the grid has {len(points)} points",
            "add values to sweep.expansion, sweep.k or sweep.l1, or type sweep.search=tpe",
        )
    chosen = np.random.default_rng(stream_seed(experiment.seed, "sweep/grid")).permutation(len(points))[: sweep.trials]
    return [points[i] for i in sorted(chosen)]


def largest(experiment: Experiment) -> list[Point]:
    """What to expect of the sweep: its points, or of a search, which has not drawn them yet, as many of the largest."""
    if experiment.sweep.search == "grid":
        return grid(experiment)
    values = axes(experiment)
    ends = {axis: max(given) for axis, given in values.items()} | {"architecture": values["architecture"][0]}
    return [drawn(experiment, ends)] * experiment.sweep.trials


def drawn(experiment: Experiment, values: dict[str, Any]) -> Point:
    """The point that a search drew, `values` by axis: what its architecture does not read is as in the experiment."""
    point = {name: given[0] for name, given in axes(experiment).items()} | values
    base = _base(experiment)
    return point | {axis: base[axis] for axis in _unread(point["architecture"])}


def configure(experiment: Experiment, point: Point) -> Experiment:
    """The experiment with the point in place."""
    parts: dict[str, Any] = {}
    for name, (part, key) in AXES.items():
        if name in point:
            parts[part] = parts.get(part, getattr(experiment, part)).model_copy(update={key: point[name]})
    return experiment.model_copy(update=parts)


def check(experiment: Experiment, d_in: int) -> None:
    """BadInput for a sweep that could not be run to its end, as far as that shows before there is a text."""
    sweep = experiment.sweep
    if not sweep.trials:
        return
    values = axes(experiment)
    for name in values["architecture"]:
        for expansion in values["expansion"]:
            for k in values["k"] if name in ARCHITECTURES and ARCHITECTURES[name].needs_k else values["k"][:1]:
                check_sae(name, d_in, d_in * expansion, k)
    settled = max(experiment.train.k_anneal_fraction, experiment.train.penalty_warmup_fraction)
    if sweep.scheduler == "asha" and not rungs(experiment):
        raise BadInput(
            f"sweep.scheduler=asha with k or a penalty on its way for {settled:.0%} of the steps",
            "allowed: with a rung after that and before the end",
            "type train.k_anneal_fraction=0.5, or sweep.scheduler=none",
        )
    if (sweep.search, sweep.scheduler) != ("grid", "none") and experiment.activations.mode == "stream":
        raise BadInput(
            f"sweep.search={sweep.search}, sweep.scheduler={sweep.scheduler} with activations.mode=stream",
            "allowed: with cache, since every trial reads the activations for itself",
            "type activations.mode=cache, or sweep.search=grid sweep.scheduler=none",
        )
    if sweep.search == "grid":
        grid(experiment)
    elif all(len(set(given)) == 1 for given in values.values()):
        raise BadInput(
            f"sweep.search={sweep.search} over one value of every axis",
            "allowed: with a least and a greatest value of one at least",
            "type sweep.expansion=[4,16]",
        )
    if sweep.search != "grid" and find_spec("optuna") is None:
        raise BadInput(
            f"sweep.search={sweep.search}", "allowed: with the package optuna", "type pip install 'raysae[optuna]'"
        )


def rungs(experiment: Experiment) -> tuple[int, ...]:
    """Steps at which ASHA compares: from a quarter on, or from where k and the penalties stay as they are, doubling.
    Before that a trial's L0 is not its own."""
    train, steps = experiment.train, experiment.sweep.steps
    first = max(1, round(steps * max(0.25, train.k_anneal_fraction, train.penalty_warmup_fraction)))
    return tuple(itertools.takewhile(lambda step: step < steps, (first * 2**i for i in range(steps))))


def _base(experiment: Experiment) -> Point:
    return {name: getattr(getattr(experiment, part), key) for name, (part, key) in AXES.items()}


def _all(experiment: Experiment) -> Iterator[Point]:
    base, values = _base(experiment), axes(experiment)
    for name in values["architecture"]:
        own = values | {"architecture": (name,)} | {axis: (base[axis],) for axis in _unread(name)}
        for given in itertools.product(*own.values()):
            yield dict(zip(own, given, strict=True))


def _unread(architecture: str) -> list[str]:
    """Axes that it does not read."""
    unread = [axis for axis, readers in OF_ARCHITECTURES.items() if architecture not in readers]
    needs_k = architecture in ARCHITECTURES and ARCHITECTURES[architecture].needs_k
    return unread if needs_k else ["k", *unread]
