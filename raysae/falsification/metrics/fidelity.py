"""How much of the model's cross-entropy survives when its activations are replaced by their reconstruction."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from raysae.falsification.criterion import CE_GAP_NATS
from raysae.falsification.intervals import Estimate
from raysae.falsification.metrics.documents import MAIN, Columns, as_null, mean_per, ratio, stack, sum_by_document
from raysae.types.metric import Gate, Metric, NullValue


def cross_entropy(
    logits: Float[Tensor, "b t v"],
    tokens: Int[Tensor, "b t"],
    mask: Bool[Tensor, "b t"],
    document: Int[Tensor, " b"],
    documents: int,
) -> Float[np.ndarray, " documents"]:
    """Nats per document: position t predicts token t + 1, where `mask` says both exist."""
    log_p = logits[:, :-1].float().log_softmax(dim=-1)
    nats = -log_p.gather(-1, tokens[:, 1:, None].long())[..., 0]
    return sum_by_document(nats.where(_predicts(mask), torch.zeros_like(nats)).sum(dim=1), document, documents)


def kl_divergence(
    clean: Float[Tensor, "b t v"],
    spliced: Float[Tensor, "b t v"],
    mask: Bool[Tensor, "b t"],
    document: Int[Tensor, " b"],
    documents: int,
) -> Float[np.ndarray, " documents"]:
    """KL(clean || spliced) in nats per document, over the positions `cross_entropy` reads."""
    log_p, log_q = clean[:, :-1].float().log_softmax(dim=-1), spliced[:, :-1].float().log_softmax(dim=-1)
    kl = (log_p.exp() * (log_p - log_q)).sum(dim=-1)
    return sum_by_document(kl.where(_predicts(mask), torch.zeros_like(kl)).sum(dim=1), document, documents)


def predicted_tokens(
    mask: Bool[Tensor, "b t"], document: Int[Tensor, " b"], documents: int
) -> Float[np.ndarray, " documents"]:
    """How many tokens per document `cross_entropy` adds up."""
    return sum_by_document(_predicts(mask).sum(dim=1).double(), document, documents)


def summarise(arms: Mapping[str, Sequence[Columns]], *, bootstrap: int, seed: int) -> Metric:
    """CE recovered over documents and seeds.

    Columns per document, in nats: `clean`, `sae`, `ablated` (mean ablation), `tokens`; if at hand `zero_ablated`, `kl`.
    """
    main = _with_gaps(stack(arms[MAIN]))
    gate = _gap_gate(main, bootstrap, seed)
    estimate = _recovered(main, bootstrap, seed)
    defined = gate.passed and estimate.interval is not None
    nulls = {arm: _null(seeds, bootstrap, seed) for arm, seeds in arms.items() if arm != MAIN}
    return Metric(
        name="fidelity",
        unit="fraction of cross-entropy",
        direction=">=",
        value=estimate.value if defined else None,
        interval=estimate.interval if defined else None,
        n=main["tokens"].shape[1],
        unit_of_sampling="document",
        seeds=len(arms[MAIN]),
        per_seed=estimate.per_seed if defined else (),
        nulls=nulls,
        ceiling=1.0,
        gates=(gate,),
        also={
            "delta_ce": mean_per(main, "lost"),
            "ce_clean": mean_per(main, "clean"),
            "ce_gap": mean_per(main, "gap"),
            "kl": mean_per(main, "kl"),
            "ce_recovered_zero": mean_per(main, "recovered_zero", "gap_zero") if "gap_zero" in main else None,
        },
        not_run=None if defined else f"The ratio is undefined: {gate.detail}.",
    )


def _predicts(mask: Bool[Tensor, "b t"]) -> Bool[Tensor, "b t-1"]:
    return mask[:, 1:] & mask[:, :-1]


def _with_gaps(columns: dict[str, Float[np.ndarray, "s d"]]) -> dict[str, Float[np.ndarray, "s d"]]:
    more = {
        "gap": columns["ablated"] - columns["clean"],
        "recovered": columns["ablated"] - columns["sae"],
        "lost": columns["sae"] - columns["clean"],
    }
    if "zero_ablated" in columns:
        more["gap_zero"] = columns["zero_ablated"] - columns["clean"]
        more["recovered_zero"] = columns["zero_ablated"] - columns["sae"]
    return {**columns, **more}


def _recovered(columns: Mapping[str, Float[np.ndarray, "s d"]], bootstrap: int, seed: int) -> Estimate:
    return ratio(columns, "recovered", "gap", bootstrap=bootstrap, seed=seed)


def _gap_gate(columns: Mapping[str, Float[np.ndarray, "s d"]], bootstrap: int, seed: int) -> Gate:
    gap = ratio(columns, "gap", "tokens", bootstrap=bootstrap, seed=seed)
    lower = gap.interval[0] if gap.interval else float("nan")
    detail = f"ablation costs {gap.value:.3f} nats per token (lower bound {lower:.3f}), needed {CE_GAP_NATS}"
    return Gate(name="CE gap", passed=bool(lower >= CE_GAP_NATS), detail=detail)


def _null(seeds: Sequence[Columns], bootstrap: int, seed: int) -> NullValue:
    columns = _with_gaps(stack(seeds))
    gate = _gap_gate(columns, bootstrap, seed)
    n = columns["tokens"].shape[1]
    if not gate.passed:
        return NullValue(mean=None, p95=None, n=n, note=f"undefined: {gate.detail}")
    return as_null(_recovered(columns, bootstrap, seed), n)
