"""Answers of a reasoning benchmark, given by the model as it is and through an SAE (SCIENCE 7, a registered task
score)."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from raysae.falsification.intervals import Estimate, clopper_pearson
from raysae.falsification.metrics.documents import MAIN, Columns, as_null, mean_per, ratio, stack
from raysae.falsification.metrics.observation import finite
from raysae.types.metric import Metric

NO_BENCHMARK = "The corpus has no TEST problems whose answer can be read from what a model writes."
READINGS = ("clean", "sae", "ablated")


def summarise(arms: Mapping[str, Sequence[Columns]], *, bootstrap: int, seed: int) -> Metric:
    """Share of answers lost through the SAE: accuracy spliced minus accuracy clean, on the same problems.

    Columns per problem, 0 or 1: `clean`, `sae` and `ablated` (mean ablation), the final answer of the greedy chain of
    thought; `clean_given_steps` and so on, whether every token of the answer is the likeliest behind the true steps;
    `written`, whether the clean model gave an answer at all; `fits`, whether it could have; `tokens`, 1. No ratio is
    formed: where the clean model solves little, it would be 0/0.
    """
    main = stack(arms[MAIN])
    estimate = _lost(main, bootstrap, seed)
    clean = main["clean"][0]
    n = len(clean)
    low, high = clopper_pearson(int(clean.sum()), n)
    return Metric(
        name="answer_accuracy",
        unit="share of answers, through the SAE minus clean",
        direction=">=",
        value=finite(estimate.value),
        interval=estimate.interval,
        n=n,
        unit_of_sampling="document",
        seeds=len(arms[MAIN]),
        per_seed=estimate.per_seed,
        nulls={arm: as_null(_lost(stack(seeds), bootstrap, seed), n) for arm, seeds in arms.items() if arm != MAIN},
        ceiling=0.0,
        also={
            **{f"accuracy_{name}": mean_per(main, name) for name in READINGS},
            "accuracy_clean_low": low,
            "accuracy_clean_high": high,
            **{f"accuracy_{name}_given_steps": mean_per(main, f"{name}_given_steps") for name in READINGS},
            "wrote_an_answer": mean_per(main, "written"),
            "fits_the_context": mean_per(main, "fits"),
        },
    )


def nothing(seeds: int) -> Metric:
    """Where there is no benchmark."""
    return Metric(
        name="answer_accuracy", unit="share of answers, through the SAE minus clean", direction=">=", value=None,
        interval=None, n=0, unit_of_sampling="document", seeds=seeds, not_run=NO_BENCHMARK,
    )  # fmt: skip


def _lost(columns: Mapping[str, Float[np.ndarray, "s d"]], bootstrap: int, seed: int) -> Estimate:
    changed = {"tokens": columns["tokens"], "change": columns["sae"] - columns["clean"]}
    return ratio(changed, "change", "tokens", bootstrap=bootstrap, seed=seed)
