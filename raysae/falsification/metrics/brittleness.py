"""What is left of detection, or of joint success, when the text changes and its meaning does not (SCIENCE 7)."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from raysae.falsification.criterion import DETECTED
from raysae.falsification.intervals import Estimate, worst_of
from raysae.falsification.metrics.documents import MAIN
from raysae.falsification.metrics.tallies import Tally, scores
from raysae.falsification.resampling import Weights, hierarchical
from raysae.types.metric import Gate, Metric, NullValue, Reason

CLEAN = "clean"
PERTURBATIONS = ("paraphrase", "token_injection", "cue_removal", "length_shift")

Perturbed = Mapping[str, Tally]
"""`clean` and every perturbation of the same documents, document by document: F1 of the latents and thresholds that
were matched on clean FIT text, or J of the same interchange pairs."""


def summarise(arms: Mapping[str, Sequence[Perturbed]], *, bootstrap: int, seed: int) -> Metric:
    """Relative loss 1 - score / clean score under the worst perturbation; its interval is (largest lower bound, largest
    upper bound), so a bound holds only if it holds for all.

    A null that detects nothing on clean text has nothing to lose; that counts as all lost.
    """
    main = arms[MAIN]
    kinds = [kind for kind in main[0] if kind != CLEAN] if main else []
    losses = {kind: _loss(main, kind, bootstrap, seed) for kind in kinds}
    clean = _clean(main, bootstrap, seed)
    value, interval = worst_of(list(losses.values()))
    also: dict[str, float | None] = {"clean_score": clean.value if clean.interval else None}
    for kind, loss in losses.items():
        also |= {kind: loss.value, f"{kind}_upper": loss.interval[1]} if loss.interval else {kind: None}
    n = len(main[0][CLEAN].of) if main else 0
    nulls = {arm: _null(seeds, kinds, n, bootstrap, seed) for arm, seeds in arms.items() if arm != MAIN}
    missing = [kind for kind in PERTURBATIONS if kind not in kinds]
    said = ", ".join(missing)
    gates = (
        _detected(clean),
        Gate(
            name="perturbations",
            passed=not missing,
            detail=f"{said} not measured" if missing else "all were measured",
            failure=Reason.NOT_RUN,
        ),
    )
    return Metric(
        name="brittleness",
        unit="relative loss",
        direction="<=",
        value=value,
        interval=interval,
        n=n,
        unit_of_sampling="document",
        seeds=len(main),
        nulls=nulls,
        gates=gates,
        also=also,
        not_run=None if interval else "No perturbed text was measured, or nothing is detected on clean text.",
    )


def _loss(seeds: Sequence[Perturbed], kind: str, bootstrap: int, seed: int) -> Estimate:
    def lost(weights: Weights) -> Float[np.ndarray, "s b"]:
        drawn = weights["TEST"]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.stack([1 - scores(one[kind], drawn) / scores(one[CLEAN], drawn) for one in seeds])

    return _over_documents(lost, seeds, bootstrap, seed)


def _clean(seeds: Sequence[Perturbed], bootstrap: int, seed: int) -> Estimate:
    return _over_documents(
        lambda weights: np.stack([scores(one[CLEAN], weights["TEST"]) for one in seeds]), seeds, bootstrap, seed
    )


def _over_documents(
    statistic: Callable[[Weights], Float[np.ndarray, "s b"]], seeds: Sequence[Perturbed], bootstrap: int, seed: int
) -> Estimate:
    counts = {len(tally.of) for one in seeds for tally in one.values()}
    if len(counts) > 1:
        raise ValueError(f"{sorted(counts)} documents; allowed: every perturbation of the same documents")
    return hierarchical(statistic, {"TEST": counts.pop() if counts else 0}, bootstrap=bootstrap, seed=seed)


def _detected(clean: Estimate) -> Gate:
    lower = clean.interval[0] if clean.interval else float("nan")
    detail = f"score {clean.value:.3f} on clean text (lower bound {lower:.3f}), needed {DETECTED}"
    return Gate(name="something to lose", passed=bool(lower >= DETECTED), detail=detail)


def _null(seeds: Sequence[Perturbed], kinds: Sequence[str], n: int, bootstrap: int, seed: int) -> NullValue:
    gate = _detected(_clean(seeds, bootstrap, seed))
    if not gate.passed:
        return NullValue(mean=1.0, p95=1.0, interval=(1.0, 1.0), n=n, note=f"nothing to lose: {gate.detail}")
    value, interval = worst_of([_loss(seeds, kind, bootstrap, seed) for kind in kinds])
    return NullValue(mean=value, p95=value, interval=interval, n=n)
