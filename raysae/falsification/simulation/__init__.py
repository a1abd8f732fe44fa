"""The court put on trial: for every criterion worlds in which its claim is false, and one in which it is true."""

from raysae.falsification.simulation.circuits import SIMULATION as CAUSAL_INTERCHANGE
from raysae.falsification.simulation.documents import FIDELITY, RECONSTRUCTION, SPARSITY
from raysae.falsification.simulation.factors import SIMULATION as ALIGNMENT
from raysae.falsification.simulation.rates import FALSE_GO, allowed, by_criterion, rates
from raysae.falsification.simulation.trial import Kind, Simulation, Trial, World, try_world

SIMULATIONS: dict[str, Simulation] = {
    "reconstruction": RECONSTRUCTION,
    "sparsity": SPARSITY,
    "fidelity": FIDELITY,
    "alignment": ALIGNMENT,
    "causal_interchange": CAUSAL_INTERCHANGE,
}

__all__ = [
    "FALSE_GO",
    "SIMULATIONS",
    "Kind",
    "Simulation",
    "Trial",
    "World",
    "allowed",
    "by_criterion",
    "rates",
    "try_world",
]
