"""Latent by latent: how much of its firing belongs to one label, beyond what exchanged labels give (SCIENCE 0.6, 7)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array

from raysae.falsification.intervals import Estimate, benjamini_hochberg, pooled_p
from raysae.falsification.metrics.documents import MAIN, as_null
from raysae.falsification.metrics.matching import permuted_rows
from raysae.falsification.metrics.tallies import Tally, scores
from raysae.falsification.resampling import Weights, hierarchical
from raysae.types.metric import Metric, NullValue

DRAWS = 50
"""Label permutations on TEST. Pooled over one of 15 strata they resolve a p of about 15 / (50 x hypotheses), with which
six discoveries survive Benjamini-Hochberg, however many hypotheses there are."""
SELECTED_DRAWS = 20
"""Of these, how many choose the labels again on permuted FIT."""

_TINY = 1e-12
_FIRING_STRATA, _LABEL_STRATA = 5, 3


class Selective(NamedTuple):
    """The alive latents of one SAE: each with the label that most of its FIT firing belongs to, counted on TEST."""

    latents: Int[np.ndarray, " a"]
    label: Int[np.ndarray, " a"]
    tally: Tally
    """Firings with the label, out of all firings, a column per alive latent."""
    expected: Float[np.ndarray, " a"]
    """The same share under permuted labels, mean over draws."""
    permuted: Float[np.ndarray, " k"]
    """Mean share minus expected where FIT labels were permuted too and the label chosen by them, per draw."""
    p: Float[np.ndarray, "a F"]
    """Of every alive latent for every label, from pooled nulls."""


def measure(
    fit_latents: csr_array,
    fit_factors: Bool[np.ndarray, "n F"],
    fit_document: Int[np.ndarray, " n"],
    test_latents: csr_array,
    test_factors: Bool[np.ndarray, "k F"],
    test_document: Int[np.ndarray, " k"],
    alive: Bool[np.ndarray, " m"],
    *,
    documents: int,
    seed: int,
    draws: int = DRAWS,
) -> Selective:
    """Latents are csr [tokens, m]; a stored positive entry is a firing. ValueError if no latent is alive or no factor
    registered."""
    latents = np.flatnonzero(alive)
    if not len(latents) or not fit_factors.shape[1]:
        raise ValueError(f"{len(latents)} alive latents and {fit_factors.shape[1]} factors; allowed: one at least")
    fit_fires, test_fires = ((part[:, latents] > 0).astype(np.float32).tocsr() for part in (fit_latents, test_latents))
    fit_labels, test_labels = (csr_array(part.astype(np.float32)) for part in (fit_factors, test_factors))
    label = _choose(fit_fires, fit_labels)
    rows = [permuted_rows(test_document, seed + 2 * draw) for draw in range(draws)]
    null = np.stack([_shares(test_fires, test_labels[taken]) for taken in rows])
    mean = null.mean(axis=0)
    columns = np.arange(len(latents))
    again = []
    for draw in range(min(SELECTED_DRAWS, draws)):
        by_null = _choose(fit_fires, fit_labels[permuted_rows(fit_document, seed + 2 * draw + 1)])
        again.append(float((null[draw, columns, by_null] - mean[columns, by_null]).mean()))
    observed, standard = _standardise(_shares(test_fires, test_labels), null)
    p = pooled_p(observed.ravel(), standard.reshape(draws, -1), _strata(test_fires, test_labels).ravel())
    return Selective(
        latents=latents,
        label=label,
        tally=_by_document(test_fires, test_factors, label, test_document, documents),
        expected=mean[columns, label].astype(np.float64),
        permuted=np.array(again),
        p=p.reshape(mean.shape),
    )


def selective(found: Selective) -> Bool[np.ndarray, " a"]:
    """Latents with at least one label at false discovery rate 0.05 over all alive latents x labels."""
    return np.any(benjamini_hochberg(found.p.ravel()).reshape(found.p.shape), axis=1)


def summarise(arms: Mapping[str, Sequence[Selective]], *, bootstrap: int, seed: int) -> Metric:
    """Mean over alive latents of the share of firing that belongs to the chosen label, minus the permuted labels'."""
    found = {arm: _estimate(seeds, bootstrap, seed) for arm, seeds in arms.items()}
    main, seeds, n = found[MAIN], arms[MAIN], len(arms[MAIN][0].tally.of)
    nulls = {arm: as_null(one, n) for arm, one in found.items() if arm != MAIN}
    draws = np.concatenate([one.permuted for one in seeds])
    if len(draws):
        p95 = float(np.quantile(draws, 0.95))
        nulls["permuted_labels"] = NullValue(
            mean=float(draws.mean()), p95=p95, interval=(float(np.quantile(draws, 0.05)), p95), n=n,
            note=f"{len(draws)} draws, labels chosen again in each",
        )  # fmt: skip
    return Metric(
        name="selectivity",
        unit="share of firing above permuted labels",
        direction=">=",
        value=main.value if main.interval else None,
        interval=main.interval,
        n=n,
        unit_of_sampling="document",
        seeds=len(seeds),
        per_seed=main.per_seed if main.interval else (),
        nulls=nulls,
        ceiling=1.0 - float(np.mean([one.expected.mean() for one in seeds])),
        also={
            "selective_share": float(np.mean([selective(one).mean() for one in seeds])),
            "share": float(np.mean([scores(one.tally, np.ones((1, n)))[0] for one in seeds])),
            "alive": float(np.mean([len(one.latents) for one in seeds])),
        },
        not_run=None if main.interval else "No alive latent fires on TEST.",
    )


def _estimate(seeds: Sequence[Selective], bootstrap: int, seed: int) -> Estimate:
    def excess(weights: Weights) -> Float[np.ndarray, "s b"]:
        return np.stack([scores(one.tally, weights["TEST"]) - one.expected.mean() for one in seeds])

    return hierarchical(excess, {"TEST": len(seeds[0].tally.of)}, bootstrap=bootstrap, seed=seed)


def _shares(fires: csr_array, labels: csr_array) -> Float[np.ndarray, "a F"]:
    """Share of the firings of each latent on which each label holds."""
    together = (labels.T.tocsr() @ fires).toarray().T
    return together.astype(np.float64) / np.maximum(_total(fires), 1)[:, None]


def _choose(fires: csr_array, labels: csr_array) -> Int[np.ndarray, " a"]:
    """The label that stands out most against its own rate."""
    return (_shares(fires, labels) - np.asarray(labels.mean(axis=0)).ravel()).argmax(axis=1)


def _total(counts: csr_array) -> Float[np.ndarray, " _"]:
    return np.asarray(counts.sum(axis=0)).ravel()


def _standardise(
    share: Float[np.ndarray, "a F"], null: Float[np.ndarray, "k a F"]
) -> tuple[Float[np.ndarray, "a F"], Float[np.ndarray, "k a F"]]:
    """The observed shares in standard deviations of the null draws, and each draw in those of the others, as if it had
    been observed: otherwise the noise of the deviations would be in the one and not in the other."""
    draws = len(null)
    total, squares = null.sum(axis=0), np.square(null).sum(axis=0)
    rest = (total - null) / (draws - 1)
    rest_variance = (squares - np.square(null)) / (draws - 1) - np.square(rest)
    mean = total / draws
    variance = squares / draws - np.square(mean)
    return _deviations(share - mean, variance), _deviations(null - rest, rest_variance)


def _deviations(off: Float[np.ndarray, "*s"], variance: Float[np.ndarray, "*s"]) -> Float[np.ndarray, "*s"]:
    """0 where no permutation changes anything: there is nothing to discover."""
    moves = variance > _TINY
    return np.where(moves, off / np.sqrt(np.where(moves, variance, 1)), 0)


def _strata(fires: csr_array, labels: csr_array) -> Int[np.ndarray, "a F"]:
    """Latents by how often they fire, labels by how often they hold: what shapes a share's null distribution."""
    by_firing, by_label = (
        np.argsort(np.argsort(total, kind="stable"), kind="stable") * strata // len(total)
        for total, strata in ((_total(fires), _FIRING_STRATA), (_total(labels), _LABEL_STRATA))
    )
    return by_firing[:, None] * _LABEL_STRATA + by_label


def _by_document(
    fires: csr_array,
    factors: Bool[np.ndarray, "k F"],
    label: Int[np.ndarray, " a"],
    document: Int[np.ndarray, " k"],
    documents: int,
) -> Tally:
    rows, columns = fires.nonzero()
    at, size = document[rows] * len(label) + columns, documents * len(label)
    with_label = factors[rows, label[columns]]
    hits, of = (np.bincount(where, minlength=size).reshape(documents, -1) for where in (at[with_label], at))
    return Tally(hits.astype(np.float64), of.astype(np.float64))
