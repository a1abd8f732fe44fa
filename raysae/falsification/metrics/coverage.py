"""How many registered variables have some single latent that detects them, and how many a probe does (SCIENCE 7)."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from raysae.falsification.criterion import SEED_SHARE
from raysae.falsification.intervals import clopper_pearson
from raysae.falsification.metrics.alignment import COVERAGE_F1, Alignment
from raysae.falsification.metrics.documents import MAIN
from raysae.falsification.metrics.matching import best_f1, f1_at, fires_above
from raysae.falsification.metrics.probing import Features, fit, logits
from raysae.types.metric import Metric, NullValue


def probe_f1(
    fit_x: Features,
    fit_values: Int[np.ndarray, " n"],
    fit_document: Int[np.ndarray, " n"],
    x: Features,
    values: Int[np.ndarray, " k"],
    *,
    count: int,
    seed: int,
) -> Float[np.ndarray, " count"]:
    """TEST F1 of a linear probe as a detector of each of the `count` values of one variable.

    -1 is a token without the variable, a class of its own here: a latent has to stay silent there too. The probe's
    probabilities get what latents get, the best threshold on FIT. A value that FIT does not hold has F1 0.
    """
    found = np.zeros(count)
    if len(np.unique(fit_values)) < 2:
        return found
    probe = fit(fit_x, fit_values + 1, fit_document, seed=seed)
    on_fit, on_test = (torch.from_numpy(_probabilities(logits(probe, part))) for part in (fit_x, x))
    for column, value in enumerate(probe.classes - 1):
        if value >= 0:
            _, threshold = best_f1(on_fit[:, [column]], (fit_values == value)[:, None])
            fires = fires_above(on_test, np.array([column]), threshold[0])
            found[value] = f1_at(fires, (values == value)[:, None])[0]
    return found


def summarise(
    arms: Mapping[str, Sequence[Alignment]], *, probe: Sequence[Float[np.ndarray, " F"]] = (), n: int
) -> Metric:
    """Share of `n` registered factors with some latent at TEST F1 >= 0.9 in most seeds, chosen on FIT and whoever else
    claims it; `probe` holds the F1 of linear probes on raw activations, once or per seed, and makes the ceiling."""
    by_arm = {arm: [found.any_test_f1 for found in seeds] for arm, seeds in arms.items()}
    if any(len(f1) != n for seeds in [*by_arm.values(), probe] for f1 in seeds):
        raise ValueError(f"coverage was measured on other factors than the {n} registered ones")
    main = by_arm[MAIN]
    count = int(_covered(main).sum()) if n else 0
    nulls = {}
    for arm, seeds in by_arm.items():
        if arm != MAIN and n:
            null = int(_covered(seeds).sum())
            nulls[arm] = NullValue(mean=null / n, p95=null / n, interval=clopper_pearson(null, n), n=n)
    also: dict[str, float | None] = {"mean_f1": float(np.mean(main))} if n else {}
    if n and len(probe):
        also |= {"probe_coverage": float(_covered(probe).mean()), "probe_mean_f1": float(np.mean(probe))}
    return Metric(
        name="coverage",
        unit="share of factors",
        direction=">=",
        value=count / n if n else None,
        interval=clopper_pearson(count, n) if n else None,
        n=n,
        unit_of_sampling="factor",
        seeds=len(main),
        per_seed=tuple(float((f1 >= COVERAGE_F1).mean()) for f1 in main) if n else (),
        nulls=nulls,
        ceiling=also.get("probe_coverage"),
        also=also,
        not_run=None if n else "No factor is registered.",
    )


def _covered(seeds: Sequence[Float[np.ndarray, " F"]]) -> Bool[np.ndarray, " F"]:
    return np.mean([f1 >= COVERAGE_F1 for f1 in seeds], axis=0) >= SEED_SHARE - 1e-9


def _probabilities(logit: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
    odds = np.exp(logit - logit.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)
