"""S1: how much of the activations' variance the SAE leaves unexplained."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from raysae.falsification.intervals import mean_over_seeds
from raysae.falsification.metrics.documents import (
    MAIN,
    Columns,
    as_null,
    l0_gate,
    mean_per,
    ratio,
    stack,
    sum_by_document,
)
from raysae.falsification.metrics.observation import finite, over_seeds
from raysae.types.metric import Metric


def document_errors(
    x: Float[Tensor, "n d"],
    x_hat: Float[Tensor, "n d"],
    mean: Float[Tensor, " d"],
    document: Int[Tensor, " n"],
    documents: int,
    active: Int[Tensor, " n"],
) -> dict[str, Float[np.ndarray, " documents"]]:
    """Sums per document: sse, sst about `mean` (of TRAIN), zero (about 0), cosine, shrinkage, l0, tokens.

    `active` counts the non-zero latents of each token. Columns of several calls over the same documents add up.
    """
    x, x_hat = x.float(), x_hat.float()
    norm, norm_hat = x.norm(dim=1), x_hat.norm(dim=1)
    tiny = torch.finfo(torch.float32).tiny
    per_token = {
        "sse": (x - x_hat).square().sum(dim=1),
        "sst": (x - mean.float()).square().sum(dim=1),
        "zero": x.square().sum(dim=1),
        "cosine": (x * x_hat).sum(dim=1) / (norm * norm_hat).clamp_min(tiny),
        "shrinkage": norm_hat / norm.clamp_min(tiny),
        "l0": active.float(),
        "tokens": torch.ones_like(norm),
    }
    return {name: sum_by_document(values, document, documents) for name, values in per_token.items()}


def position_errors(
    x: Float[Tensor, "n d"], x_hat: Float[Tensor, "n d"], mean: Float[Tensor, " d"], position: Int[Tensor, " n"]
) -> dict[str, Float[np.ndarray, " bins"]]:
    """sse and sst as in `document_errors`, summed over positions 0, 1 to 2, 3 to 6, 7 to 14 and so on: the first tokens
    of a text are unlike the others."""
    where = (position + 1).double().log2().floor().long()
    bins = int(where.max()) + 1 if len(where) else 0
    x, x_hat = x.float(), x_hat.float()
    return {
        "sse": sum_by_document((x - x_hat).square().sum(dim=1), where, bins),
        "sst": sum_by_document((x - mean.float()).square().sum(dim=1), where, bins),
    }


def summarise_positions(arms: Mapping[str, Sequence[Columns]]) -> Metric:
    """An observation: FVU where in the text it is largest, over seeds, and at every position."""
    fvu = {
        arm: np.stack([seed["sse"] / np.maximum(seed["sst"], np.finfo(float).tiny) for seed in seeds])
        for arm, seeds in arms.items()
    }
    worst = {arm: mean_over_seeds(of_seed.max(axis=1)) for arm, of_seed in fvu.items()}
    also = {f"from_position_{2**b - 1}": float(value) for b, value in enumerate(fvu[MAIN].mean(axis=0))}
    return over_seeds("fvu_by_position", "fraction of variance", "<=", worst, also=also)


def summarise(
    arms: Mapping[str, Sequence[Columns]],
    *,
    l0_cap: float,
    bootstrap: int,
    seed: int,
    baselines: Mapping[str, Sequence[Columns]] | None = None,
) -> Metric:
    """FVU over documents and seeds; `arms` maps `main` and the nulls to the columns of each SAE seed, `baselines` SAEs
    of the same seeds, with whose error it is compared in `also` (ALT-b)."""
    main = stack(arms[MAIN])
    estimate = ratio(main, "sse", "sst", bootstrap=bootstrap, seed=seed)
    nulls = {}
    for arm, seeds in arms.items():
        if arm != MAIN:
            columns = stack(seeds)
            l0 = mean_per(columns, "l0")
            note = "" if l0 is None else f"L0 {l0:.2f}"
            nulls[arm] = as_null(
                ratio(columns, "sse", "sst", bootstrap=bootstrap, seed=seed), columns["tokens"].shape[1], note
            )
    return Metric(
        name="reconstruction",
        unit="fraction of variance",
        direction="<=",
        value=estimate.value if estimate.interval else None,
        interval=estimate.interval,
        n=main["tokens"].shape[1],
        unit_of_sampling="document",
        seeds=len(arms[MAIN]),
        per_seed=estimate.per_seed if estimate.interval else (),
        nulls=nulls,
        ceiling=0.0,
        gates=(l0_gate(main, l0_cap),),
        also={
            "explained_variance": 1 - estimate.value if estimate.interval else None,
            "fvu_zero": mean_per(main, "sse", "zero"),
            "cosine": mean_per(main, "cosine"),
            "shrinkage": mean_per(main, "shrinkage"),
            "l0": mean_per(main, "l0"),
            **{f"error_above_{arm}": _above(main, stack(seeds)) for arm, seeds in (baselines or {}).items()},
        },
        not_run=None if estimate.interval else "The TEST activations have no variance.",
    )


def _above(
    main: Mapping[str, Float[np.ndarray, "s d"]], baseline: Mapping[str, Float[np.ndarray, "s d"]]
) -> float | None:
    """Mean over seeds of the error as a share of the baseline's, less 1; both are over the same variance."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return finite(float(np.mean(main["sse"].sum(axis=1) / baseline["sse"].sum(axis=1))) - 1)
