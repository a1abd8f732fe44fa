"""Do the documents on which a latent fires share a label? Over its whole range, not only at the top (SCIENCE 7)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from sklearn.metrics import silhouette_score
from sklearn.metrics.pairwise import euclidean_distances

from raysae.falsification.intervals import mean_over_seeds
from raysae.falsification.metrics.codes import Code, size
from raysae.falsification.metrics.documents import MAIN
from raysae.falsification.metrics.matching import permuted_rows
from raysae.falsification.metrics.observation import finite, over_seeds
from raysae.types.metric import Metric, NullValue

TOP = 10
BINS = 5
SILHOUETTE_TOKENS = 1000


class Chosen(NamedTuple):
    """Tokens that speak for a latent: group 0 holds the strongest of each of its top documents, groups 1 to BINS one
    per document from each quantile bin of its activations, weakest first."""

    token: Int[np.ndarray, " r"]
    latent: Int[np.ndarray, " r"]
    group: Int[np.ndarray, " r"]
    latents: int


class Purity(NamedTuple):
    """Means over the alive latents of one SAE."""

    top: float
    bins: tuple[float, ...]
    decoder: float
    """Silhouette of decoder rows, grouped by the label each latent fires on most, of those that fire on some."""
    activation: float
    """Silhouette of tokens in latent space, grouped by their label."""


def choose(code: Code, text: Int[np.ndarray, " n"], top: int = TOP) -> Chosen:
    """`text` numbers the normalised text of each token's document, so that copies of a document count once."""
    columns, latents = code.tocsc(), size(code)[1]
    token, latent, group = [], [], []
    for j in range(latents):
        part = slice(int(columns.indptr[j]), int(columns.indptr[j + 1]))
        fires, values = columns.indices[part], np.asarray(columns.data[part])
        order = fires[np.argsort(np.negative(values), kind="stable")]
        _, first = np.unique(text[order], return_index=True)
        found = [order[np.sort(first)[:top]]]
        for piece in reversed(np.array_split(order, BINS)):
            _, first = np.unique(text[piece], return_index=True)
            found.append(piece[first])
        token += found
        group += [np.full(len(rows), g) for g, rows in enumerate(found)]
        latent.append(np.full(sum(map(len, found)), j))
    if not token:
        return Chosen(*(np.empty(0, np.int64) for _ in range(3)), latents=0)
    return Chosen(np.concatenate(token), np.concatenate(latent), np.concatenate(group), latents)


def coherence(chosen: Chosen, labels: Int[np.ndarray, " n"]) -> Float[np.ndarray, "m g"]:
    """Per latent and group, the chance that two of its documents share the label minus the chance that any two tokens
    do, where every token has one; without bias for few documents, which the share of the commonest label has. NaN below
    two documents."""
    kinds = int(labels.max(initial=0)) + 1
    groups = BINS + 1
    cell = (chosen.latent * groups + chosen.group) * kinds + labels[chosen.token]
    counts = np.bincount(cell, minlength=chosen.latents * groups * kinds).reshape(chosen.latents, groups, kinds)
    n = counts.sum(axis=2)
    base = np.square(np.bincount(labels) / len(labels)).sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(n > 1, (counts * (counts - 1)).sum(axis=2) / (n * (n - 1)), np.nan) - base


def measure(
    rows: Float[np.ndarray, "m d"],
    code: Code,
    labels: Int[np.ndarray, "n v"],
    document: Int[np.ndarray, " n"],
    text: Int[np.ndarray, " n"],
    *,
    draws: int,
    seed: int,
) -> tuple[Purity, list[Purity]]:
    """Purity of one SAE under the real labels, and under `draws` permutations of them between documents (N6).

    `labels` numbers the value of each of v variables, each of which has some, -1 where it has none: such a token is
    neither chosen nor counted in the base rate. A latent counts with the variable purest at its top, so the permuted
    labels choose theirs again. Silhouettes are means over the variables.
    """
    near = euclidean_distances(rows)
    masks, which = np.unique(labels >= 0, axis=1, return_inverse=True)
    seen = [_see(code, np.flatnonzero(mask), document, text, draws, seed) for mask in masks.T]
    variables = [(seen[mask], labels[seen[mask].kept, v]) for v, mask in enumerate(which)]
    found = [_purity([(one, values[one.orders[draw]]) for one, values in variables], near) for draw in range(draws + 1)]
    return found[0], found[1:]


def summarise(arms: Mapping[str, Sequence[Purity]], *, permuted: Sequence[Sequence[Purity]] = ()) -> Metric:
    """An observation: top-k coherence over seeds, beside the other arms and the draws of permuted labels."""
    estimates = {arm: mean_over_seeds(np.array([one.top for one in seeds])) for arm, seeds in arms.items()}
    main = arms[MAIN]
    draws = [draw for of_seed in permuted for draw in of_seed]
    nulls = {}
    if top := [draw.top for draw in draws if np.isfinite(draw.top)]:
        bounds = float(np.quantile(top, 0.05)), float(np.quantile(top, 0.95))
        nulls["permuted_labels"] = NullValue(
            mean=float(np.mean(top)), p95=bounds[1], interval=bounds, n=len(top), note=_note(draws)
        )
    above = {
        f"silhouette_{field}_above_{arm}": finite(_mean(main, field) - _mean(others, field))
        for field in ("decoder", "activation")
        for arm, others in (*arms.items(), ("permuted_labels", draws))
        if others and arm != MAIN
    }
    bins = {f"bin_{b + 1}_of_{BINS}": _mean_of([one.bins[b] for one in main]) for b in range(BINS)}
    return over_seeds(
        "purity",
        "agreement above base rate",
        ">=",
        estimates,
        notes={arm: _note(seeds) for arm, seeds in arms.items()},
        nulls=nulls,
        also={**{name: finite(value) for name, value in bins.items()}, **above},
    )


class _Seen(NamedTuple):
    """The tokens that have a label of some variables."""

    kept: Int[np.ndarray, " k"]
    chosen: Chosen
    sample: Int[np.ndarray, " s"]
    """Those of the silhouette."""
    near: Float[np.ndarray, "s s"]
    """Their distances in latent space."""
    orders: list[Int[np.ndarray, " k"]]
    """As they are, then every permutation."""


def _see(code: Code, kept: np.ndarray, document: np.ndarray, text: np.ndarray, draws: int, seed: int) -> _Seen:
    code, document = code[kept], document[kept]
    sample = np.sort(np.random.default_rng(seed).permutation(len(kept))[:SILHOUETTE_TOKENS])
    return _Seen(
        kept,
        choose(code, text[kept]),
        sample,
        euclidean_distances(code[sample].toarray()),
        [np.arange(len(kept)), *(permuted_rows(document, seed + draw) for draw in range(draws))],
    )


def _purity(variables: Sequence[tuple[_Seen, np.ndarray]], near: np.ndarray) -> Purity:
    """From the labels of each variable, on the tokens that have one, and the distances of the rows."""
    of_variable = np.stack([coherence(seen.chosen, labels) for seen, labels in variables])
    purest = np.nan_to_num(of_variable[:, :, 0], nan=-1).argmax(axis=0)
    best = of_variable[purest, np.arange(len(purest))]
    means = [_mean_of(column) for column in best.T]
    return Purity(
        means[0],
        tuple(means[1:]),
        _mean_of([_silhouette(near, _modal(seen.chosen, labels)) for seen, labels in variables]),
        _mean_of([_silhouette(seen.near, labels[seen.sample]) for seen, labels in variables]),
    )


def _modal(chosen: Chosen, labels: np.ndarray) -> Int[np.ndarray, " m"]:
    """The commonest label of each latent's top documents; -1 for one that fires on no labelled token."""
    kinds, top = int(labels.max(initial=0)) + 1, chosen.group == 0
    cell = chosen.latent[top] * kinds + labels[chosen.token[top]]
    counts = np.bincount(cell, minlength=chosen.latents * kinds).reshape(chosen.latents, kinds)
    return np.where(counts.any(axis=1), counts.argmax(axis=1), -1)


def _silhouette(near: np.ndarray, groups: np.ndarray) -> float:
    """Of the points that have a group. NaN unless there are at least two groups, and fewer than points."""
    known = np.flatnonzero(groups >= 0)
    near, groups = near[np.ix_(known, known)], groups[known]
    if not 1 < len(np.unique(groups)) < len(groups):
        return float("nan")
    return float(silhouette_score(near, groups, metric="precomputed"))


def _note(found: Sequence[Purity]) -> str:
    rows, tokens = (_mean(found, field) for field in ("decoder", "activation"))
    said = (f"of {what} {value:.3f}" for what, value in (("rows", rows), ("tokens", tokens)) if np.isfinite(value))
    return f"silhouette {', '.join(said) or 'undefined'}"


def _mean(found: Sequence[Purity], field: str) -> float:
    return _mean_of([getattr(one, field) for one in found])


def _mean_of(values: Sequence[float] | np.ndarray) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")
