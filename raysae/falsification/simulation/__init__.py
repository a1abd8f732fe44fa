"""The court put on trial: for every criterion worlds in which its claim is false, and one in which it is true."""

from raysae.falsification.simulation.carried import SIMULATION as TRANSFER
from raysae.falsification.simulation.circuits import SIMULATION as CAUSAL_INTERCHANGE
from raysae.falsification.simulation.dictionaries import REDUNDANCY_SIMULATION as REDUNDANCY
from raysae.falsification.simulation.dictionaries import STABILITY_SIMULATION as STABILITY
from raysae.falsification.simulation.documents import FIDELITY, RECONSTRUCTION, SPARSITY
from raysae.falsification.simulation.factors import SIMULATION as ALIGNMENT
from raysae.falsification.simulation.guidance import SIMULATION as LEAKAGE
from raysae.falsification.simulation.perturbed import SIMULATION as BRITTLENESS
from raysae.falsification.simulation.pushes import SIMULATION as CAUSAL_ATTRIBUTION
from raysae.falsification.simulation.rates import FALSE_GO, allowed, by_criterion, rates
from raysae.falsification.simulation.timings import LATENCY_SIMULATION, MEMORY_SIMULATION, THROUGHPUT_SIMULATION
from raysae.falsification.simulation.trial import Kind, Simulation, Trial, World, try_world

SIMULATIONS: dict[str, Simulation] = {
    "reconstruction": RECONSTRUCTION,
    "sparsity": SPARSITY,
    "fidelity": FIDELITY,
    "alignment": ALIGNMENT,
    "causal_interchange": CAUSAL_INTERCHANGE,
    "redundancy": REDUNDANCY,
    "stability": STABILITY,
    "transfer": TRANSFER,
    "causal_attribution": CAUSAL_ATTRIBUTION,
    "leakage": LEAKAGE,
    "brittleness": BRITTLENESS,
    "capture_latency": LATENCY_SIMULATION,
    "capture_throughput": THROUGHPUT_SIMULATION,
    "capture_memory": MEMORY_SIMULATION,
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
