"""Reconstruction and sparsity: sums per TEST document."""

from raysae.falsification.metrics import reconstruction, sparsity
from raysae.stages.court import Examination
from raysae.stages.exhibits.base import Evidence, Exhibit, Plain
from raysae.stages.measure import decode
from raysae.types import Metric


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
    return reconstruction.summarise(columns, l0_cap=evidence.protocol.l0_cap, **evidence.bootstrap)


def _summarise_sparsity(evidence: Evidence) -> Metric:
    return sparsity.summarise(evidence.columns("sparsity"), l0_cap=evidence.protocol.l0_cap)


RECONSTRUCTION = Exhibit(_reconstruction, _summarise_reconstruction)
SPARSITY = Exhibit(_sparsity, _summarise_sparsity)
