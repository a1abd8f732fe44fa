"""Which latents of one place are found again at another, corrected for what needs no learning (SCIENCE 6.4).

A place is a hook point of a model. The score of A on B is how well each latent of B is matched by its best one of A:
the mean over B's latents of the largest correlation with a latent of A, over the words on which either fires. Latents
of other widths, layers, models and tokenizers can so be held against each other, as long as they read the same text.

    T = (s_AB - s_null) / (s_BB - s_null)

s_BB is the same between two trainings at B, s_null the best of null dictionaries at A with the budget of its SAEs.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from raysae.falsification.intervals import Estimate
from raysae.falsification.metrics.codes import Code, Sums, pearson, size, sums, together
from raysae.falsification.metrics.observation import finite
from raysae.types.metric import Metric

SEEDS = 3
"""Of each place, the first ones: the cost of a map grows with their square."""
FEW = "Fewer than three seeds show no spread."
NO_PLACE = "There is one place alone; type sae.also_at=[...] or protocol.map_from=<run folder>."
UNDEFINED = "No cell is defined: two trainings at one place do not find each other again better than a null does."


class Cell(NamedTuple):
    """A on B. Matrices are [seed of A, seed of B]; the diagonal is not read, so that a seed never meets itself."""

    a: str
    b: str
    across: Float[np.ndarray, "s s"]
    within: Float[np.ndarray, "s s"]
    floors: dict[str, Float[np.ndarray, "s s"]]
    foreign: bool = False
    """Whether A is of another model."""


def found_again(a: Code, b: Code) -> float:
    """Mean over the latents of `b` of their largest correlation with a latent of `a`, at least 0, over the rows on
    which either fires."""
    if not size(a)[1] or not size(b)[1]:
        return 0.0
    of_a, of_b = sums(a), sums(b)
    best = np.empty(size(b)[1])
    for part, products, both in together(b, a):
        mine = Sums(*(column[part, None] for column in of_b))
        best[part] = pearson(products, mine, of_a, mine.fired + of_a.fired - both).max(axis=1)
    return float(np.maximum(best, 0).mean())


def matrix(of: Sequence[Code], on: Sequence[Code]) -> Float[np.ndarray, "s s"]:
    """`found_again` of every pair of different seeds."""
    found = np.full((len(of), len(on)), np.nan)
    for i, j in permutations(range(len(on)), 2):
        found[i, j] = found_again(of[i], on[j])
    return found


def judge(cell: Cell) -> dict[str, Any]:
    """T of a cell with its interval over seeds (delete-one jackknife), and the scores it is made of, None for one seed,
    which has no other to meet; no T where the interval of s_BB - s_null does not lie above 0."""
    whole = range(len(cell.across))
    gap = _jackknife(lambda kept: _mean(cell.within, kept) - _mean(_floor(cell)[1], kept), len(whole))
    estimate = _jackknife(partial(_share, cell), len(whole)) if gap.interval and gap.interval[0] > 0 else None
    floor, null = _floor(cell)
    return {
        "a": cell.a,
        "b": cell.b,
        "transfer": finite(estimate.value) if estimate else None,
        "interval": estimate.interval if estimate else None,
        "across": finite(_mean(cell.across, whole)),
        "within": finite(_mean(cell.within, whole)),
        "null": finite(_mean(null, whole)),
        "floor": floor,
    }


def summarise(cells: Sequence[Cell]) -> tuple[Metric, list[dict[str, Any]]]:
    """Mean T over the defined cells from another model, where there is one, else between different places of this one;
    and a row per cell."""
    rows = [judge(cell) for cell in cells]
    between = [(cell, row) for cell, row in zip(cells, rows, strict=True) if cell.a != cell.b]
    between = [(cell, row) for cell, row in between if cell.foreign] or between
    defined = [(cell, row) for cell, row in between if row["transfer"] is not None]
    seeds = len(cells[0].across) if cells else 0
    estimate = None
    if defined:
        estimate = _jackknife(lambda kept: float(np.mean([_share(cell, kept) for cell, _ in defined])), seeds)
    metric = Metric(
        name="transfer_map",
        unit="share of what another training at the place finds again",
        direction=">=",
        value=finite(estimate.value) if estimate else None,
        interval=estimate.interval if estimate else None,
        n=len(defined),
        unit_of_sampling="cell",
        seeds=seeds,
        ceiling=1.0,
        also={
            "undefined_cells": float(len(between) - len(defined)),
            **{f"{row['a']} on {row['b']}": row["transfer"] for _, row in defined},
        },
        not_run=None if estimate else NO_PLACE if not between else FEW if seeds < 3 else UNDEFINED,
    )
    return metric, rows


def _floor(cell: Cell) -> tuple[str, Float[np.ndarray, "s s"]]:
    """The best of the null dictionaries at A."""
    name = max(cell.floors, key=lambda one: _mean(cell.floors[one], range(len(cell.across))))
    return name, cell.floors[name]


def _mean(pairs: Float[np.ndarray, "s s"], kept: Sequence[int]) -> float:
    """Of the pairs of different seeds among those kept; NaN for one seed."""
    known = pairs[np.ix_(kept, kept)]
    known = known[~np.isnan(known)]
    return float(known.mean()) if len(known) else float("nan")


def _share(cell: Cell, kept: Sequence[int]) -> float:
    null = _mean(_floor(cell)[1], kept)
    return (_mean(cell.across, kept) - null) / (_mean(cell.within, kept) - null)


def _jackknife(statistic: Callable[[Sequence[int]], float], seeds: int) -> Estimate:
    """A statistic of the pairs of seeds, with a t-interval on the delete-one-seed jackknife (SCIENCE 0.4)."""
    value = statistic(range(seeds)) if seeds > 1 else float("nan")
    if seeds < 3 or not np.isfinite(value):
        return Estimate(value, None, ())
    without = np.array([statistic([kept for kept in range(seeds) if kept != left]) for left in range(seeds)])
    error = np.sqrt((seeds - 1) / seeds * np.square(without - without.mean()).sum())
    half = float(stats.t.ppf(0.95, seeds - 1) * error)
    return Estimate(value, (value - half, value + half), ())
