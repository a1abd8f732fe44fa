"""Cross-entropy of the model on TEST documents: clean, through the SAE, and with the hook point ablated."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from raysae.falsification.metrics import fidelity
from raysae.models.capture import splice
from raysae.saes import SparseAutoencoder
from raysae.stages.court import Court, Examination
from raysae.stages.exhibits.base import Evidence, Exhibit, Plain
from raysae.stages.forward import token_batches
from raysae.types import Metric

Edit = Callable[[torch.Tensor], torch.Tensor]


def through(sae: SparseAutoencoder) -> Edit:
    """The reconstruction in the place of what stands at the hook point, [b, t, d]."""
    return lambda hidden: sae(hidden.flatten(0, 1).float()).reconstruction.view_as(hidden)


@torch.no_grad()
def _fidelity(exam: Examination) -> Plain:
    """Nats per document of the sums `fidelity.summarise` reads."""
    model, court = exam.model, exam.court
    count = len(court.test_ids)
    totals = {name: np.zeros(count) for name in ("clean", "sae", "kl", "tokens")}
    for ids, mask, document in _batches(court):
        clean = model(ids, attention_mask=mask.long(), use_cache=False).logits
        spliced = _spliced(court, exam.source, ids, mask, through(exam.sae))
        totals["clean"] += fidelity.cross_entropy(clean, ids, mask, document, count)
        totals["sae"] += fidelity.cross_entropy(spliced, ids, mask, document, count)
        totals["kl"] += fidelity.kl_divergence(clean, spliced, mask, document, count)
        totals["tokens"] += fidelity.predicted_tokens(mask, document, count)
    totals |= _ablated(court, exam.source)
    return {name: values.tolist() for name, values in totals.items()}


@lru_cache(maxsize=4)
@torch.no_grad()
def _ablated(court: Court, source: str) -> dict[str, np.ndarray]:
    """What no SAE changes: mean and zero ablation, the same for all seeds and dictionaries of a model."""
    mean, count = court.mean(source, court.hookpoint), len(court.test_ids)
    edits: dict[str, Edit] = {
        "ablated": lambda hidden: mean.expand_as(hidden),
        "zero_ablated": torch.zeros_like,
    }
    totals = {name: np.zeros(count) for name in edits}
    for ids, mask, document in _batches(court):
        for name, edit in edits.items():
            totals[name] += fidelity.cross_entropy(_spliced(court, source, ids, mask, edit), ids, mask, document, count)
    return totals


def _spliced(court: Court, source: str, ids: torch.Tensor, mask: torch.Tensor, edit: Edit) -> Any:
    model = court.model(source)
    with splice(model, court.hookpoint, edit):
        return model(ids, attention_mask=mask.long(), use_cache=False).logits


def _batches(court: Court) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """(ids [b, t], mask [b, t], document [b]) over the TEST documents of spliced passes."""
    documents = court.test_ids
    for batch in token_batches([len(ids) for ids in documents], court.experiment.capture.batch_tokens):
        longest = max(len(documents[i]) for i in batch)
        ids = torch.zeros((len(batch), longest), dtype=torch.int64)
        mask = torch.zeros((len(batch), longest), dtype=torch.bool)
        for row, i in enumerate(batch):
            ids[row, : len(documents[i])] = torch.from_numpy(documents[i].astype(np.int64))
            mask[row, : len(documents[i])] = True
        yield ids, mask, torch.tensor(batch)


def _summarise(evidence: Evidence) -> Metric:
    return fidelity.summarise(evidence.columns("fidelity"), **evidence.bootstrap)


FIDELITY = Exhibit(_fidelity, _summarise)
