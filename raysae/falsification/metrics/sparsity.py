"""S2: how many of the latents that live are zero, and at which L0."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from raysae.falsification.intervals import Estimate, quantile_over_documents
from raysae.falsification.metrics.documents import MAIN, Columns, as_null, l0_gate, mean_per, stack, sum_by_document
from raysae.types.metric import Metric

QUANTILE = 0.05


def alive_latents(fit_latents: Float[Tensor, "n m"], rate: float) -> Bool[Tensor, " m"]:
    """Which latents fire on more than `rate` of the FIT tokens (SCIENCE 0.1)."""
    return (fit_latents > 0).double().mean(dim=0) > rate


def document_columns(
    latents: Float[Tensor, "n m"], alive: Bool[Tensor, " m"], document: Int[Tensor, " n"], documents: int
) -> dict[str, Float[np.ndarray, " documents"]]:
    """Sums per document: zero (fraction of alive latents that are 0), zero_all (of all latents), l0 (over all latents:
    a dead one that fires on TEST counts), dead (share of dead latents), tokens. NaN in `zero` if no latent is alive."""
    firing = latents != 0
    l0 = firing.sum(dim=1).double()
    share = alive.double().mean()
    per_token = {
        "zero": 1 - firing[:, alive].sum(dim=1).double() / alive.sum(),
        "zero_all": 1 - l0 / len(alive),
        "l0": l0,
        "dead": (1 - share).expand(len(l0)),
        "tokens": torch.ones_like(l0),
    }
    return {name: sum_by_document(values, document, documents) for name, values in per_token.items()}


def summarise(arms: Mapping[str, Sequence[Columns]], *, l0_cap: float) -> Metric:
    """5th percentile over documents of the zero fraction of alive latents, over seeds."""
    main = stack(arms[MAIN])
    estimate = _estimate(main)
    nulls = {}
    for arm, seeds in arms.items():
        if arm != MAIN:
            columns = stack(seeds)
            nulls[arm] = as_null(_estimate(columns), columns["tokens"].shape[1])
    return Metric(
        name="sparsity",
        unit="fraction of alive latents",
        direction=">=",
        value=estimate.value if estimate.interval else None,
        interval=estimate.interval,
        n=main["tokens"].shape[1],
        unit_of_sampling="document",
        seeds=len(arms[MAIN]),
        per_seed=estimate.per_seed if estimate.interval else (),
        nulls=nulls,
        gates=(l0_gate(main, l0_cap),),
        also={
            "zero_fraction_mean": mean_per(main, "zero"),
            "zero_fraction_all": mean_per(main, "zero_all"),
            "l0": mean_per(main, "l0"),
            "dead_fraction": mean_per(main, "dead"),
        },
        not_run=None if estimate.interval else "No latent is alive in at least one seed.",
    )


def _estimate(columns: Mapping[str, Float[np.ndarray, "s d"]]) -> Estimate:
    per_document = columns["zero"] / columns["tokens"]
    if not np.isfinite(per_document).all():
        return Estimate(float("nan"), None, ())
    return quantile_over_documents(per_document, QUANTILE)
