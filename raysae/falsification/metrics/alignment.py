"""Phase 1 on labelled text: does every registered factor have a latent of its own (SCIENCE 3.2, 3.3)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from raysae.falsification.criterion import F1_RECOVERED, SEED_SHARE
from raysae.falsification.intervals import clopper_pearson
from raysae.falsification.metrics.documents import MAIN
from raysae.falsification.metrics.matching import best_f1, f1_at, fires_above, permuted_rows, shifted_rows
from raysae.types.metric import Metric, NullValue

RATE_BOUNDS = (0.005, 0.35)
IMPLICATION = 0.90
COVERAGE_F1 = 0.9


class Registration(NamedTuple):
    """Which factors the verdict counts, and why the others are not among them."""

    kept: tuple[str, ...]
    dropped: dict[str, str]


class Alignment(NamedTuple):
    """Factors matched to the latents of one SAE: matched on FIT, measured on TEST."""

    latents: Int[np.ndarray, " F"]
    """-1 where there were fewer latents than factors."""
    thresholds: Float[np.ndarray, " F"]
    fit_f1: Float[np.ndarray, " F"]
    test_f1: Float[np.ndarray, " F"]
    any_test_f1: Float[np.ndarray, " F"]
    """Of the latent that is best on FIT, whoever else claims it (ALT-c)."""


def register_factors(
    fit_factors: Bool[np.ndarray, "n F"],
    test_tokens: int,
    names: Sequence[str],
    minimum: int = 200,
    rate_bounds: tuple[float, float] = RATE_BOUNDS,
    implication: float = IMPLICATION,
) -> Registration:
    """The identifiability audit, from the labels alone (SCIENCE 3.2).

    A factor stays if its FIT rate is within bounds and lets one expect it on `minimum` TEST tokens, no other remaining
    factor implies it or is implied by it in more than `implication` of cases, and it is no affine combination of those
    before it. Of TEST only the size is known: what is judged there is not chosen there.
    """
    dropped: dict[str, str] = {}
    on = fit_factors.sum(axis=0).astype(np.float64)
    for i, name in enumerate(names):
        rate = on[i] / max(1, len(fit_factors))
        occurs = round(rate * test_tokens)
        if not rate_bounds[0] <= rate <= rate_bounds[1]:
            dropped[name] = f"on for {rate:.4f} of FIT tokens, outside [{rate_bounds[0]:g}, {rate_bounds[1]:g}]"
        elif occurs < minimum:
            dropped[name] = f"on for {occurs} TEST tokens by its FIT rate, fewer than {minimum}"
    left = [i for i, name in enumerate(names) if name not in dropped]
    x = np.concatenate([np.ones((len(fit_factors), 1)), fit_factors[:, left]], axis=1)
    together = x.T @ x  # How often two factors hold at once; row 0 is the constant.
    given = together[1:, 1:] / np.maximum(np.diag(together)[1:, None], 1)  # given[i, j] = P(factor j | factor i)
    np.fill_diagonal(given, 0)
    for row, i in enumerate(left):
        one_way, other_way = given[row].max(initial=0), given[:, row].max(initial=0)
        if max(one_way, other_way) > implication:
            partner = names[left[int((given[row] if one_way >= other_way else given[:, row]).argmax())]]
            verb = "implies" if one_way >= other_way else "is implied by"
            dropped[names[i]] = f"{verb} {partner} in {max(one_way, other_way):.3f} of cases, more than {implication:g}"
    basis = [0]
    for row, i in enumerate(left, 1):
        if names[i] in dropped:
            continue
        # What is left of the factor after regression on the constant and those kept so far.
        explained = together[basis, row] @ np.linalg.solve(together[np.ix_(basis, basis)], together[basis, row])
        if together[row, row] - explained <= 1e-9 * together[row, row]:
            dropped[names[i]] = "is an affine combination of the factors before it"
        else:
            basis.append(row)
    return Registration(tuple(name for name in names if name not in dropped), dropped)


def align(
    fit_latents: Float[Tensor, "n m"],
    fit_factors: Bool[np.ndarray, "n F"],
    test_latents: Float[Tensor, "k m"],
    test_factors: Bool[np.ndarray, "k F"],
    alive: Bool[Tensor, " m"] | None = None,
) -> Alignment:
    """Thresholds and one-to-one matching (Hungarian, largest total F1) on FIT, F1 on TEST."""
    f1, thresholds = best_f1(fit_latents, fit_factors, alive)
    return _match(f1, thresholds, test_latents, test_factors)


def align_permuted(
    fit_latents: Float[Tensor, "n m"],
    fit_factors: Bool[np.ndarray, "n F"],
    fit_document: Int[np.ndarray, " n"],
    test_latents: Float[Tensor, "k m"],
    test_factors: Bool[np.ndarray, "k F"],
    test_document: Int[np.ndarray, " k"],
    *,
    draws: int,
    seed: int,
    alive: Bool[Tensor, " m"] | None = None,
    shift: bool = False,
) -> list[Alignment]:
    """`align` with labels that belong elsewhere, `draws` times: exchanged between the documents of each split (N6), or
    with `shift` turned within each document (N7)."""
    rows = shifted_rows if shift else permuted_rows
    wide = np.concatenate([fit_factors[rows(fit_document, seed + 2 * draw)] for draw in range(draws)], axis=1)
    f1, thresholds = best_f1(fit_latents, wide, alive)
    width, found = fit_factors.shape[1], []
    for draw in range(draws):
        part = slice(draw * width, (draw + 1) * width)
        shuffled = test_factors[rows(test_document, seed + 2 * draw + 1)]
        found.append(_match(f1[:, part], thresholds[:, part], test_latents, shuffled))
    return found


def summarise(
    arms: Mapping[str, Sequence[Alignment]],
    *,
    names: Sequence[str],
    drawn: Mapping[str, Sequence[Sequence[Alignment]]] | None = None,
) -> Metric:
    """Share of the registered factors `names` recovered in most seeds, exact interval.

    `arms` maps `main` and the null dictionaries to an Alignment per seed; `drawn` maps the nulls of labels
    (`permuted_labels`, `circular_shift`) to, for each seed of the real SAE, one per draw.
    """
    main, n = arms[MAIN], len(names)
    if any(len(found.test_f1) != n for seeds in arms.values() for found in seeds):
        raise ValueError(f"an alignment was measured on other factors than the {n} registered ones")
    if n == 0:
        return _metric(
            main, None, None, 0, {}, "No factor is registered: the text has no labels, or none passed the audit."
        )
    nulls = {arm: _null([_count(seeds)], seeds, n) for arm, seeds in arms.items() if arm != MAIN}
    for null, of_seeds in (drawn or {}).items():
        by_draw = list(zip(*of_seeds, strict=False))
        nulls[null] = _null([_count(seeds) for seeds in by_draw], [one for seeds in by_draw for one in seeds], n)
    count = _count(main)
    return _metric(main, count / n, clopper_pearson(count, n), n, nulls, None)


def recovered(seeds: Sequence[Alignment]) -> Bool[np.ndarray, " F"]:
    """Which factors reach the F1 in enough seeds."""
    return np.mean([found.test_f1 >= F1_RECOVERED for found in seeds], axis=0) >= SEED_SHARE - 1e-9


def _match(
    f1: Float[np.ndarray, "m F"],
    thresholds: Float[np.ndarray, "m F"],
    test_latents: Float[Tensor, "k m"],
    test_factors: Bool[np.ndarray, "k F"],
) -> Alignment:
    rows, columns = linear_sum_assignment(f1, maximize=True)
    every = np.arange(f1.shape[1])
    latents = np.full(f1.shape[1], -1, dtype=np.int64)
    latents[columns] = rows
    latents[f1[latents, every] == 0 if len(f1) else slice(None)] = -1
    at = np.maximum(latents, 0)
    chosen = thresholds[at, every] if len(f1) else np.full(len(every), np.inf, dtype=np.float32)
    greedy = f1.argmax(axis=0) if len(f1) else latents
    greedy_at = thresholds[greedy, every] if len(f1) else chosen
    return Alignment(
        latents=latents,
        thresholds=chosen,
        fit_f1=np.where(latents >= 0, f1[at, every], 0.0) if len(f1) else np.zeros(len(every)),
        test_f1=f1_at(fires_above(test_latents, latents, chosen), test_factors),
        any_test_f1=f1_at(fires_above(test_latents, greedy, greedy_at), test_factors),
    )


def _count(seeds: Sequence[Alignment]) -> int:
    return int(recovered(seeds).sum())


def _null(counts: Sequence[int], seeds: Sequence[Alignment], n: int) -> NullValue:
    """The interval is that of the draw at the 95th percentile: a null that passes in 1 of 20 draws is not beaten."""
    p95 = int(np.quantile(counts, 0.95, method="higher"))
    mean_f1 = float(np.mean([found.test_f1.mean() for found in seeds]))
    return NullValue(
        mean=float(np.mean(counts)) / n,
        p95=p95 / n,
        interval=clopper_pearson(p95, n),
        n=n,
        note=f"mean F1 {mean_f1:.3f}, {len(counts)} draws",
    )


def _metric(
    main: Sequence[Alignment],
    value: float | None,
    interval: tuple[float, float] | None,
    n: int,
    nulls: dict[str, NullValue],
    not_run: str | None,
) -> Metric:
    also: dict[str, float | None] = {}
    if n:
        one, greedy = np.stack([found.test_f1 for found in main]), np.stack([found.any_test_f1 for found in main])
        enough = SEED_SHARE - 1e-9
        also = {
            "mean_f1": float(one.mean()),
            "max_f1_share": float(((greedy >= F1_RECOVERED).mean(axis=0) >= enough).mean()),
            "coverage": float(((greedy >= COVERAGE_F1).mean(axis=0) >= enough).mean()),
        }
    return Metric(
        name="alignment",
        unit="share of factors",
        direction=">=",
        value=value,
        interval=interval,
        n=n,
        unit_of_sampling="factor",
        seeds=len(main),
        per_seed=tuple(float((found.test_f1 >= F1_RECOVERED).mean()) for found in main) if n else (),
        nulls=nulls,
        also=also,
        not_run=not_run,
    )
