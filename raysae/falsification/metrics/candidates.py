"""Attempts to refute that a latent marks a kind of step: injected tokens, removed cues, paraphrase, minimal pairs
(SCIENCE 5.7)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from raysae.falsification.intervals import Estimate, benjamini_hochberg, share_over_seeds
from raysae.falsification.metrics.documents import MAIN, as_null
from raysae.falsification.metrics.observation import finite
from raysae.types.metric import Metric

INJECTION = 0.10
RETENTION = 0.80
PAIRS_NEEDED = 30
"""Fewer minimal pairs bound no AUROC by its standard error."""


class Candidates(NamedTuple):
    """What each candidate latent did."""

    injection: Float[np.ndarray, " c"]
    """Share of injected texts, which hold no reasoning, on which it fires."""
    cue_free: Float[np.ndarray, " c"]
    """Share of its steps that it still marks without their cues."""
    paraphrase: Float[np.ndarray, " c"]
    auroc: Float[np.ndarray, " c"]
    """Of its activation between the two members of minimal pairs."""
    auroc_lower: Float[np.ndarray, " c"]
    p: Float[np.ndarray, " c"]
    """Of AUROC <= 0.5."""


def auroc(
    positive: Float[np.ndarray, "p c"], negative: Float[np.ndarray, "p c"], alpha: float = 0.05
) -> tuple[Float[np.ndarray, " c"], Float[np.ndarray, " c"], Float[np.ndarray, " c"]]:
    """AUROC of each column between positives and negatives, lower bound and p of `<= 0.5`.

    The two of a row are a pair and not independent: the variance is that of clusters of two (Obuchowski 1997, after
    DeLong). NaN bounds, and p = 1, with fewer than 30 pairs.
    """
    pairs = len(positive)
    if not pairs:
        nothing = np.full(positive.shape[1], np.nan)
        return nothing, nothing, np.ones(positive.shape[1])
    ranks = stats.rankdata(np.concatenate([positive, negative]), axis=0)
    # How much of the other side lies below each positive, and above each negative; ties count half.
    above = (ranks[:pairs] - stats.rankdata(positive, axis=0)) / pairs
    below = 1 - (ranks[pairs:] - stats.rankdata(negative, axis=0)) / pairs
    value = above.mean(axis=0)
    if pairs < PAIRS_NEEDED:
        return value, np.full(len(value), np.nan), np.ones(len(value))
    error = np.sqrt(((above + below - 2 * value) ** 2).sum(axis=0) / (pairs * (pairs - 1)))
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(error > 0, stats.norm.sf((value - 0.5) / error), np.where(value > 0.5, 0.0, 1.0))
    return value, value - stats.norm.ppf(1 - alpha) * error, p


def examine(
    injected: Bool[np.ndarray, "i c"],
    with_cues: Bool[np.ndarray, "s c"],
    cue_free: Bool[np.ndarray, "s c"],
    original: Bool[np.ndarray, "r c"],
    paraphrase: Bool[np.ndarray, "r c"],
    positive: Float[np.ndarray, "p c"],
    negative: Float[np.ndarray, "p c"],
) -> Candidates:
    """Whether each candidate fires on each text or step (rows of two renderings are the same step), and its activation
    on both members of each minimal pair. A candidate that fires on no original retains nothing."""
    value, lower, p = auroc(positive, negative)
    return Candidates(
        injection=injected.mean(axis=0) if len(injected) else np.ones(injected.shape[1]),
        cue_free=_retained(with_cues, cue_free),
        paraphrase=_retained(original, paraphrase),
        auroc=value,
        auroc_lower=lower,
        p=p,
    )


def survives(found: Candidates) -> Bool[np.ndarray, " c"]:
    """Injection at most 0.10, retention at least 0.80 on both renderings, and the AUROC's lower bound above 0.5, also
    after Benjamini-Hochberg over all candidates."""
    kept = (found.cue_free >= RETENTION - 1e-9) & (found.paraphrase >= RETENTION - 1e-9)
    told_apart = (found.auroc_lower > 0.5) & benjamini_hochberg(found.p)
    return (found.injection <= INJECTION + 1e-9) & kept & told_apart


def summarise(arms: Mapping[str, Sequence[Candidates]]) -> Metric:
    """Share of an SAE's candidates that survive, over the seeds that have candidates; `also` tells what refuted the
    others. Seeds and not the candidates of all of them are what is independent: those of one SAE share its fate."""
    main = _with_candidates(arms[MAIN])
    estimate = _share(main)
    also: dict[str, float | None] = {}
    if main:
        also = {
            "fire_on_injection": _mean(one.injection > INJECTION for one in main),
            "lost_without_cue": _mean(one.cue_free < RETENTION for one in main),
            "lost_in_paraphrase": _mean(one.paraphrase < RETENTION for one in main),
            "blind_to_pairs": _mean(~(one.auroc_lower > 0.5) for one in main),
        }
    return Metric(
        name="candidates",
        unit="share of candidate latents",
        direction=">=",
        value=finite(estimate.value),
        interval=estimate.interval,
        n=_count(main),
        unit_of_sampling="candidate latent",
        seeds=len(arms[MAIN]),
        per_seed=estimate.per_seed,
        nulls={arm: as_null(_share(seeds), _count(seeds)) for arm, seeds in arms.items() if arm != MAIN},
        also=also,
        not_run=None if main else "There is no candidate latent.",
    )


def _retained(before: Bool[np.ndarray, "s c"], after: Bool[np.ndarray, "s c"]) -> Float[np.ndarray, " c"]:
    fired = before.sum(axis=0)
    return np.divide((before & after).sum(axis=0), fired, out=np.zeros(before.shape[1]), where=fired > 0)


def _with_candidates(seeds: Sequence[Candidates]) -> list[Candidates]:
    return [one for one in seeds if len(one.p)]


def _share(seeds: Sequence[Candidates]) -> Estimate:
    some = _with_candidates(seeds)
    if not some:
        return Estimate(float("nan"), None, ())
    return share_over_seeds([(int(survives(one).sum()), len(one.p)) for one in some])


def _mean(refuted: Iterable[Bool[np.ndarray, " c"]]) -> float:
    """Over seeds, of the share within each."""
    return float(np.mean([which.mean() for which in refuted]))


def _count(seeds: Sequence[Candidates]) -> int:
    return sum(len(one.p) for one in seeds)
