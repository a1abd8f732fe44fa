"""Phase 3: does guiding an SAE with labels put label information into it that the model did not compute (SCIENCE 5.4).

Everything is a tally of a probe on a split, guided minus baseline, paired by seed and document:

    SEEN    held-out documents of template families that were trained on
    UNSEEN  documents of other families
    CUE     cue-swap texts; the tally is the rate at which the probe says the cue's label
    PAIR    minimal pairs, a row each: the same surface in two roles, told apart by history alone
"""

from collections.abc import Mapping, Sequence

import numpy as np

from raysae.falsification.criterion import BENEFIT_NEGLIGIBLE, LEAKAGE, MINIMAL_PAIRS
from raysae.falsification.intervals import Estimate, worst_of
from raysae.falsification.metrics import tripwires
from raysae.falsification.metrics.observation import finite
from raysae.falsification.metrics.tallies import Key, Tally, contrast, score
from raysae.types.metric import Gate, Metric, Reason

Seed = Mapping[Key, Tally]
"""(representation, split) -> tally, of one seed. Both SAEs of a seed share initialisation and data order."""

CHANNELS: dict[str, dict[Key, float]] = {
    # Guided by control labels, which only the token type tells; both are probed for control labels.
    "memorisation": {("guided_control", "SEEN"): 1.0, ("baseline_control", "SEEN"): -1.0},
    # What guidance gains on the families it saw and not on others.
    "template": {
        ("guided", "SEEN"): 1.0,
        ("guided", "UNSEEN"): -1.0,
        ("baseline", "SEEN"): -1.0,
        ("baseline", "UNSEEN"): 1.0,
    },
    "cue": {("guided", "CUE"): 1.0, ("baseline", "CUE"): -1.0},
    # Both trained on a model with random weights (N5), which computes nothing.
    "model_free": {("guided_random_model", "UNSEEN"): 1.0, ("baseline_random_model", "UNSEEN"): -1.0},
}
BENEFIT: dict[Key, float] = {("guided", "PAIR"): 1.0, ("baseline", "PAIR"): -1.0}

_ON_SEEN: dict[str, dict[Key, float]] = {
    "model_free_on_seen": {("guided_random_model", "SEEN"): 1.0, ("baseline_random_model", "SEEN"): -1.0},
    "gain_on_seen": {("guided", "SEEN"): 1.0, ("baseline", "SEEN"): -1.0},
}
_DIFFERENCE: dict[Key, float] = {("guided", "UNSEEN"): 1.0, ("baseline", "UNSEEN"): -1.0}
_WITHOUT, _WITHOUT_RANDOM = ("guided_without_designated", "SEEN"), ("guided_without_random", "SEEN")


def summarise(seeds: Sequence[Seed], *, gates: Sequence[Gate], bootstrap: int, seed: int) -> Metric:
    """The worst channel: its interval is (largest lower bound, largest upper bound), so the claim `<= 0.05` holds only
    if it holds for all four and fails as soon as one is beyond. `gates` are the tripwires.

    Where nothing leaks, guidance must also do something: the lower bound of the benefit on minimal pairs above 0.
    """
    needed = {key for signs in (*CHANNELS.values(), BENEFIT) for key in signs}
    missing = sorted(key for key in needed if not seeds or any(key not in one for one in seeds))
    how = {"bootstrap": bootstrap, "seed": seed}
    if missing:
        said = ", ".join(f"{what} on {split}" for what, split in missing)
        return _metric(seeds, None, None, gates, _measured(seeds, how), f"Not every seed was probed for: {said}.")
    channels = {name: contrast(seeds, signs, **how) for name, signs in CHANNELS.items()}
    benefit = contrast(seeds, BENEFIT, **how)
    value, interval = worst_of(list(channels.values()))
    leaks = interval is not None and interval[0] > LEAKAGE
    # A leak is one whether or not the guidance was of use.
    more = [] if leaks else [_pairs_gate(seeds), _benefit_gate(benefit, interval)]
    also = {key: number for name, one in {**channels, "benefit": benefit}.items() for key, number in _said(name, one)}
    also |= _difference(contrast(seeds, _DIFFERENCE, **how)) | _residual(seeds) | _accuracies(seeds)
    return _metric(seeds, value, interval, [*gates, *more], also, None if interval else "A channel has no number.")


def _measured(seeds: Sequence[Seed], how: dict[str, int]) -> dict[str, float | None]:
    """Of a text without some of the sets: the channels it allows, and on SEEN what elsewhere is asked of UNSEEN."""
    wanted = {**CHANNELS, **_ON_SEEN}
    allowed = {
        name: signs for name, signs in wanted.items() if seeds and all(key in one for one in seeds for key in signs)
    }
    found = {key: number for name in allowed for key, number in _said(name, contrast(seeds, allowed[name], **how))}
    return {**found, **_residual(seeds), **_accuracies(seeds)} if seeds else {}


def _accuracies(seeds: Sequence[Seed]) -> dict[str, float | None]:
    """Of every representation on every set, mean over seeds; None where no token of the set is judged."""
    keys = [key for key in seeds[0] if all(key in one for one in seeds)]
    means = {(what, split): float(np.mean([score(one[what, split]) for one in seeds])) for what, split in keys}
    return {f"{what} on {split}": finite(mean) for (what, split), mean in means.items()}


def _pairs_gate(seeds: Sequence[Seed]) -> Gate:
    pairs = _documents(seeds[0][("guided", "PAIR")])
    return Gate(
        name="minimal pairs",
        passed=pairs >= MINIMAL_PAIRS,
        detail=f"{pairs} minimal pairs, needed {MINIMAL_PAIRS}",
    )


def _benefit_gate(benefit: Estimate, channels: tuple[float, float] | None) -> Gate:
    if benefit.interval is None:
        return Gate(name="benefit", passed=False, detail="the benefit on minimal pairs has no number")
    lower, upper = benefit.interval
    detail = f"on minimal pairs guidance adds {benefit.value:.3f} [{lower:.3f}, {upper:.3f}], needed above 0"
    useless = upper <= BENEFIT_NEGLIGIBLE
    if useless and channels is not None and channels[1] <= LEAKAGE:
        detail += ": no leakage, no benefit"
    return Gate(
        name="benefit",
        passed=lower > 0,
        detail=detail,
        failure=Reason.GATE_FAILED if useless else Reason.UNDERPOWERED,
    )


def _said(name: str, estimate: Estimate) -> list[tuple[str, float | None]]:
    lower, upper = estimate.interval or (None, None)
    return [
        (name, estimate.value if estimate.interval else None),
        (f"{name}_lower", lower),
        (f"{name}_upper", upper),
    ]


def _difference(estimate: Estimate) -> dict[str, float | None]:
    """ALT-a, the absolute difference on UNSEEN: it would reward guidance that does nothing."""
    if estimate.interval is None:
        return {"alt_a_difference": None, "alt_a_difference_upper": None}
    return {
        "alt_a_difference": abs(estimate.value),
        "alt_a_difference_upper": max(abs(bound) for bound in estimate.interval),
    }


def _residual(seeds: Sequence[Seed]) -> dict[str, float | None]:
    """ALT-b, what remains of the accuracy above chance once the latents designated for the labels are deleted, and
    once as many others are."""
    whole = ("guided", "SEEN")
    found: dict[str, float | None] = {}
    for name, key in (("alt_b_residual", _WITHOUT), ("alt_b_residual_random", _WITHOUT_RANDOM)):
        if all(key in one and whole in one for one in seeds):
            shares = [_above_chance(one[key]) / max(_above_chance(one[whole]), 1e-9) for one in seeds]
            found[name] = finite(float(np.mean(shares)))
    return found


def _above_chance(tally: Tally) -> float:
    return score(tally) - 1 / max(1, int((tally.of.sum(axis=0) > 0).sum()))


def _documents(tally: Tally) -> int:
    return int((tally.of.sum(axis=1) > 0).sum())


def _metric(
    seeds: Sequence[Seed],
    value: float | None,
    interval: tuple[float, float] | None,
    gates: Sequence[Gate],
    also: dict[str, float | None],
    not_run: str | None,
) -> Metric:
    keys = [key for signs in CHANNELS.values() for key in signs]
    counted = [_documents(one[key]) for one in seeds for key in keys if key in one]
    silent = sorted(set(tripwires.NAMES) - {gate.name for gate in gates}) if interval else []
    unlooked = [
        Gate(name=name, passed=False, detail="this tripwire was not looked at", failure=Reason.NOT_RUN)
        for name in silent
    ]
    return Metric(
        name="leakage",
        unit="balanced accuracy",
        direction="<=",
        value=value,
        interval=interval,
        n=min(counted, default=0),
        unit_of_sampling="document",
        seeds=len(seeds),
        # What was found wrong is said before what was not looked at.
        gates=tuple(sorted([*gates, *unlooked], key=lambda gate: gate.failure is not Reason.GATE_FAILED)),
        also=also,
        not_run=not_run,
    )
