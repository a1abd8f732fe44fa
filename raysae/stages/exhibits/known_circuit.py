"""What is known of a model that was set by hand, or trained to a circuit: where a variable is written, and what is read
of a patch."""

from functools import lru_cache

import torch

from raysae.models.circuit import KnownCircuit, known_circuit
from raysae.models.compiled import SITE, is_compiled
from raysae.stages.capture import MAIN
from raysae.stages.court import Court, Examination
from raysae.stages.exhibits.pairs import PairTokens


def _set_by_hand(exam: Examination) -> bool:
    model = exam.experiment.model
    return is_compiled(model) and not model.randomize and exam.source == MAIN and exam.hookpoint == SITE


@lru_cache(maxsize=4)  # asked for with every edit
def _circuit(court: Court) -> KnownCircuit | None:
    return known_circuit(court.experiment.model)


def _trained(exam: Examination) -> KnownCircuit | None:
    found = _circuit(exam.court) if exam.source == MAIN else None
    return found if found is not None and found.hookpoint == exam.hookpoint else None


def true_exchange(
    exam: Examination, pairs: PairTokens, names: tuple[str, ...], moved: torch.Tensor
) -> torch.Tensor | None:
    """float32 [n, d], the edit in the true subspace: the base's value taken away and the source's written; of a trained
    circuit the part of `moved` [n, d], source less base, that lies there. None where it is not known."""
    if (circuit := _trained(exam)) is not None and pairs.variable in circuit.blocks:
        rows = circuit.blocks[pairs.variable]
        return moved @ rows.T @ rows
    if not _set_by_hand(exam):
        return None
    from raysae.models.compiled.registers import directions

    model = exam.experiment.model
    codes = torch.from_numpy(directions(model.name, model.seed, pairs.variable, names)).float()
    base, source = pairs.codes(names)
    return codes[source] - codes[base]


def readable(exam: Examination, delta: torch.Tensor) -> torch.Tensor | None:
    """float32 [n, d], the part of a patch in the row space of all that reads the site: what is left lies in their null
    space (SCIENCE 4.8), exactly in a model set by hand; in a trained one it lies outside its circuit, where exchanges
    were trained to do nothing. None where they are not known."""
    if (circuit := _trained(exam)) is not None:
        return delta @ circuit.rows.T @ circuit.rows
    if not _set_by_hand(exam):
        return None
    from raysae.models.compiled.registers import registers

    model = exam.experiment.model
    rows = torch.from_numpy(registers(model.name, model.seed).site).float()
    return delta @ rows.T @ rows
