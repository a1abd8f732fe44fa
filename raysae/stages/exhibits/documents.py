"""Reconstruction and sparsity: sums per TEST document."""

from raysae.falsification.metrics import reconstruction, sparsity
from raysae.stages.court import Examination
from raysae.stages.dictionaries import PLAIN, UNGUIDED
from raysae.stages.exhibits.base import Evidence, Exhibit, Plain
from raysae.stages.measure import decode
from raysae.types import Metric

BASELINES = (PLAIN, UNGUIDED)
"""The same seeds without a term of the loss: with these alone an SAE's error is compared, where they are trained."""


def _reconstruction(exam: Examination) -> Plain:
    test, latents = exam.test, exam.test_latents
    active = (latents != 0).sum(dim=1)
    columns = reconstruction.document_errors(
        test.x, decode(exam.sae, latents), exam.mean, test.document, test.documents, active
    )
    return {name: values.tolist() for name, values in columns.items()}


def _sparsity(exam: Examination) -> Plain:
    columns = sparsity.document_columns(exam.test_latents, exam.alive, exam.test.document, exam.test.documents)
    return {name: values.tolist() for name, values in columns.items()}


def _summarise_reconstruction(evidence: Evidence) -> Metric:
    columns = evidence.columns("reconstruction")
    baselines = {arm: columns.pop(arm) for arm in BASELINES if arm in columns}
    return reconstruction.summarise(columns, l0_cap=evidence.protocol.l0_cap, baselines=baselines, **evidence.bootstrap)


def _summarise_sparsity(evidence: Evidence) -> Metric:
    return sparsity.summarise(evidence.columns("sparsity"), l0_cap=evidence.protocol.l0_cap)


RECONSTRUCTION = Exhibit(_reconstruction, _summarise_reconstruction, nulls=BASELINES)
SPARSITY = Exhibit(_sparsity, _summarise_sparsity)
