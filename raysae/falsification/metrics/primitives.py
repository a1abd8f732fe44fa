"""Stable primitives (SCIENCE 6.3): latents that recur in the seeds that select them, confirmed on others."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from raysae.falsification.criterion import SEED_SHARE, STABILITY
from raysae.falsification.intervals import Estimate, fisher_interval, in_quadrature
from raysae.falsification.metrics.codes import Code, correlation_of_columns
from raysae.falsification.metrics.dictionaries import Dictionary, match_rows, unit
from raysae.falsification.metrics.documents import MAIN
from raysae.falsification.metrics.screening import Screen
from raysae.falsification.resampling import studentised
from raysae.types.metric import Gate, Metric, NullValue

CONSENSUS = 0.9
"""Cosine above which latents of two select seeds are the same, and two primitives one."""
CONFIRMED = 0.7
CONFIRMED_SHARE = 0.90
FEWEST = 10
MOST = 256
"""Candidates that are tested, at most: each costs as much as a thousand forward passes. The first, since what comes
first in a dictionary is a matter of its initialisation."""
NULL_SHARE = 0.10
"""A null that yields fewer primitives than this share of the real number does not pass, however stable they are."""

SEED_ALPHA = 0.03
"""Of the bounds over five seeds. Where trainings happen to agree well they also spread little, and at 0.05 GO at the
threshold came in 5.8 % of 500 simulations; at 0.03 in 4.4 %."""

Test = Callable[[Int[np.ndarray, "p s"]], tuple[Screen, ...]]
"""Candidates, as `select` gives them -> what the tests before stability found of those of each select seed, in order,
without the -1."""


class Primitives(NamedTuple):
    """What one arm yields."""

    members: Int[np.ndarray, "p s"]
    """Latent of each primitive in each select seed; -1 where it has none."""
    r: Float[np.ndarray, "t p"]
    """min(decoder cosine, activation correlation) in each held-out seed, a mean over the members."""
    of_select: Float[np.ndarray, " s"]
    """The same mean over held-out seeds and primitives, of the members in each select seed; NaN where it has none."""
    of_dictionary: float
    """Share of the select seeds' alive latents that are members."""
    of_energy: float
    """Share of their reconstruction energy."""
    screened: bool
    """Whether only latents that passed the tests before this one could be members."""
    fires: float | None = None
    """Share of the candidates, latents that recur, that fire on their own tokens wherever those stand."""
    inert: float | None = None
    """Share that has no effect beyond that of matched latents."""


def select(seeds: Sequence[Dictionary]) -> Int[np.ndarray, "p s"]:
    """Consensus clusters: a latent and its one-to-one partners at a cosine above 0.9 in at least 80 % of the seeds, its
    own included. Each latent serves once, and a cluster that points where an earlier one does is a duplicate of it."""
    needed = _needed(len(seeds))
    partner = _partners(seeds)
    free = [np.ones(len(one.rows), dtype=bool) for one in seeds]
    found: list[np.ndarray] = []
    directions = np.empty((0, seeds[0].rows.shape[1]), dtype=np.float32)
    for anchor in range(len(seeds)):
        for latent in np.flatnonzero((partner[anchor] >= 0).sum(axis=1) >= needed):
            cluster = partner[anchor][latent]
            if not all(free[s][member] for s, member in enumerate(cluster) if member >= 0):
                continue
            direction = _centre(seeds, cluster[None])
            if len(found) and (directions @ direction[0]).max() > CONSENSUS:
                continue
            for s, member in enumerate(cluster):
                if member >= 0:
                    free[s][member] = False
            found.append(cluster)
            directions = np.concatenate([directions, direction])
    return np.stack(found) if found else np.empty((0, len(seeds)), dtype=np.int64)


def confirm(
    members: Int[np.ndarray, "p s"], seeds: Sequence[Dictionary], held_out: Sequence[Dictionary]
) -> tuple[Float[np.ndarray, "t p"], Float[np.ndarray, " s"]]:
    """r_p in each held-out seed, and what each select seed has of it.

    Its latent is matched one to one to the primitives' mean directions; cosine and correlation are means over the
    members; r is the smaller. 0 without a partner.
    """
    present = members >= 0
    r, parts = np.zeros((len(held_out), len(members))), np.zeros((len(held_out), *members.shape))
    centres = _centre(seeds, members)
    for t, other in enumerate(held_out):
        matched = match_rows(centres, other.rows)
        cosine, correlation = np.zeros(members.shape), np.zeros(members.shape)
        for s, one in enumerate(seeds):
            has = present[matched.a, s]
            p, theirs = matched.a[has], matched.b[has]
            mine = members[p, s]
            cosine[p, s] = (one.rows[mine] * other.rows[theirs]).sum(axis=1)
            correlation[p, s] = correlation_of_columns(Code(one.code[:, mine]), Code(other.code[:, theirs]))
        smaller = cosine.sum(axis=1) < correlation.sum(axis=1)
        parts[t] = np.where(smaller[:, None], cosine, correlation)
        r[t] = parts[t].sum(axis=1) / present.sum(axis=1)
    count = len(held_out) * present.sum(axis=0)
    return r, np.divide(parts.sum(axis=(0, 1)), count, out=np.full(len(seeds), np.nan), where=count > 0)


def surviving(members: Int[np.ndarray, "p s"], screens: Sequence[Screen]) -> Int[np.ndarray, "k s"]:
    """The candidates of which enough seeds' latents pass, without those that do not."""
    kept = members.copy()
    for column, one in zip(kept.T, screens, strict=True):
        rows = np.flatnonzero(column >= 0)
        column[rows[~one.passes]] = -1
    return kept[(kept >= 0).sum(axis=1) >= _needed(members.shape[1])]


def find(seeds: Sequence[Dictionary], test: Test | None = None) -> Primitives:
    """Select on the first half of the seeds, confirm on the rest. Latents that recur are tested, and must recur still
    where only those that passed count."""
    chosen, held_out = seeds[: len(seeds) // 2], seeds[len(seeds) // 2 :]
    if not chosen:
        return Primitives(np.empty((0, 0), np.int64), np.empty((len(held_out), 0)), np.empty(0), 0.0, 0.0, False)
    members, fires, inert = select(chosen), None, None
    if test is not None and len(members):
        members = members[:MOST]
        screens = test(members)
        members = surviving(members, screens)
        fires, inert = (
            float(np.concatenate([getattr(one, name) for one in screens]).mean()) for name in ("fires", "inert")
        )
    r, of_select = confirm(members, chosen, held_out)
    energy = [one.energy for one in chosen]
    own = [column[column >= 0] for column in members.T]
    return Primitives(
        members,
        r,
        of_select,
        float(np.mean([len(mine) / max(len(one.rows), 1) for mine, one in zip(own, chosen, strict=True)])),
        float(np.mean([e[mine].sum() / max(e.sum(), 1e-300) for mine, e in zip(own, energy, strict=True)])),
        test is not None,
        fires,
        inert,
    )


def summarise(
    arms: Mapping[str, Primitives],
    *,
    seeds: int,
    gates: tuple[Gate, ...],
    whole: float | None,
    bootstrap: int,
    seed: int,
) -> Metric:
    """Mean r_p over primitives and held-out seeds; interval as in `_over_primitives_and_seeds`.

    `seeds` counts all of them, `gates` are those of `stability.independent`, `whole` is the PW-MCC of the whole
    dictionaries (ALT-a), printed only.
    """
    main = arms[MAIN]
    count = main.members.shape[0]
    estimate = _over_primitives_and_seeds(main, bootstrap, seed)
    missed = estimate.interval is not None and estimate.interval[1] < STABILITY
    confirmed = float((main.r.mean(axis=0) > CONFIRMED).mean()) if count else 0.0
    own = (
        Gate(
            name="screened",
            passed=main.screened,
            detail="members "
            + ("passed" if main.screened else "were not held to")
            + " the tests for injected tokens and causal effect (SCIENCE 5.7, 7)",
        ),
        Gate(
            name="primitives",
            passed=count >= FEWEST,
            detail=f"{count} selected, at least {FEWEST} needed; they are {main.of_dictionary:.1%} of the alive "
            f"latents and {main.of_energy:.1%} of the reconstruction energy",
        ),
        Gate(
            name="most confirmed",
            passed=confirmed >= CONFIRMED_SHARE or missed,
            detail=f"{confirmed:.1%} of the primitives have r above {CONFIRMED}, needed {CONFIRMED_SHARE:.0%}"
            + (" for a GO" if missed else ""),
        ),
    )
    return Metric(
        name="stability",
        unit="correlation",
        direction=">=",
        value=estimate.value if estimate.interval else None,
        interval=estimate.interval,
        n=seeds,
        unit_of_sampling="seed",
        seeds=seeds,
        per_seed=estimate.per_seed if estimate.interval else (),
        nulls={arm: _null(found, count, bootstrap, seed) for arm, found in arms.items() if arm != MAIN},
        ceiling=1.0,
        gates=(*gates, *own),
        also={
            "primitives": float(count),
            "confirmed_share": confirmed,
            "share_of_dictionary": main.of_dictionary,
            "share_of_energy": main.of_energy,
            "candidates_that_fire_on_their_tokens": main.fires,
            "candidates_without_effect": main.inert,
            "pw_mcc": whole,
        },
        not_run=None if estimate.interval else "No primitive was selected.",
    )


def _needed(seeds: int) -> int:
    return int(np.ceil(SEED_SHARE * seeds - 1e-9))


def _partners(seeds: Sequence[Dictionary]) -> list[Int[np.ndarray, "m s"]]:
    """For each latent of each seed, its partner in every other; -1 where there is none above the cosine."""
    found = [np.full((len(one.rows), len(seeds)), -1) for one in seeds]
    for i, one in enumerate(seeds):
        found[i][:, i] = np.arange(len(one.rows))
        for j in range(i + 1, len(seeds)):
            matched = match_rows(one.rows, seeds[j].rows)
            close = matched.score > CONSENSUS
            a, b = matched.a[close], matched.b[close]
            found[i][a, j], found[j][b, i] = b, a
    return found


def _centre(seeds: Sequence[Dictionary], members: Int[np.ndarray, "p s"]) -> Float[np.ndarray, "p d"]:
    total = np.zeros((len(members), seeds[0].rows.shape[1]), dtype=np.float32)
    for s, one in enumerate(seeds):
        has = members[:, s] >= 0
        total[has] += one.rows[members[has, s]]
    return unit(total)


def _over_primitives_and_seeds(found: Primitives, bootstrap: int, seed: int) -> Estimate:
    """Three sources of error in quadrature: primitives, resampled as documents are; held-out seeds; and select seeds,
    whose members are one side of every correlation. Without the last, and with Student's interval on the correlations
    as they are, GO at the threshold came in 14 % of simulations instead of 5 %."""
    per_seed = found.r.mean(axis=1) if found.r.size else np.empty(0)
    if not len(per_seed):
        return Estimate(float("nan"), None, ())
    value = float(per_seed.mean())
    of_select = found.of_select[np.isfinite(found.of_select)]
    of_select = of_select - of_select.mean() + value
    interval = studentised(found.r, np.ones_like(found.r), bootstrap=bootstrap, seed=seed)
    for seeds in (per_seed, of_select):
        interval = in_quadrature(value, interval, fisher_interval(seeds, SEED_ALPHA))
    return Estimate(value, interval, tuple(map(float, per_seed)))


def _null(found: Primitives, real: int, bootstrap: int, seed: int) -> NullValue:
    """The interval that could void: from 0 where the null yields too few primitives to count."""
    count = found.members.shape[0]
    note = f"{count} primitives, {count / max(real, 1):.0%} of the real number"
    if not count:
        return NullValue(mean=0.0, p95=0.0, interval=(0.0, 0.0), n=0, note="no primitive was selected")
    estimate = _over_primitives_and_seeds(found, bootstrap, seed)
    interval = estimate.interval
    if interval and count < NULL_SHARE * real:
        interval, note = (min(0.0, interval[0]), interval[1]), note + ", too few to count"
    p95 = float(np.quantile(found.r.mean(axis=0), 0.95))
    return NullValue(mean=estimate.value, p95=p95, interval=interval, n=count, note=note)
