"""The latents of VERIFY patched from clean traces into their corrupted twins: is the wrong result still found (SCIENCE
5.6)? The twins differ in the wrong result and the verdict alone, and are edited on the word before the verdict."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch

from raysae.falsification.metrics import causal, mediation
from raysae.falsification.metrics.mediation import Patched
from raysae.models.capture import capture
from raysae.models.patch import edited_logits, packs, residual_step
from raysae.stages.court import Court, Examination
from raysae.stages.dictionaries import UNGUIDED
from raysae.stages.exhibits.base import Evidence, Exhibit, Plain
from raysae.stages.exhibits.designated import designated
from raysae.stages.exhibits.judged import aligned, judged
from raysae.stages.exhibits.labels import nothing
from raysae.stages.exhibits.words import tokens_of
from raysae.stages.measure import encode
from raysae.types import HookPoint, Metric, Split
from raysae.worlds.controlled_cot.words import FAILS, HOLDS, VERIFY

NO_TWINS = "The text has no traces with a wrong result beside the same without one."


class _Twins(NamedTuple):
    """Corrupted traces up to the word before the verdict."""

    clean: torch.Tensor
    """float32 [n, d_in], the activation of that word in the clean trace"""
    corrupted: torch.Tensor
    hidden: torch.Tensor
    """[n, t, d], what the hook point's block makes of the corrupted one"""
    positions: torch.Tensor
    """int64 [n]"""


def _examine(exam: Examination) -> Plain | None:
    twins, text = _read(exam.court, exam.source), judged(exam.court, exam.source)
    if twins is None or text is None or VERIFY not in text.classes:
        return None
    chosen = designated(exam, text).latents[text.classes.index(VERIFY)]
    latents = chosen[chosen >= 0].tolist()
    if not latents:
        return None
    h_corrupted, h_clean = encode(exam.sae, twins.corrupted), encode(exam.sae, twins.clean)
    W_dec, seed = exam.sae.W_dec.detach(), exam.seed("verification")

    def edit(taken: list[int]) -> torch.Tensor:
        return causal.interchange(h_corrupted, h_clean, W_dec, torch.tensor(taken))

    rates = (encode(exam.sae, text.fit.x) > 0).double().mean(dim=0).numpy()
    sizes = causal.step_sizes(h_corrupted, h_clean, W_dec)
    sets = causal.matched_sets(rates, latents, exam.protocol.permutations, seed, exam.alive.numpy(), sizes)
    mine = edit(latents)
    edits = [
        *(torch.zeros_like(mine), mine, causal.random_direction(mine, seed), twins.clean - twins.corrupted),
        *(edit(taken.tolist()) for taken in sets),
    ]
    odds = _log_odds(exam, twins, torch.stack(edits, dim=1)).T
    found = Patched(odds[0], odds[1], odds[4:], odds[2], odds[3])
    return {name: np.round(values, 4).tolist() for name, values in found._asdict().items()}


@lru_cache(maxsize=2)
def _read(court: Court, source: str) -> _Twins | None:
    text = judged(court, source)
    if text is None or not {"CLEAN", "CORRUPTED"} <= set(text.test):
        return None
    clean, corrupted = text.test["CLEAN"], text.test["CORRUPTED"]
    of_clean, of_corrupted = aligned(clean, corrupted)
    if not len(of_clean):
        return None
    token_id = court.sample(source, Split.TEST).token_id
    positions = torch.from_numpy(corrupted.position[of_corrupted])
    ids = torch.zeros((len(positions), int(positions.max()) + 1), dtype=torch.int64)
    for i, (row, at) in enumerate(zip(corrupted.rows[of_corrupted], positions.tolist(), strict=True)):
        ids[i, : at + 1] = torch.from_numpy(token_id[row - at : row + 1].astype(np.int64))
    block = HookPoint(layer=court.hookpoint.layer, site="resid_post")
    hidden = capture(court.model(source), ids, torch.ones_like(ids), (block,))[block]
    return _Twins(clean.x[of_clean], corrupted.x[of_corrupted], hidden, positions)


@torch.no_grad()
def _log_odds(exam: Examination, twins: _Twins, delta: torch.Tensor) -> np.ndarray:
    """float64 [n, e]: of "fails" against "holds", with `delta` [n, e, d_in] added on the word before the verdict."""
    layer, model, tokenizer = exam.hookpoint.layer, exam.model, exam.court.tokenizer
    (fails,), (holds,) = tokens_of(tokenizer, [FAILS]), tokens_of(tokenizer, [HOLDS])
    found = np.empty(delta.shape[:2])
    for rows, copies in packs(model, layer, twins.positions, delta.shape[1], 1):
        parts: list[Any] = []
        for some in delta[rows].split(copies, dim=1):
            step = residual_step(model, exam.hookpoint, some)
            logits = edited_logits(model, layer, twins.hidden[rows], twins.positions[rows], step, 1)[:, :, 0]
            parts.append(logits[..., fails] - logits[..., holds])
        found[rows.numpy()] = torch.cat(parts, dim=1).double().numpy()
    return found


def _summarise(evidence: Evidence) -> Metric:
    shown = evidence.of("verification")
    if "main" not in shown:
        return nothing(evidence, "verification", "share of found errors that go unnoticed", NO_TWINS)
    arms = {
        arm: [Patched(**{name: np.asarray(values) for name, values in seed.items()}) for seed in seeds]
        for arm, seeds in shown.items()
    }
    return mediation.summarise(arms, **evidence.bootstrap)


VERIFICATION = Exhibit(_examine, _summarise, nulls=(UNGUIDED,))
