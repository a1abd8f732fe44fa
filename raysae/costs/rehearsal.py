"""How long stages take on this machine: the experiment in miniature, twice, and the straight line through the two."""

import math
from collections.abc import Mapping
from typing import Any

from raysae.costs.plan import Speed
from raysae.types import Experiment

SHARES = (1 / 16, 1 / 4)
"""Of the experiment's records and steps, at most."""
RECORDS, STEPS = (320, 1280), (50, 200)
"""At most, for a large one."""
NOTHING_IS_TOO_BAD = {
    "min_coverage": 0.0,
    "max_abstention": 1.0,
    "min_agreement": -1.0,
    "min_known_f1": 0.0,
    "max_changed_ids": 1.0,
    "max_quarantined": 1.0,
}
"""A few documents say little about a text."""


def miniature(experiment: Experiment, which: int, records: int, most: int) -> Experiment:
    """Number `which` of SHARES. `records` are those of the experiment, `most` those of its largest source."""
    share = min(SHARES[which], RECORDS[which] / records)

    def fewer(value: int, least: int) -> int:
        return min(value, max(math.ceil(value * share), least))

    def steps(value: int) -> int:
        return min(fewer(value, 10 * (1 + which)), STEPS[which])

    train, sweep, protocol = experiment.train, experiment.sweep, experiment.protocol
    judged = {
        "mode": "exploratory",
        "phase": None,
        "test_tokens": fewer(protocol.test_tokens, 1000),
        "test_documents": fewer(protocol.test_documents, 8),
    }
    changed = {
        "name": f"rehearsal-{which}",
        "corpus": {"records": fewer(most, 32 * (1 + which))},
        "quality": NOTHING_IS_TOO_BAD,
        "train": {"steps": steps(train.steps), "seeds": train.seed_numbers[: 1 + which]},
        "sweep": {"steps": steps(sweep.steps)},
        "protocol": judged,
        "tracking": {"wandb": "off"},
        "budget": {"rtx_hours": 1e12, "gb": 1e12},
        "beside": {},
    }
    tree = {
        name: (getattr(experiment, name).model_copy(update=value) if isinstance(value, dict) and value else value)
        for name, value in changed.items()
    }
    return experiment.model_copy(update=tree)


def fit(small: Mapping[str, tuple[float, float]], large: Mapping[str, tuple[float, float]]) -> dict[str, Speed]:
    """Stage -> the line through its (units, seconds) in two rehearsals. It never falls with the units, nor starts below
    nothing: of a stage with so much noise the larger rehearsal decides."""
    return {stage: _line(small[stage], large[stage]) for stage in large if stage in small}


def _line(small: tuple[float, float], large: tuple[float, float]) -> Speed:
    (few, short), (many, long) = small, large
    if many <= few:
        return Speed(max(short, long), 0.0)
    slope = max((long - short) / (many - few), 0.0)
    fixed = long - slope * many
    return Speed(fixed, slope) if fixed >= 0 else Speed(0.0, long / many)


SIZES = {
    "corpus": {"path", "records", "splits", "block_records"},
    "train": {"steps", "seeds", "checkpoint_steps", "keep_checkpoints"},
    "sweep": {"steps"},
    "protocol": {"mode", "phase", "test_tokens", "test_documents", "transfer_from", "map_from"},
    "tokenizer": {"path", "block_tokens"},
    "model": {"path"},
}
"""What may differ between two experiments whose stages go at the same speed."""
ASIDE = {"name", "out", "seed", "quality", "tracking", "budget", "beside"}


def kind(experiment: Experiment) -> dict[str, Any]:
    """What decides the speed of its stages, as plain JSON values."""
    tree = experiment.model_dump(mode="json", exclude=ASIDE)
    return {
        name: {key: value for key, value in part.items() if key not in SIZES.get(name, ())}
        if isinstance(part, dict)
        else part
        for name, part in tree.items()
    }
