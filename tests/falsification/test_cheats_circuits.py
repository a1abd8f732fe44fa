"""A planted cheat on interchange, metric and decision end to end: an edit that copies the source (SCIENCE 9 f)."""

from typing import Any

import numpy as np
import torch

from raysae.falsification import NULLS, decide
from raysae.falsification.metrics import causal
from raysae.falsification.metrics.causal import Unit
from raysae.falsification.simulation.circuits import PAIRS, UNITS, VALUES, Court, Machine
from raysae.types import Outcome


def whole_source(machine: Machine, court: Court, variable: int) -> tuple[np.ndarray, np.ndarray]:
    """Per value, of x_source - x_base: joint success, and that of the target readout alone."""
    base, source, expected = court.pairs(variable)
    delta = machine.activations(source) - machine.activations(base)
    nowhere = torch.zeros(len(base), dtype=torch.int64)

    def success(readouts: torch.Tensor) -> np.ndarray:
        places = readouts.expand(len(base), len(readouts))
        found = causal.joint_success(machine, base, nowhere, delta, places, expected[:, readouts])
        return found.view(VALUES, PAIRS).double().mean(dim=1).numpy()

    return success(torch.arange(3)), success(torch.tensor([variable]))


def test_an_edit_that_copies_the_whole_source_is_no_go(make_protocol: Any) -> None:
    """Every target is right, as an edit that looks at nothing else would boast; what must not change does."""
    rng = np.random.default_rng(0)
    honest: dict[str, list[list[Unit]]] = {"main": [], "permuted_labels": [], "random_model": []}
    cheat: list[list[Unit]] = []
    for _ in range(5):
        machine = Machine(rng)
        court = Court(rng, machine, np.ones(UNITS, dtype=bool))
        units = court.units(0)
        joint, target = map(np.concatenate, zip(*(whole_source(machine, court, v) for v in (0, 1)), strict=True))
        assert (target == 1).all() and (joint == 0).all()
        honest["main"].append(units["main"])
        honest["permuted_labels"].append(units["permuted_labels"])
        honest["random_model"].append([unit._replace(latents=0.0, ceiling=0.0) for unit in units["main"]])
        cheat.append([unit._replace(latents=float(j)) for unit, j in zip(units["main"], joint, strict=True)])
    protocol = make_protocol(criteria=["causal_interchange"], nulls=list(NULLS), units=UNITS, mode="exploratory")

    def outcome(arms: dict[str, list[list[Unit]]]) -> Outcome:
        metric = causal.summarise(arms, pairs=PAIRS)
        sealed = {"sealed_sha256": protocol.sha256, "source_sha256": protocol.source_sha256}
        return decide(protocol, {"causal_interchange": metric}, **sealed).criteria["causal_interchange"].outcome

    assert outcome(honest) is Outcome.GO
    assert outcome({**honest, "main": cheat}) is Outcome.NO_GO
