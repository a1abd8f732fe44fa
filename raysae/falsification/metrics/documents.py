"""Sums per document, and what the document-level metrics share when they turn them into a Metric."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from raysae.falsification.intervals import Estimate
from raysae.falsification.resampling import ratio_over_documents
from raysae.types.metric import Gate, NullValue, Reason

Columns = Mapping[str, Float[np.ndarray, " _"]]
"""Sums per document by name, for one SAE; `tokens` is always among them."""

MAIN = "main"


def sum_by_document(
    values: Float[Tensor, " n"], document: Int[Tensor, " n"], documents: int
) -> Float[np.ndarray, " documents"]:
    """Per-token values added up per document, in float64 and in the order of the rows."""
    return torch.bincount(document.cpu(), weights=values.double().cpu(), minlength=documents).numpy()


def stack(seeds: Sequence[Columns]) -> dict[str, Float[np.ndarray, "s d"]]:
    """The columns of all seeds, documents without tokens left out. ValueError unless all seeds read the same tokens."""
    if not seeds:
        raise ValueError("no seed was measured; allowed: at least one")
    tokens = np.stack([columns["tokens"] for columns in seeds])
    if not (tokens == tokens[0]).all():
        raise ValueError(
            "the seeds of one arm were measured on different tokens; allowed: the same documents for every seed"
        )
    kept = tokens[0] > 0
    return {name: np.stack([columns[name][kept] for columns in seeds]).astype(np.float64) for name in seeds[0]}


def mean_per(columns: Mapping[str, Float[np.ndarray, "s d"]], name: str, per: str = "tokens") -> float | None:
    """Mean over seeds of sum(name) / sum(per); None where it is undefined."""
    if name not in columns:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = columns[name].sum(axis=1) / columns[per].sum(axis=1)
    return float(ratios.mean()) if np.isfinite(ratios).all() else None


def l0_gate(columns: Mapping[str, Float[np.ndarray, "s d"]], cap: float) -> Gate:
    """The cap under which S1 and S2 are judged together; beyond it both are VOID (SCIENCE S2)."""
    l0 = columns["l0"].sum(axis=1) / columns["tokens"].sum(axis=1)
    worst = float(l0.max()) if l0.size else float("nan")
    return Gate(
        name="L0 cap",
        passed=bool(worst <= cap),
        detail=f"largest L0 of a seed {worst:.2f}, cap {cap:.2f}",
        failure=Reason.VOID,
    )


def as_null(estimate: Estimate, n: int, note: str = "") -> NullValue:
    """A null arm measured as the real one was; its p95 is over its seeds."""
    if estimate.interval is None:
        return NullValue(mean=None, p95=None, n=n, note=note or "undefined")
    p95 = float(np.quantile(estimate.per_seed, 0.95))
    return NullValue(mean=estimate.value, p95=p95, interval=estimate.interval, n=n, note=note)


def ratio(
    columns: Mapping[str, Float[np.ndarray, "s d"]], name: str, per: str, *, bootstrap: int, seed: int
) -> Estimate:
    """`ratio_over_documents` of two columns."""
    return ratio_over_documents(columns[name], columns[per], bootstrap=bootstrap, seed=seed)
