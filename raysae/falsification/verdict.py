"""The decision: GO, NO_GO or INCONCLUSIVE per criterion, and in all (SCIENCE 0.3). `_rule`, top to bottom, is the
rule."""

import math
from collections.abc import Mapping, Sequence

from raysae.falsification.criterion import PRECISION, SEEDS_FOR_NO_GO, Criterion
from raysae.falsification.intervals import Interval
from raysae.falsification.protocol import Protocol
from raysae.types.metric import CriterionVerdict, Direction, Metric, NullValue, Outcome, Reason, Verdict


def decide(
    protocol: Protocol,
    metrics: Mapping[str, Metric],
    *,
    sealed_sha256: str,
    source_sha256: str,
    remarks: Sequence[str] = (),
    breaches: Sequence[str] = (),
) -> Verdict:
    """Judge every registered criterion.

    `sealed_sha256` is the hash under which the protocol was sealed, `source_sha256` that of the code that decides
    (`raysae.falsification.source_sha256()` now). Where either differs, or there are `breaches` of the registration,
    each a sentence, the verdict is exploratory and holds no GO.
    """
    said = [*remarks, *(f"EXPLORATORY: {breach}" for breach in breaches)]
    if protocol.sha256 != sealed_sha256:
        said.append(
            f"EXPLORATORY: the protocol hashes to {protocol.sha256[:16]}..., it was sealed as {sealed_sha256[:16]}..."
        )
    if protocol.source_sha256 != source_sha256:
        said.append(
            f"EXPLORATORY: the code that decides hashes to {source_sha256[:16]}..., the sealed protocol names "
            f"{protocol.source_sha256[:16]}..."
        )
    intact = not breaches and protocol.sha256 == sealed_sha256 and protocol.source_sha256 == source_sha256
    criteria = {row.name: _judge(row, metrics.get(row.name), protocol, intact) for row in protocol.criteria}
    return Verdict(
        outcome=_overall([row.outcome for row in criteria.values()]),
        protocol_sha256=sealed_sha256,
        mode=protocol.mode if intact else "exploratory",
        remarks=tuple(said),
        overrides=protocol.overrides,
        criteria=criteria,
    )


def attains(interval: Interval | None, direction: Direction, threshold: float) -> bool:
    """Whether the whole interval lies on the good side."""
    if interval is None or not _finite(*interval):
        return False
    return interval[0] >= threshold if direction == ">=" else interval[1] <= threshold


def misses(interval: Interval | None, direction: Direction, threshold: float) -> bool:
    """Whether the whole interval lies on the bad side."""
    if interval is None or not _finite(*interval):
        return False
    return interval[1] < threshold if direction == ">=" else interval[0] > threshold


def corrected(metric: Metric) -> float | None:
    """The value as a share of the way from its hardest null to its ceiling; None where one of them is not known."""
    means = [null.mean for null in metric.nulls.values() if null.mean is not None and _finite(null.mean)]
    if metric.value is None or metric.ceiling is None or not means or not _finite(metric.value, metric.ceiling):
        return None
    hardest = max(means) if metric.direction == ">=" else min(means)
    whole = metric.ceiling - hardest
    return (metric.value - hardest) / whole if abs(whole) > 1e-9 else None


def _overall(outcomes: Sequence[Outcome]) -> Outcome:
    if Outcome.NO_GO in outcomes:
        return Outcome.NO_GO
    if outcomes and all(outcome is Outcome.GO for outcome in outcomes):
        return Outcome.GO
    return Outcome.INCONCLUSIVE


def _judge(criterion: Criterion, metric: Metric | None, protocol: Protocol, intact: bool) -> CriterionVerdict:
    outcome, code, reason = _rule(criterion, metric, protocol, intact)
    value = metric.value if metric and metric.value is not None and _finite(metric.value) else None
    return CriterionVerdict(
        outcome=outcome,
        reason_code=code,
        reason=reason,
        value=value,
        interval=metric.interval if metric and metric.interval and _finite(*metric.interval) else None,
        threshold=criterion.threshold,
        direction=criterion.direction,
        unit=criterion.unit,
        n=metric.n if metric else 0,
        unit_of_sampling=criterion.unit_of_sampling,
        nulls={name: _printable(null) for name, null in metric.nulls.items()} if metric else {},
        ceiling=metric.ceiling if metric else None,
        corrected=corrected(metric) if metric else None,
    )


def _rule(
    criterion: Criterion, metric: Metric | None, protocol: Protocol, intact: bool
) -> tuple[Outcome, Reason | None, str]:
    """The order matters: what was not validly measured is neither GO nor NO_GO, and a NO_GO needs no null."""
    unsure = Outcome.INCONCLUSIVE
    if metric is None:
        return unsure, Reason.NOT_RUN, "It was not measured."
    if metric.name != criterion.name or metric.direction != criterion.direction:
        raise ValueError(
            f"metric {metric.name} {metric.direction} was handed in for criterion {criterion.name} "
            f"{criterion.direction}"
        )
    failed = [gate for gate in metric.gates if not gate.passed]
    if failed:
        return unsure, failed[0].failure, "; ".join(f"{gate.name}: {gate.detail}" for gate in failed) + "."
    if metric.value is None or metric.interval is None or not _finite(metric.value, *metric.interval):
        return unsure, Reason.NOT_RUN, metric.not_run or "The measurement is not a number."
    if metric.seeds < len(protocol.seeds):
        return unsure, Reason.NOT_RUN, f"{metric.seeds} of the {len(protocol.seeds)} registered seeds were measured."
    if criterion.statistic == "proportion" and metric.n != protocol.planned_n(criterion.name):
        planned = protocol.planned_n(criterion.name)
        return (
            unsure,
            Reason.GATE_FAILED,
            f"The denominator is {metric.n}, registered are {planned} ({criterion.unit_of_sampling}).",
        )
    bounds = f"[{metric.interval[0]:.3f}, {metric.interval[1]:.3f}]"
    line = f"{criterion.direction} {criterion.threshold:g}"
    if misses(metric.interval, criterion.direction, criterion.threshold):
        if metric.n < 2 or metric.seeds < min(SEEDS_FOR_NO_GO, criterion.min_seeds):
            return (
                unsure,
                Reason.UNDERPOWERED,
                f"{metric.value:.3f} misses {line}, but n = {metric.n} and seeds = {metric.seeds}.",
            )
        return Outcome.NO_GO, None, f"The interval {bounds} lies wholly on the wrong side of {line}."
    if problem := _null_problem(criterion, metric, protocol):
        return unsure, *problem
    if not attains(metric.interval, criterion.direction, criterion.threshold):
        return unsure, Reason.UNDERPOWERED, f"The interval {bounds} holds the threshold {criterion.threshold:g}."
    if metric.n < criterion.minimum_n:
        return (
            unsure,
            Reason.UNDERPOWERED,
            f"{metric.n} units ({criterion.unit_of_sampling}), {criterion.minimum_n} are needed for GO.",
        )
    if metric.seeds < criterion.min_seeds:
        return (
            unsure,
            Reason.UNDERPOWERED,
            f"It passes {line} with {metric.seeds} seeds, {criterion.min_seeds} are needed for GO.",
        )
    if not intact:
        return unsure, Reason.GATE_FAILED, "It passes, but the seal does not match what was run (see the remarks)."
    said = f"The interval {bounds} lies wholly within {line}, and no voiding null gets there."
    return Outcome.GO, None, f"{said}{_qualified(metric)}"


def _qualified(metric: Metric) -> str:
    """What is said behind a GO of an interchange whose latents do more than one thing (SCIENCE 4.6)."""
    low = metric.also.get("precision_low")
    if low is None or low >= PRECISION:
        return ""
    return (
        f" Features exist but are not selective: the lower bound of their precision, {low:.3f}, is below {PRECISION:g}."
    )


def _null_problem(criterion: Criterion, metric: Metric, protocol: Protocol) -> tuple[Reason, str] | None:
    registered = {null.name for null in protocol.nulls}
    for name in criterion.voiding_nulls:
        null = metric.nulls.get(name)
        if null is not None and attains(null.interval, criterion.direction, criterion.threshold):
            return Reason.VOID, f"The null {name} passes as well: the number says nothing about the SAE."
    for name in criterion.voiding_nulls:
        if name not in registered:
            return Reason.NOT_RUN, f"The null {name} is not registered; add it to protocol.nulls."
        null = metric.nulls.get(name)
        if null is None or null.mean is None or null.interval is None or not _finite(null.mean, *null.interval):
            return (
                Reason.NOT_RUN,
                f"The null {name} is registered but has no value{': ' + null.note if null and null.note else ''}.",
            )
    return None


def _printable(null: NullValue) -> NullValue:
    """A NaN is no JSON; it becomes null."""
    return null.model_copy(
        update={
            "mean": null.mean if null.mean is not None and _finite(null.mean) else None,
            "p95": null.p95 if null.p95 is not None and _finite(null.p95) else None,
            "interval": null.interval if null.interval is not None and _finite(*null.interval) else None,
        }
    )


def _finite(*numbers: float) -> bool:
    return all(math.isfinite(number) for number in numbers)
