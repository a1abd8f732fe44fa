"""Alignment: factors matched to latents on FIT, measured on TEST, and the same with labels that belong elsewhere."""

from typing import Any

import numpy as np
import torch

from raysae.falsification.metrics import alignment, recovery
from raysae.models.maps import is_map
from raysae.stages.capture import MAIN
from raysae.stages.court import Examination
from raysae.stages.exhibits.base import Evidence, Exhibit, Plain
from raysae.stages.measure import encode, factor_matrix
from raysae.stages.states import truth
from raysae.types import Metric
from raysae.worlds.states import resampled
from raysae.worlds.strata import activations
from raysae.worlds.systems import SYSTEMS

LABEL_NULLS = {"permuted_labels": False, "circular_shift": True}
"""Null -> whether labels are turned within their document instead of exchanged between documents."""
DRAWS = 20
"""Draws of each, at most: a draw costs a matching."""


def _alignment(exam: Examination) -> Plain | None:
    if not exam.protocol.factors:
        return None
    fit, test = exam.fit, exam.test
    fit_factors, test_factors = exam.factors
    found: Plain = {"matched": plain(exam.matched)}
    if exam.arm == MAIN and is_map(exam.experiment.model):
        known = truth(exam.experiment, exam.source)
        found["recovery"] = recovery.measure(
            exam.matched, exam.test_latents, test_factors, exam.sae.W_dec, known.directions, known.registers,
            np.array([known.names.index(name) for name in exam.protocol.factors]),
        )._asdict()  # fmt: skip
    for null in (null for null in LABEL_NULLS if exam.arm == MAIN and null in exam.experiment.protocol.nulls):
        draws = alignment.align_permuted(
            exam.fit_latents, fit_factors, fit.document.numpy(), exam.test_latents, test_factors, test.document.numpy(),
            draws=min(DRAWS, exam.protocol.permutations), seed=exam.seed(null), alive=exam.alive,
            shift=LABEL_NULLS[null],
        )  # fmt: skip
        found[null] = [plain(draw) for draw in draws]
    return found


def _summarise(evidence: Evidence) -> Metric:
    shown = evidence.of("alignment")
    arms = {arm: [revive(seed["matched"]) for seed in seeds] for arm, seeds in shown.items()}
    drawn = {
        null: [[revive(draw) for draw in seed[null]] for seed in shown[MAIN]]
        for null in LABEL_NULLS
        if MAIN in shown and null in shown[MAIN][0]
    }
    arms.setdefault(MAIN, [revive(NOTHING)] * evidence.seeds)
    rivals = {name: arms.pop(name) for name in evidence.experiment.rivals if name in arms}
    metric = alignment.summarise(arms, names=evidence.protocol.factors, drawn=drawn)
    also = {f"rival {name}": float(alignment.recovered(seeds).mean()) for name, seeds in rivals.items()}
    known = [recovery.Recovery(**seed["recovery"]) for seed in shown.get(MAIN, []) if "recovery" in seed]
    if not known:
        return metric.model_copy(update={"also": metric.also | also})
    also |= {
        name: float(np.mean(values))
        for name, values in zip(recovery.Recovery._fields, zip(*known, strict=True), strict=True)
    }
    return metric.model_copy(update={"also": metric.also | also, "gates": (recovery.gate(known),)})


def _interventional(exam: Examination) -> Plain | None:
    """The same latents at the same thresholds, on TEST's states with every register drawn by itself."""
    if not exam.protocol.factors or not is_map(exam.experiment.model):
        return None
    known, seed = truth(exam.experiment, exam.source), exam.court.seed("interventional")
    labels = resampled(exam.test.labels, [SYSTEMS[name] for name in exam.experiment.corpus.names], seed)
    x = activations(factor_matrix(labels, known.names), known.directions, np.random.default_rng(seed))
    latents = encode(exam.sae, torch.from_numpy(x))
    factors = factor_matrix(labels, exam.protocol.factors)
    return {"matched": plain(alignment.align(exam.fit_latents, exam.factors[0], latents, factors, exam.alive))}


def _summarise_interventional(evidence: Evidence) -> Metric:
    arms = {arm: [revive(seed["matched"]) for seed in seeds] for arm, seeds in evidence.of("interventional").items()}
    said = None if MAIN in arms else "Only a world of states can be set to states that it does not come to by itself."
    arms.setdefault(MAIN, [revive(NOTHING)] * evidence.seeds)
    names = evidence.protocol.factors if said is None else ()
    metric = alignment.summarise(arms, names=names)
    return metric.model_copy(update={"name": "interventional", "not_run": said})


NOTHING: dict[str, list[float]] = {name: [] for name in alignment.Alignment._fields}
"""An alignment over no factor."""


def plain(found: alignment.Alignment) -> dict[str, list[float]]:
    """What the evidence holds of an alignment."""
    return {name: np.asarray(values).tolist() for name, values in found._asdict().items()}


def revive(shown: dict[str, Any]) -> alignment.Alignment:
    """The inverse of `plain`."""
    return alignment.Alignment(**{name: np.asarray(values) for name, values in shown.items()})


ALIGNMENT = Exhibit(_alignment, _summarise)
INTERVENTIONAL = Exhibit(_interventional, _summarise_interventional, nulls=("random_dictionary",))
