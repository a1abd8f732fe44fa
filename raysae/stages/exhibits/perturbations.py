"""The TEST sample under each perturbation of `brittleness`: its texts, and what the model makes of them.

Drawn once for a run, so that every arm and seed is held to the same texts; read once per model and process.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch

from raysae.corpora import rewriting
from raysae.corpora.rewriting import Rewritten
from raysae.stages.capture import MAIN
from raysae.stages.court import Court
from raysae.stages.exhibits.reading import read_places
from raysae.stages.exhibits.words import Words, tokens_of
from raysae.stages.ingest import WORLDS
from raysae.stages.measure import factor_matrix
from raysae.types import Split

CUES = ("so", "then", "therefore", "thus", "hence", "first", "next", "now", "finally", "check")
"""Words that announce what comes and say nothing of it (SCIENCE 5.1)."""
ONE_IN = 16
"""Tokens of text per injected one."""


class Perturbed(NamedTuple):
    rows: np.ndarray
    """int [r], the tokens of the sample that are still there and see a text other than before."""
    x: torch.Tensor
    """float32 [r, d_in], their activations."""
    removed: np.ndarray
    """bool [n], the tokens that were taken out."""


@lru_cache(maxsize=4)
def perturbed(court: Court, source: str, kind: str) -> Perturbed | None:
    """The sample as a model reads it under a perturbation; None where this text or its tokenizer does not allow it."""
    texts = PERTURBATIONS[kind](court)
    if texts is None or not any(_changed(*both).any() for both in zip(_documents(court), texts, strict=True)):
        return None
    rows, x = _read(court, source, texts)
    removed = np.concatenate([text.at for text in texts]) < 0
    # What a longer text pushes out at its end was not taken out: nothing is known of it but how it was.
    return Perturbed(rows, x, removed if kind == "cue_removal" else np.zeros_like(removed))


def paraphrase(court: Court) -> list[Rewritten] | None:
    """Every word for another that means the same, where a world knows one; both are one token, so that labels stay."""
    known: dict[int, int] = {}
    for word, other in ((word, other) for world in _worlds(court) for word, other in world.SYNONYMS.items()):
        for space in ("", " "):
            old, new = (tokens_of(court.tokenizer, [space + text]) for text in (word, other))
            if not old or not new:
                return None
            known[old[0]] = new[0]
    return [rewriting.exchange(tokens, known) for tokens in _documents(court)] if known else None


def token_injection(court: Court) -> list[Rewritten] | None:
    """Cues in front of words that begin with a letter, so that no number or formula is torn."""
    words, documents = _words(court), _documents(court)
    cues, places = np.array(words.apart(_cues(court))), words.begins & words.letter & ~words.first
    if not len(cues) or not places.any():
        return None
    rng = np.random.default_rng(court.seed("brittleness/token_injection"))
    limit = max(map(len, documents))
    return [
        rewriting.insert(tokens, np.flatnonzero(free), cues, max(1, round(len(tokens) / ONE_IN)), limit, rng)
        for tokens, free in zip(documents, _by_document(court, places), strict=True)
    ]


def cue_removal(court: Court) -> list[Rewritten] | None:
    """Without the cues, except one that is all that carries a label."""
    words, sample = _words(court), court.sample(MAIN, Split.TEST)
    cues = words.whole & np.isin(sample.token_id, _cues(court, str.lower, str.capitalize))
    factors = factor_matrix(sample.labels, court.protocol.factors)
    gone = rewriting.removable(cues, factors, sample.document.numpy())
    if not gone.any():
        return None
    texts = zip(_documents(court), _by_document(court, gone), strict=True)
    return [rewriting.remove(tokens, here) for tokens, here in texts]


def length_shift(court: Court) -> list[Rewritten] | None:
    """The end of another document in front, up to half as long as the text, which a longest document bounds: all tokens
    stand at other positions, none of them new to the sample."""
    documents = _documents(court)
    if len(documents) < 2:
        return None
    special, limit = set(court.tokenizer.all_special_ids), max(map(len, documents))
    heads = [int(len(tokens) > 1 and int(tokens[0]) in special) for tokens in documents]
    rng = np.random.default_rng(court.seed("brittleness/length_shift"))
    found = []
    for i, tokens in enumerate(documents):
        other = (i + int(rng.integers(1, len(documents)))) % len(documents)
        size = int(rng.integers(1, max(1, len(tokens) // 2), endpoint=True))
        found.append(rewriting.shift(tokens, documents[other][heads[other] :][-size:], heads[i], limit))
    return found


PERTURBATIONS: dict[str, Callable[[Court], list[Rewritten] | None]] = {
    "paraphrase": paraphrase,
    "token_injection": token_injection,
    "cue_removal": cue_removal,
    "length_shift": length_shift,
}


def _worlds(court: Court) -> list[Any]:
    return [WORLDS[name] for name in court.experiment.corpus.names if name in WORLDS]


def _cues(court: Court, *spellings: Callable[[str], str]) -> list[int]:
    """The tokens that are a cue, with a space in front or without."""
    spelled = [spell(word) for word in CUES for spell in spellings or (str.lower,)]
    return tokens_of(court.tokenizer, (*spelled, *(f" {word}" for word in spelled)))


def _words(court: Court) -> Words:
    sample = court.sample(MAIN, Split.TEST)
    return Words(court.tokenizer, sample.token_id, sample.document.numpy())


def _documents(court: Court) -> list[np.ndarray]:
    return _by_document(court, court.sample(MAIN, Split.TEST).token_id.astype(np.int64))


def _by_document(court: Court, values: np.ndarray) -> list[np.ndarray]:
    document = court.sample(MAIN, Split.TEST).document.numpy()
    return np.split(values, np.flatnonzero(np.diff(document)) + 1)


def _read(court: Court, source: str, texts: list[Rewritten]) -> tuple[np.ndarray, torch.Tensor]:
    """`rows` and `x` of `Perturbed`; rounded as those on disk."""
    documents = _documents(court)
    starts = np.cumsum([0, *map(len, documents)])
    left = [np.flatnonzero(_changed(tokens, text)) for tokens, text in zip(documents, texts, strict=True)]
    kept = [i for i, rows in enumerate(left) if len(rows)]
    x = read_places(
        court.model(source),
        court.hookpoint,
        court.experiment.capture,
        [texts[i].tokens for i in kept],
        [texts[i].at[left[i]] for i in kept],
    )
    return np.concatenate([starts[i] + left[i] for i in kept]), x


def _changed(tokens: np.ndarray, text: Rewritten) -> np.ndarray:
    """bool [n]: still there, and not in a beginning that is as it was, since a model sees what came before alone."""
    same = text.at == np.arange(len(tokens))
    same[same] = text.tokens[text.at[same]] == tokens[same]
    return (text.at >= 0) & ~np.logical_and.accumulate(same)
