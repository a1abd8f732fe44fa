"""S2: how many of the latents that live are zero, and at which L0."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from raysae.falsification.intervals import Estimate, mean_over_seeds, quantile_over_documents
from raysae.falsification.metrics.documents import MAIN, Columns, as_null, l0_gate, mean_per, stack, sum_by_document
from raysae.falsification.metrics.observation import finite, over_seeds
from raysae.types.metric import Metric

QUANTILE = 0.05
_EXPONENTS = np.arange(-6, 0.5, 0.5)
_DENSITIES = np.array([0.0, *10.0**_EXPONENTS])


def alive_latents(fit_latents: Float[Tensor, "n m"], rate: float) -> Bool[Tensor, " m"]:
    """Which latents fire on more than `rate` of the FIT tokens (SCIENCE 0.1)."""
    return (fit_latents > 0).double().mean(dim=0) > rate


def density(latents: Float[Tensor, "n m"]) -> Float[np.ndarray, " bins"]:
    """Share of the latents that never fire, then of those that fire on a share of tokens below 10^-6, up to 10^-5.5,
    and so on by half decades up to 1."""
    rate = (latents != 0).double().mean(dim=0).cpu().numpy()
    counts = np.bincount(np.searchsorted(_DENSITIES, rate), minlength=len(_DENSITIES))
    return counts / max(len(rate), 1)


def summarise_density(arms: Mapping[str, Sequence[Float[np.ndarray, " bins"]]]) -> Metric:
    """An observation: the share of latents that are silent on TEST, over seeds, and the histogram of log10 firing rates
    of those that are not."""
    silent = {arm: mean_over_seeds(np.array([seed[0] for seed in seeds])) for arm, seeds in arms.items()}
    shares = np.mean(arms[MAIN], axis=0)[1:]
    also = {f"log10_rate_up_to_{exponent:g}": float(share) for exponent, share in zip(_EXPONENTS, shares, strict=True)}
    return over_seeds("firing_density", "share of latents", "<=", silent, also=also)


def document_columns(
    latents: Float[Tensor, "n m"], alive: Bool[Tensor, " m"], document: Int[Tensor, " n"], documents: int
) -> dict[str, Float[np.ndarray, " documents"]]:
    """Sums per document: zero (fraction of alive latents that are 0), zero_all (of all latents), l0 (over all latents:
    a dead one that fires on TEST counts), dead (share of dead latents), tokens; and, no sum, silent (fraction of
    alive latents that are 0 on all tokens of the document). NaN in `zero` and `silent` if no latent is alive."""
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
    columns = {name: sum_by_document(values, document, documents) for name, values in per_token.items()}
    return {**columns, "silent": _silent(firing[:, alive], document, documents)}


def _silent(
    firing: Bool[Tensor, "n a"], document: Int[Tensor, " n"], documents: int
) -> Float[np.ndarray, " documents"]:
    alive = firing.shape[1]
    token, latent = firing.nonzero(as_tuple=True)
    heard = torch.unique(document.to(token.device)[token] * alive + latent)
    counts = torch.bincount(heard // max(alive, 1), minlength=documents)
    return (1 - counts.double() / alive).cpu().numpy()


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
            "silent_throughout": finite(_fifth(main["silent"]).value),
            "l0": mean_per(main, "l0"),
            "dead_fraction": mean_per(main, "dead"),
        },
        not_run=None if estimate.interval else "No latent is alive in at least one seed.",
    )


def _estimate(columns: Mapping[str, Float[np.ndarray, "s d"]]) -> Estimate:
    return _fifth(columns["zero"] / columns["tokens"])


def _fifth(per_document: Float[np.ndarray, "s d"]) -> Estimate:
    if not np.isfinite(per_document).all():
        return Estimate(float("nan"), None, ())
    return quantile_over_documents(per_document, QUANTILE)
