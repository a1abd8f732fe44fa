"""Observations on labelled text: how selective latents are, what single latents cover, how well they are calibrated."""

from typing import Any

import numpy as np
from scipy.sparse import csr_array

from raysae.falsification.metrics import calibration, coverage, selectivity
from raysae.falsification.metrics.alignment import Alignment
from raysae.falsification.metrics.tallies import Tally
from raysae.stages.capture import MAIN
from raysae.stages.court import Examination
from raysae.stages.exhibits.alignment import plain, revive
from raysae.stages.exhibits.base import Evidence, Exhibit, Plain
from raysae.stages.measure import by_variable, places
from raysae.types import Metric

NO_LABELS = "No factor is registered: the text has no labels, or none passed the audit."
NULLS = ("random_dictionary", "random_model")


def sparse(latents: Any) -> csr_array:
    """csr [n, d_sae] of a tensor."""
    return csr_array(latents.numpy())


def plain_tally(tally: Tally) -> dict[str, Any]:
    """What the evidence holds of a tally."""
    return {"hits": tally.hits.tolist(), "of": tally.of.tolist()}


def revive_tally(shown: dict[str, Any]) -> Tally:
    """The inverse of `plain_tally`."""
    return Tally(np.asarray(shown["hits"], dtype=np.float64), np.asarray(shown["of"], dtype=np.float64))


def nothing(evidence: Evidence, name: str, unit: str, said: str) -> Metric:
    """An observation that could not be made."""
    return Metric(
        name=name, unit=unit, direction=">=", value=None, interval=None, n=0, unit_of_sampling="document",
        seeds=evidence.seeds, not_run=said,
    )  # fmt: skip


def _selectivity(exam: Examination) -> Plain | None:
    if not exam.protocol.factors or not exam.alive.any():
        return None
    found = selectivity.measure(
        sparse(exam.fit_latents), exam.factors[0], exam.fit.document.numpy(),
        sparse(exam.test_latents), exam.factors[1], exam.test.document.numpy(), exam.alive.numpy(),
        documents=exam.test.documents, seed=exam.seed("selectivity"),
    )  # fmt: skip
    arrays = {name: value.tolist() for name, value in found._asdict().items() if name != "tally"}
    return {**arrays, "tally": plain_tally(found.tally)}


def _summarise_selectivity(evidence: Evidence) -> Metric:
    arms = {arm: [_revive_selective(one) for one in seeds] for arm, seeds in evidence.of("selectivity").items()}
    if MAIN not in arms:
        return nothing(evidence, "selectivity", "share of firing above permuted labels", NO_LABELS)
    return selectivity.summarise(arms, **evidence.bootstrap)


def _revive_selective(shown: Plain) -> selectivity.Selective:
    arrays = {name: np.asarray(value) for name, value in shown.items() if name != "tally"}
    return selectivity.Selective(**arrays, tally=revive_tally(shown["tally"]))


def _coverage(exam: Examination) -> Plain | None:
    if not exam.protocol.factors:
        return None
    found: Plain = {"matched": plain(exam.matched)}
    # Raw activations are the same for every SAE of the real model.
    if exam.arm == MAIN and exam.number == exam.experiment.train.seed_numbers[0]:
        found["probe"] = _probe_f1(exam).tolist()
    return found


def _probe_f1(exam: Examination) -> np.ndarray:
    """TEST F1 of a linear probe for each registered factor, one probe per variable."""
    found: dict[str, float] = {}
    for variable, values in by_variable(exam.protocol.factors).items():
        fit, test = (places(part.labels[variable], values) for part in (exam.fit, exam.test))
        f1 = coverage.probe_f1(
            exam.fit.x.numpy(), fit, exam.fit.document.numpy(), exam.test.x.numpy(), test, count=len(values),
            seed=exam.seed("probe"),
        )  # fmt: skip
        found |= {f"{variable}={value}": float(f1[i]) for i, value in enumerate(values)}
    return np.array([found[name] for name in exam.protocol.factors])


def _summarise_coverage(evidence: Evidence) -> Metric:
    shown = evidence.of("coverage")
    if MAIN not in shown:
        return nothing(evidence, "coverage", "share of factors", NO_LABELS)
    arms: dict[str, list[Alignment]] = {arm: [revive(one["matched"]) for one in seeds] for arm, seeds in shown.items()}
    probe = [np.asarray(one["probe"]) for one in shown[MAIN] if "probe" in one]
    return coverage.summarise(arms, probe=probe, n=len(evidence.protocol.factors))


def _calibration(exam: Examination) -> Plain | None:
    if not exam.protocol.factors:
        return None
    fit_factors, test_factors = exam.factors
    rate = fit_factors.mean(axis=0)
    predicted = np.tile(rate, (len(test_factors), 1))  # What is forecast of a factor without a latent.
    for f in np.flatnonzero(exam.matched.latents >= 0):
        latent = int(exam.matched.latents[f])
        fit, test = (latents[:, latent].double().numpy() for latents in (exam.fit_latents, exam.test_latents))
        predicted[:, f] = calibration.probabilities(fit, fit_factors[:, f], test)
    found = calibration.reliability(predicted, test_factors, rate, exam.test.document.numpy(), exam.test.documents)
    arrays = {name: getattr(found, name).tolist() for name in ("predicted", "happened", "tokens")}
    return {**arrays, "brier": plain_tally(found.brier), "base": plain_tally(found.base)}


def _summarise_calibration(evidence: Evidence) -> Metric:
    arms = {arm: [_revive_reliability(one) for one in seeds] for arm, seeds in evidence.of("calibration").items()}
    if MAIN not in arms:
        return nothing(evidence, "calibration", "expected calibration error", NO_LABELS)
    return calibration.summarise(arms, **evidence.bootstrap)


def _revive_reliability(shown: Plain) -> calibration.Reliability:
    arrays = {name: np.asarray(shown[name], dtype=np.float64) for name in ("predicted", "happened", "tokens")}
    return calibration.Reliability(**arrays, brier=revive_tally(shown["brier"]), base=revive_tally(shown["base"]))


SELECTIVITY = Exhibit(_selectivity, _summarise_selectivity, nulls=NULLS)
COVERAGE = Exhibit(_coverage, _summarise_coverage, nulls=NULLS)
CALIBRATION = Exhibit(_calibration, _summarise_calibration, nulls=NULLS)
