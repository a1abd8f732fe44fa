"""What the SAEs of another run explain of this one's TEST, beside this run's own."""

import numpy as np

from raysae.falsification.metrics import reconstruction, transfer
from raysae.falsification.metrics.transfer import FLOORS, Transfer
from raysae.saes import SparseAutoencoder, cut_back
from raysae.stages.capture import MAIN
from raysae.stages.court import Examination
from raysae.stages.exhibits.base import Evidence, Exhibit, Plain
from raysae.stages.measure import decode, encode, mean_active
from raysae.types import Metric

NO_OTHER_RUN = "No other run is named; type protocol.transfer_from=<run folder>."
NOTHING_LEFT = "The other run trained on the problem of every TEST document."
SHOWN = ("l0_within", "l0_across", "documents_left_out")
EXCESS = 1.05
"""How many times the L0 of this run's SAE another may have before it is cut back to it: more latents explain more."""


def explained(exam: Examination, sae: SparseAutoencoder) -> tuple[np.ndarray, float]:
    """Per TEST document sum over its tokens of ||x - mean||^2 - ||x - x_hat||^2, the mean that of TRAIN; and L0."""
    test = exam.test
    latents = exam.test_latents if sae is exam.sae else encode(sae, test.x)
    active = (latents != 0).sum(dim=1)
    sums = reconstruction.document_errors(
        test.x, decode(sae, latents), exam.mean, test.document, test.documents, active
    )
    return sums["sst"] - sums["sse"], float(sums["l0"].sum() / sums["tokens"].sum())


def at_most(sae: SparseAutoencoder, exam: Examination) -> SparseAutoencoder:
    """`sae`, cut back on FIT to the L0 that the examined SAE has there if it has more."""
    l0 = mean_active(exam.fit_latents)
    found = mean_active(encode(sae, exam.fit.x))
    return sae if found <= EXCESS * l0 else cut_back(sae, l0, exam.fit.x)


def _examine(exam: Examination) -> Plain | None:
    other = exam.court.other
    if other is None:
        return None
    judged = ~exam.court.known_to_other(tuple(exam.test.records))
    within, l0 = explained(exam, exam.sae)
    if exam.arm != MAIN:
        return {"within": within[judged].tolist()}
    across, l0_across = explained(exam, at_most(other.sae(exam.number), exam))
    return {
        "within": within[judged].tolist(),
        "across": across[judged].tolist(),
        "l0_within": l0,
        "l0_across": l0_across,
        "documents_left_out": int((~judged).sum()),
    }


def _summarise(evidence: Evidence) -> Metric:
    """A null is its own other run: what needs no learning is the same wherever it comes from."""
    shown = evidence.of("transfer")
    main = shown.get(MAIN, [])
    if not main or not main[0]["within"]:
        return Metric(
            name="transfer", unit="share of the effect", direction=">=", value=None, interval=None, n=0,
            unit_of_sampling="document", seeds=evidence.seeds, not_run=NOTHING_LEFT if main else NO_OTHER_RUN,
        )  # fmt: skip
    within = {arm: np.array([seed["within"] for seed in seeds]) for arm, seeds in shown.items()}
    floors = {name: within[name] for name in FLOORS if name in within}
    arms = {arm: Transfer(scores, scores, floors) for arm, scores in within.items()}
    arms[MAIN] = Transfer(np.array([seed["across"] for seed in main]), within[MAIN], floors)
    metric = transfer.summarise(arms, **evidence.bootstrap)
    also = {name: float(np.mean([seed[name] for seed in main])) for name in SHOWN}
    return metric.model_copy(update={"also": {**metric.also, **also}})


TRANSFER = Exhibit(_examine, _summarise)
