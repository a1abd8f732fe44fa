"""What the latents of one SAE look like together: redundancy, purity, and where in the text it reconstructs badly."""

from typing import Any

import numpy as np
import torch

from raysae.falsification.metrics import purity, reconstruction, redundancy, sparsity
from raysae.falsification.metrics.codes import size
from raysae.falsification.metrics.dictionaries import Dictionary, Origin, dictionary
from raysae.falsification.metrics.redundancy import Pair, Redundancy
from raysae.saes import build, checkpoint
from raysae.stages.capture import MAIN
from raysae.stages.court import PERMUTED, Examination
from raysae.stages.dictionaries import PLAIN
from raysae.stages.exhibits.base import Evidence, Exhibit, Plain
from raysae.stages.measure import decode, mean_active, places
from raysae.types import Metric
from raysae.types.experiment import stream_seed

DRAWS = 20
"""Label permutations of purity, at most."""


def geometry(exam: Examination) -> Dictionary:
    """The alive latents of an SAE on TEST, with what training says of how it began, and in the real arm its decoder
    before that."""
    sae, origin = exam.sae, exam.origin
    start = _start(exam, origin) if exam.arm == MAIN else None
    return dictionary(sae.W_dec.detach(), exam.test_latents, exam.alive, origin, start)


def _start(exam: Examination, origin: Origin) -> torch.Tensor | None:
    """The decoder that the seed gives, where training began with that one; a dictionary without training is its own."""
    sae = exam.sae
    if not exam.trained:
        return sae.W_dec.detach()
    seed = stream_seed(exam.experiment.seed, f"sae/{exam.number}/init")
    first = build(sae.architecture, sae.d_in, sae.d_sae, sae.k, seed)
    return first.W_dec.detach() if checkpoint.digest(first) == origin.init else None


def _redundancy(exam: Examination) -> Plain:
    found, test = geometry(exam), exam.test
    x_hat = decode(exam.sae, exam.test_latents)
    return Redundancy(
        geometric=redundancy.geometric(found.rows, stream_seed(exam.experiment.seed, "nulls/chance_cosine") % 2**32),
        functional=redundancy.functional(found.code),
        alive=size(found.code)[1],
        l0=mean_active(exam.test_latents),
        fvu=float((test.x - x_hat).square().sum().double() / (test.x - exam.mean).square().sum().double()),
        start=None if None in found.origin else f"{found.origin.init} {found.origin.order}",
    )._asdict()


def _summarise_level(evidence: Evidence) -> Metric:
    return redundancy.level(
        {arm: [Redundancy(**one) for one in seeds] for arm, seeds in evidence.of("redundancy_level").items()}
    )


def _summarise_redundancy(evidence: Evidence) -> Metric:
    shown = {arm: [Redundancy(**one) for one in seeds] for arm, seeds in evidence.of("redundancy").items()}
    if PLAIN not in shown:
        return Metric(
            name="redundancy", unit="share of redundancy removed", direction=">=", value=None, interval=None, n=0,
            unit_of_sampling="seed", seeds=evidence.seeds,
            not_run="The SAEs are trained without the decorrelation term; type loss.decorrelation=1 to judge it.",
        )  # fmt: skip
    plain = shown.pop(PLAIN)
    return redundancy.summarise(
        {arm: [Pair(*pair) for pair in zip(plain, seeds, strict=True)] for arm, seeds in shown.items()}
    )


def _purity(exam: Examination) -> Plain | None:
    test = exam.test
    values = [sorted({value for value in column if value is not None}) for column in test.labels.values()]
    labels = [places(column, known) for column, known in zip(test.labels.values(), values, strict=True) if known]
    if not labels:
        return None
    document = test.document.numpy()
    found = geometry(exam)
    draws = min(DRAWS, exam.protocol.permutations) if exam.arm == MAIN and _permuted(exam) else 0
    real, permuted = purity.measure(
        found.rows, found.code, np.stack(labels, axis=1), document, _texts(test.token_id, document)[document],
        draws=draws, seed=exam.seed(PERMUTED),
    )  # fmt: skip
    return {"real": real._asdict(), "permuted": [draw._asdict() for draw in permuted]}


def _permuted(exam: Examination) -> bool:
    return PERMUTED in exam.experiment.protocol.nulls


def _texts(token_id: np.ndarray, document: np.ndarray) -> np.ndarray:
    """The number of each document's text: equal for copies."""
    parts = np.split(token_id, np.flatnonzero(np.diff(document)) + 1)
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(part.tobytes(), len(numbers)) for part in parts])


def _summarise_purity(evidence: Evidence) -> Metric:
    shown = evidence.of("purity")
    if MAIN not in shown:
        return Metric(
            name="purity", unit="agreement above base rate", direction=">=", value=None, interval=None, n=0,
            unit_of_sampling="seed", seeds=evidence.seeds, not_run="The text has no labels.",
        )  # fmt: skip
    arms = {arm: [_revive(seed["real"]) for seed in seeds] for arm, seeds in shown.items()}
    return purity.summarise(arms, permuted=[[_revive(draw) for draw in seed["permuted"]] for seed in shown[MAIN]])


def _revive(plain: dict[str, Any]) -> purity.Purity:
    return purity.Purity(**{**plain, "bins": tuple(plain["bins"])})


def _positions(exam: Examination) -> Plain:
    test = exam.test
    first = torch.searchsorted(test.document, torch.arange(test.documents))
    columns = reconstruction.position_errors(
        test.x, decode(exam.sae, exam.test_latents), exam.mean, torch.arange(len(test.x)) - first[test.document]
    )
    return {name: values.tolist() for name, values in columns.items()}


def _density(exam: Examination) -> Plain:
    return {"shares": sparsity.density(exam.test_latents).tolist()}


def _summarise_positions(evidence: Evidence) -> Metric:
    return reconstruction.summarise_positions(evidence.columns("fvu_by_position"))


def _summarise_density(evidence: Evidence) -> Metric:
    columns = evidence.columns("firing_density")
    return sparsity.summarise_density({arm: [seed["shares"] for seed in seeds] for arm, seeds in columns.items()})


NULLS = ("random_dictionary", "frozen_decoder", "random_model")
"""Beside which the observations stand, where they are registered."""

REDUNDANCY = Exhibit(_redundancy, _summarise_redundancy, nulls=(PLAIN,))
LEVEL = Exhibit(_redundancy, _summarise_level, nulls=NULLS)
PURITY = Exhibit(_purity, _summarise_purity, nulls=NULLS)
POSITIONS = Exhibit(_positions, _summarise_positions, nulls=NULLS)
DENSITY = Exhibit(_density, _summarise_density, nulls=NULLS)
