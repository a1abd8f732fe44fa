"""The tests that come before stability, on FIT: a latent's own tokens put into texts whose words were shuffled, and the
push of attribution against matched latents (SCIENCE 5.7, 6.3)."""

import numpy as np

from raysae.corpora import rewriting
from raysae.falsification.metrics import attribution
from raysae.falsification.metrics.attribution import LATENTS
from raysae.falsification.metrics.dose_response import effect
from raysae.falsification.metrics.null_directions import null_draws
from raysae.falsification.metrics.screening import OWN_TOKENS, Screen, own_tokens
from raysae.stages.court import Examination
from raysae.stages.exhibits.reading import read_places
from raysae.stages.exhibits.readouts import Readouts
from raysae.stages.exhibits.sites import probe, sites, spread
from raysae.stages.measure import encode
from raysae.types import Split

TEXTS = 32
MATCHED = 99
"""Matched latents an effect is held against."""


def screen(exam: Examination, latents: np.ndarray) -> Screen:
    """Of the latents [c] of one SAE, by their numbers, in that order."""
    if not len(latents):
        return Screen(np.empty(0), np.empty(0, dtype=bool), np.empty(0))
    return Screen(_injected(exam, latents), *_pushed(exam, latents))


def _injected(exam: Examination, latents: np.ndarray) -> np.ndarray:
    """float64 [c]: the share of shuffled texts in which a latent fires on one of its own tokens, put in at random."""
    sample, texts = exam.fit, _shuffled(exam)
    limit, token_id = max(map(len, texts)), sample.token_id.astype(np.int64)
    rng = np.random.default_rng(exam.seed("screening/injection"))
    found = np.zeros(len(latents))
    for column, latent in enumerate(latents):
        own = own_tokens(exam.fit_latents[:, latent].double().numpy(), token_id)
        if not len(own):
            continue
        put_in = [rewriting.insert(text, np.arange(1, len(text)), own, OWN_TOKENS, limit, rng) for text in texts]
        places = [np.setdiff1d(np.arange(len(one.tokens)), one.at) for one in put_in]
        x = read_places(exam.model, exam.hookpoint, exam.experiment.capture, [one.tokens for one in put_in], places)
        fires = encode(exam.sae, x)[:, latent].numpy() > 0
        of = np.repeat(np.arange(len(texts)), [len(some) for some in places])
        found[column] = len(np.unique(of[fires])) / len(texts)
    return found


def _shuffled(exam: Examination) -> list[np.ndarray]:
    """The first documents of FIT with their tokens in random order, special ones in their places."""
    sample, special = exam.fit, exam.court.tokenizer.all_special_ids
    rng = np.random.default_rng(exam.court.seed("screening/texts"))
    texts = np.split(sample.token_id.astype(np.int64), np.flatnonzero(np.diff(sample.document.numpy())) + 1)[:TEXTS]
    for text in texts:
        free = np.flatnonzero(~np.isin(text, special))
        text[free] = rng.permutation(text[free])
    return [text for text in texts if len(text) > 1]


def _pushed(exam: Examination, latents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(bool [c], float64 [c]): `supports` and `p`. The target is chosen on every second place of a latent, the effect
    is measured on the others."""
    readouts, seed = Readouts(exam.experiment, exam.court.tokenizer), exam.seed("screening/push")
    rows, owner = sites(exam, Split.FIT, latents, readouts, seed)
    number = np.arange(len(owner)) - np.searchsorted(owner, owner)
    halves = [
        probe(exam, Split.FIT, latents, rows[number % 2 == half], owner[number % 2 == half], readouts)
        for half in (0, 1)
    ]
    W_dec, rates = exam.sae.W_dec.detach(), (exam.fit_latents > 0).double().mean(dim=0).numpy()
    draws = {"matched_latents": 1 + MATCHED if int(exam.alive.sum()) > 1 else 0}
    measured = attribution.measure(
        halves[0],
        halves[1],
        W_dec[latents],
        null_draws(W_dec, rates, exam.alive.numpy(), latents, seed),
        spread(exam.fit_latents[:, latents].double()),
        {},
        None,
        readouts.targets,
        {"random_direction": 0, "shuffled_decoder": 0, **draws},
    )
    one = measured["directions"][LATENTS]
    return (one.fit_slope > 0) & (effect(one.curve) > 0), one.p["matched_latents"]
