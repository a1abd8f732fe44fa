"""What is known of a model whose weights were set by hand: where a variable is written, and what is read of a patch."""

import torch

from raysae.models.compiled import SITE, is_compiled
from raysae.stages.capture import MAIN
from raysae.stages.court import Examination
from raysae.stages.exhibits.pairs import PairTokens


def _known(exam: Examination) -> bool:
    model = exam.experiment.model
    return is_compiled(model) and not model.randomize and exam.source == MAIN and exam.hookpoint == SITE


def true_exchange(exam: Examination, pairs: PairTokens, names: tuple[str, ...]) -> torch.Tensor | None:
    """float32 [n, d], the edit in the true subspace: the base's value taken away and the source's written. None where
    it is not known."""
    if not _known(exam):
        return None
    from raysae.models.compiled.registers import directions

    model = exam.experiment.model
    codes = torch.from_numpy(directions(model.name, model.seed, pairs.variable, names)).float()
    base, source = (torch.tensor([names.index(v) for v in side]) for side in (pairs.base_values, pairs.values))
    return codes[source] - codes[base]


def readable(exam: Examination, delta: torch.Tensor) -> torch.Tensor | None:
    """float32 [n, d], the part of a patch in the row space of all that reads the site from other positions: what is
    left lies in their null space (SCIENCE 4.8). None where they are not known."""
    if not _known(exam):
        return None
    from raysae.models.compiled.registers import registers

    model = exam.experiment.model
    rows = torch.from_numpy(registers(model.name, model.seed).site).float()
    return delta @ rows.T @ rows
