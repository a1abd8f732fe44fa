"""Causal attribution judged: which latents hold on TEST what they promised on FIT, and the share of them (SCIENCE 7).

The latents judged are the first by FIT slope, a registered number of them, so nothing is chosen by what TEST shows.
Latents of one SAE are distinct, and a share of them has an exact interval. Another seed has other latents, but seeds of
one model find the same features again: 5 x 30 latents are not 150 independent units. So the bounds of the seeds are
averaged, which is exact where all seeds find the same and holds too much where they do not, and the spread of the seeds
is added. Ranks that hold in most seeds, tried as units before, called GO at the threshold in 9 % of simulated courts: a
feature that fails stands at another rank in every seed, where the others outvote it.

The score is a log-probability of what the text really says next, so the test has one side: more of a latent that is on
should make that surer. A latent whose presence makes the model's text less likely is interference, not a feature.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from raysae.falsification.criterion import ATTRIBUTION, SEED_SHARE
from raysae.falsification.intervals import Estimate, Interval, benjamini_hochberg, share_over_seeds
from raysae.falsification.metrics import importance
from raysae.falsification.metrics.attribution import LATENTS, Attribution
from raysae.falsification.metrics.documents import MAIN, as_null
from raysae.falsification.metrics.dose_response import (
    effect,
    linear,
    r_squared,
    slope,
    specific,
    specificity,
    symmetry,
)
from raysae.falsification.metrics.null_directions import NULLS
from raysae.types.metric import Gate, Metric, NullValue, Reason

TOP_ROWS = 0.05
FEWEST_ROWS = 1 + round(1 / TOP_ROWS)
"""Alive latents from which on the smallest p against rows, 1 / (alive - 1), is TOP_ROWS."""
DORMANT = 0.5
"""An effect of which more than this needs the null space of the readers is an illusion (SCIENCE 4.8)."""


class Judged(NamedTuple):
    """One direction per alive latent of one SAE, and the latents by rank."""

    significant: Bool[np.ndarray, " m"]
    """Against random directions, at false discovery rate 0.05 over all alive latents."""
    stands_out: Bool[np.ndarray, " m"]
    """Among the top 5 % of the decoder's rows, pushed at the same sites. There are only as many rows as latents, so no
    p against them could survive a correction over all latents; that so many latents must pass corrects enough."""
    supports: Bool[np.ndarray, " m"]
    """More of it raises the score of its target, on FIT and on TEST."""
    linear: Bool[np.ndarray, " m"]
    specificity: Float[np.ndarray, " m"]
    passes: Bool[np.ndarray, " m"]
    """All five."""
    chosen: Int[np.ndarray, " r"]
    """The latents by falling FIT slope, at most as many as are registered."""


def judge(found: Attribution, latents: int, direction: str = LATENTS, *, ranked: bool = True) -> Judged:
    """The rule, for the latents themselves or for a null's directions in their place. Where they are not `ranked` among
    the rows, each counts as one that stands out."""
    one = found.directions[direction]
    significant = benjamini_hochberg(one.p["random_direction"])
    stands_out = (one.p["shuffled_decoder"] <= TOP_ROWS) | (not ranked)
    supports = (effect(one.curve) > 0) & (one.fit_slope > 0)
    straight, share = linear(one.curve), specificity(one.mass, one.target)
    return Judged(
        significant=significant,
        stands_out=stands_out,
        supports=supports,
        linear=straight,
        specificity=share,
        passes=significant & stands_out & supports & straight & specific(share),
        chosen=np.argsort(-one.fit_slope, kind="stable")[:latents],
    )


def summarise(arms: Mapping[str, Sequence[Attribution]], *, latents: int, seed: int) -> Metric:
    """The share of the `latents` registered per seed that pass, mean over seeds.

    `arms` maps `main` and `random_model` to what was measured of each seed; the nulls that replace a direction are
    inside. `seed` is for the bootstrap of the diagnostics.
    """
    main = arms[MAIN]
    found = _share(main, latents)
    # A null that cannot stand out for want of rows has not been kept from passing by what it is.
    nulls = {
        arm: as_null(_share(seeds, latents, lenient=True), latents, "its own SAEs, judged by the same rule")
        for arm, seeds in arms.items()
        if arm != MAIN
    }
    for name in (null for null in NULLS if all(null in one.directions for one in main)):
        note = "such a direction in the place of each latent, chosen on FIT and judged by the same rule"
        nulls[name] = as_null(_share(main, latents, name), latents, note)
    return _metric(
        found.value,
        found.interval,
        latents,
        len(main),
        found.per_seed,
        nulls,
        _also(main, latents, seed),
        None,
        (_rows_gate(main, latents),),
    )


def nothing(seeds: int, why: str) -> Metric:
    """The metric where there is nothing to push."""
    return _metric(None, None, 0, seeds, (), {}, {}, why)


def table(seeds: Sequence[Attribution], latents: int) -> list[dict[str, Any]]:
    """One row per seed and rank: the rows of `metrics/attribution.json`."""
    rows: list[dict[str, Any]] = []
    for number, found in enumerate(seeds):
        judged, one = judge(found, latents), found.directions[LATENTS]
        columns = {
            "fit_slope": one.fit_slope,
            "slope": slope(one.curve),
            "effect": effect(one.curve),
            **{f"p_{null}": p for null, p in one.p.items()},
            "r2": r_squared(one.curve),
            "symmetry": symmetry(one.curve),
            "specificity": judged.specificity,
            "predicted": found.predicted,
            **found.ablation,
        }
        flags = {name: getattr(judged, name) for name in ("significant", "stands_out", "supports", "linear", "passes")}
        for rank, latent in enumerate(judged.chosen.tolist()):
            rows.append(
                {
                    "seed": number,
                    "rank": rank + 1,
                    "latent": int(found.latent[latent]),
                    "target": int(one.target[latent]),
                    "sites": int(found.sites[latent]),
                    **{name: float(values[latent]) for name, values in columns.items()},
                    **{name: bool(values[latent]) for name, values in flags.items()},
                    "specific": bool(specific(judged.specificity)[latent]),
                    "curve": one.curve[latent].tolist(),
                    "null_curves": {
                        name: found.directions[name].curve[latent].tolist()
                        for name in NULLS
                        if name in found.directions
                    },
                    "null_effects": {name: found.nulls[name][latent].tolist() for name in NULLS},
                }
            )
    return rows


def _metric(
    value: float | None,
    interval: Interval | None,
    n: int,
    seeds: int,
    per_seed: tuple[float, ...],
    nulls: dict[str, NullValue],
    also: dict[str, float | None],
    not_run: str | None,
    gates: tuple[Gate, ...] = (),
) -> Metric:
    return Metric(
        name="causal_attribution",
        unit="share of latents",
        direction=">=",
        value=value,
        interval=interval,
        n=n,
        unit_of_sampling="latent",
        seeds=seeds,
        per_seed=per_seed,
        nulls=nulls,
        gates=gates,
        also=also,
        not_run=not_run,
    )


def _rankable(found: Attribution) -> bool:
    """Whether the smallest p against the other rows, one of which stands in the latent's place, reaches TOP_ROWS."""
    return len(found.latent) >= FEWEST_ROWS


def _rows_gate(main: Sequence[Attribution], latents: int) -> Gate:
    """Among few rows no latent stands out, whatever it does: no NO_GO rests on that. One stands that holds even if all
    stood out, as where most of the registered latents are not there at all."""
    interval = _share(main, latents, lenient=True).interval
    missed = interval is not None and interval[1] < ATTRIBUTION
    least = min(len(found.latent) for found in main)
    return Gate(
        name="rows to stand out among",
        passed=all(map(_rankable, main)) or missed,
        detail=f"{least} alive latents in a seed, {FEWEST_ROWS} needed for one to be among the top {TOP_ROWS:.0%}"
        + (" for a GO" if missed else ""),
        failure=Reason.UNDERPOWERED,
    )


def _passes(
    found: Attribution, latents: int, direction: str = LATENTS, *, lenient: bool = False
) -> Bool[np.ndarray, " r"]:
    """By rank; a rank for which the SAE has no alive latent fails. `lenient`: none fails for want of rows."""
    judged = judge(found, latents, direction, ranked=not lenient or _rankable(found))
    flags = np.zeros(latents, dtype=bool)
    flags[: len(judged.chosen)] = judged.passes[judged.chosen]
    return flags


def _share(seeds: Sequence[Attribution], latents: int, direction: str = LATENTS, *, lenient: bool = False) -> Estimate:
    passes = [_passes(found, latents, direction, lenient=lenient) for found in seeds]
    return share_over_seeds([(int(flags.sum()), latents) for flags in passes])


def _also(main: Sequence[Attribution], latents: int, seed: int) -> dict[str, float | None]:
    """Rival readings and diagnostics, each the mean over seeds where it is defined."""
    in_most = np.mean([_passes(found, latents) for found in main], axis=0) >= SEED_SHARE - 1e-9
    columns = _columns([_diagnose(found, latents, seed) for found in main])
    return {"ranks": float(in_most.mean())} | {
        name: None if np.isnan(values).all() else float(np.nanmean(values)) for name, values in columns.items()
    }


def _columns(rows: Sequence[dict[str, float]]) -> dict[str, Float[np.ndarray, " s"]]:
    return {name: np.array([row[name] for row in rows]) for name in rows[0]} if rows else {}


def _diagnose(found: Attribution, latents: int, seed: int) -> dict[str, float]:
    judged, one = judge(found, latents), found.directions[LATENTS]
    size, chosen = effect(one.curve), judged.chosen
    row: dict[str, float] = {
        "alive": float(len(found.latent)),
        "tested": float((found.sites > 0).sum()),
        "off_support_tokens": _mean(found.off_support),
        "significant": _mean(judged.significant),
        **{
            f"chosen_{name}": _mean(getattr(judged, name)[chosen])
            for name in ("significant", "stands_out", "supports", "linear")
        },
        "chosen_specific": _mean(specific(judged.specificity)[chosen]),
        "chosen_above_matched": _mean(one.p["matched_latents"][chosen] <= TOP_ROWS),
        **{f"chosen_{name}_ablation": _mean(values[chosen]) for name, values in found.ablation.items()},
        "chosen_illusions": _illusions(found.row_effect[chosen], size[chosen]),
        "any_change": _mean(one.changed),
        "any_change_matched": _mean(found.directions["matched_latents"].changed),
    }
    for name, proxy in (("variance", found.variance), ("frequency", found.rate), ("gradient", found.gradient)):
        value, interval = importance.rank_correlation(proxy, np.abs(size), seed)
        low, high = interval or (np.nan, np.nan)
        row |= {f"spearman_{name}": value, f"spearman_{name}_low": low, f"spearman_{name}_high": high}
    for name, predicted in (("gradient", found.predicted), ("fit", one.fit_slope)):
        line = importance.calibration(predicted, slope(one.curve))
        for field in importance.Calibration._fields:
            row[f"predicted_by_{name}_{field}"] = getattr(line, field) if line else np.nan
    return row


def _illusions(row_effect: Float[np.ndarray, " r"], size: Float[np.ndarray, " r"]) -> float:
    """Share, among latents with an effect, of those that lose more than half of it without the part of the direction
    that no reader reads at first order; NaN where the readers read everything."""
    known = np.isfinite(row_effect) & (size != 0)
    return _mean(np.abs(1 - row_effect[known] / size[known]) > DORMANT)


def _mean(values: Any) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
