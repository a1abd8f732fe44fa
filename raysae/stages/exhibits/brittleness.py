"""Brittleness: the matched latents on the same documents in other words.

Only paraphrase is made so far, where a world knows which words mean the same; the others are named as not measured.
"""

import numpy as np
import torch

from raysae.falsification.metrics import alignment, brittleness
from raysae.falsification.metrics.matching import fires_above, permuted_rows
from raysae.falsification.metrics.tallies import Tally, f1
from raysae.models.capture import capture
from raysae.stages.capture import MAIN, token_batches
from raysae.stages.court import Examination
from raysae.stages.exhibits.base import Evidence, Exhibit, Plain
from raysae.stages.exhibits.labels import plain_tally, revive_tally
from raysae.stages.ingest import WORLDS
from raysae.stages.measure import encode
from raysae.types import Metric

PERMUTED = "permuted_labels"
NO_PARAPHRASE = "The corpus does not know which words mean the same, or has no labels."


def _examine(exam: Examination) -> Plain | None:
    words = _other_words(exam)
    if not exam.protocol.factors or not words:
        return None
    latents = {brittleness.CLEAN: exam.test_latents, "paraphrase": encode(exam.sae, _read(exam, words))}
    _, factors = exam.factors
    found: Plain = {"matched": _tallies(exam, latents, exam.matched, factors)}
    if exam.arm == MAIN and PERMUTED in exam.experiment.protocol.nulls:
        documents, seed = exam.test.document.numpy(), exam.seed(PERMUTED)
        (drawn,) = alignment.align_permuted(
            exam.fit_latents, exam.factors[0], exam.fit.document.numpy(), exam.test_latents, factors, documents,
            draws=1, seed=seed, alive=exam.alive,
        )  # fmt: skip
        found[PERMUTED] = _tallies(exam, latents, drawn, factors[permuted_rows(documents, seed + 1)])
    return found


def _tallies(
    exam: Examination, latents: dict[str, torch.Tensor], matched: alignment.Alignment, factors: np.ndarray
) -> Plain:
    return {
        kind: plain_tally(
            f1(fires_above(part, matched.latents, matched.thresholds), factors, exam.test.document.numpy(),
               exam.test.documents)
        )
        for kind, part in latents.items()
    }  # fmt: skip


def _other_words(exam: Examination) -> dict[int, int]:
    """Token -> a token that means the same; every word is one token, so that the labels stay where they are."""
    words = {}
    for name in exam.experiment.corpus.names:
        words |= getattr(WORLDS.get(name), "SYNONYMS", {})
    tokenizer = exam.court.tokenizer
    found = {}
    for word, other in words.items():
        ids = [tokenizer(part, add_special_tokens=False)["input_ids"] for part in (word, other)]
        if any(len(one) != 1 for one in ids):
            return {}
        found[ids[0][0]] = ids[1][0]
    return found


def _read(exam: Examination, words: dict[int, int]) -> torch.Tensor:
    """float32 [k, d_in] over the TEST sample's tokens, in other words."""
    test = exam.test
    tokens = torch.tensor([words.get(int(token), int(token)) for token in test.token_id])
    lengths = torch.bincount(test.document, minlength=test.documents)
    starts = torch.cumsum(lengths, 0) - lengths
    x = torch.empty_like(test.x)
    for batch in token_batches(lengths.tolist(), exam.experiment.capture.batch_tokens):
        at = torch.arange(int(lengths[batch].max()))
        mask = at < lengths[batch][:, None]
        rows = (starts[batch][:, None] + at)[mask]
        ids = torch.zeros(mask.shape, dtype=torch.int64)
        ids[mask] = tokens[rows]
        seen = capture(exam.model, ids, mask.long(), (exam.hookpoint,))[exam.hookpoint]
        x[rows] = seen[mask].float()
    return x


def _summarise(evidence: Evidence) -> Metric:
    shown = evidence.of("brittleness")
    arms = {arm: [_revive(seed["matched"]) for seed in seeds] for arm, seeds in shown.items()}
    if PERMUTED in shown.get(MAIN, [{}])[0]:
        arms[PERMUTED] = [_revive(seed[PERMUTED]) for seed in shown[MAIN]]
    arms.setdefault(MAIN, [])
    metric = brittleness.summarise(arms, **evidence.bootstrap)
    return metric if arms[MAIN] else metric.model_copy(update={"not_run": NO_PARAPHRASE, "gates": ()})


def _revive(shown: Plain) -> dict[str, Tally]:
    return {kind: revive_tally(tally) for kind, tally in shown.items()}


BRITTLENESS = Exhibit(_examine, _summarise)
