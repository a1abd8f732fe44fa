"""Whether the latents that stand for verifying also do it: patched from a clean trace into its corrupted twin, is the
error still found (SCIENCE 5.6)?"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from raysae.falsification.metrics.documents import MAIN
from raysae.falsification.metrics.tallies import Tally, contrast, score
from raysae.types.metric import Metric, NullValue

_KEY = ("patched", "TWINS")


class Patched(NamedTuple):
    """Of one SAE: log odds of "fails" against "holds" after an edit, in nats, per pair of twins."""

    unedited: Float[np.ndarray, " n"]
    latents: Float[np.ndarray, " n"]
    """The designated latents take the values that they have in the trace without an error."""
    matched: Float[np.ndarray, "draws n"]
    """The same with as many other latents of like firing rates (N9)."""
    random_direction: Float[np.ndarray, " n"]
    """A random direction of the same norm (N10)."""
    whole: Float[np.ndarray, " n"]
    """The whole activation: the ceiling."""


def lost(found: Patched, edited: Float[np.ndarray, " n"]) -> Tally:
    """Errors that are found in the unedited trace and no longer in the edited one, out of those that are found."""
    detected = found.unedited > 0
    return Tally((detected & (edited <= 0)).astype(float)[:, None], detected.astype(float)[:, None])


def summarise(arms: Mapping[str, Sequence[Patched]], *, bootstrap: int, seed: int) -> Metric:
    """Share of found errors that go unnoticed, beside the same for matched latents and random directions.

    Where the lower bound does not exceed the 95th percentile of the matched latents, the label is decodable and
    nothing more: `readout_only` is 1.
    """
    main = arms[MAIN]
    estimate = contrast([{_KEY: lost(one, one.latents)} for one in main], {_KEY: 1.0}, bootstrap=bootstrap, seed=seed)
    n = len(main[0].unedited)
    matched = _of([score(lost(one, draw)) for one in main for draw in one.matched], n)
    nulls = {
        "matched_latents": matched,
        "random_direction": _of([score(lost(one, one.random_direction)) for one in main], n),
    }
    nulls |= {
        arm: _of([score(lost(one, one.latents)) for one in seeds], n) for arm, seeds in arms.items() if arm != MAIN
    }
    lower = estimate.interval[0] if estimate.interval else None
    return Metric(
        name="verification",
        unit="share of found errors that go unnoticed",
        direction=">=",
        value=estimate.value if estimate.interval else None,
        interval=estimate.interval,
        n=n,
        unit_of_sampling="trace",
        seeds=len(main),
        per_seed=estimate.per_seed if estimate.interval else (),
        nulls=nulls,
        ceiling=_of([score(lost(one, one.whole)) for one in main], n).mean,
        also={
            "found_unedited": float(np.mean([(one.unedited > 0).mean() for one in main])),
            "log_odds_moved": _moved(main, [one.latents for one in main]),
            "log_odds_moved_matched": _moved(main, [one.matched.mean(axis=0) for one in main]),
            "log_odds_moved_whole": _moved(main, [one.whole for one in main]),
            "readout_only": None if lower is None or matched.p95 is None else float(lower <= matched.p95),
        },
        not_run=None if estimate.interval else "No error is found in the unedited traces.",
    )


def _of(values: Sequence[float], n: int) -> NullValue:
    """Over draws and seeds; nothing where no error was there to be lost."""
    if not np.isfinite(values).all():
        return NullValue(mean=None, p95=None, n=n)
    return NullValue(mean=float(np.mean(values)), p95=float(np.quantile(values, 0.95)), n=n)


def _moved(seeds: Sequence[Patched], edited: Sequence[Float[np.ndarray, " n"]]) -> float:
    """Mean change, in nats; below 0 where the error becomes less plain."""
    return float(np.mean([(after - one.unedited).mean() for one, after in zip(seeds, edited, strict=True)]))
