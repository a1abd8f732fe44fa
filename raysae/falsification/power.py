"""What a protocol can show, said before the run: minimum detectable effects, and the refusal of a hopeless one."""

from pydantic import BaseModel, ConfigDict

from raysae.errors import Refused
from raysae.falsification.criteria import choose_criteria
from raysae.falsification.criterion import (
    MATCHED_SETS,
    MEMORY_RUNS,
    PAIRS_PER_VALUE,
    PARTS,
    REPLICATES,
    Criterion,
)
from raysae.falsification.protocol import Protocol, detectable
from raysae.types.experiment import Experiment


class PowerRow(BaseModel):
    """What a criterion can show with what is planned."""

    model_config = ConfigDict(frozen=True)

    criterion: str
    planned_n: int | None
    """Null where the text has to be read first."""
    minimum_n: int
    unit_of_sampling: str
    seeds: int
    min_seeds: int
    mde: float | None
    """True value nearest to the threshold that is shown with 80 % power; null where none is or it cannot be planned."""
    reachable: bool
    """Whether GO can be the outcome at all."""
    obstacles: tuple[str, ...]
    """Why not."""


def power(protocol: Protocol) -> list[PowerRow]:
    """What each criterion can show, to be printed before the run (SCIENCE 0.8)."""
    plan = _Plan(
        seeds=len(protocol.seeds),
        nulls=frozenset(null.name for null in protocol.nulls),
        bootstrap=protocol.bootstrap,
        permutations=protocol.permutations,
        pairs=protocol.pairs,
        alpha=protocol.alpha,
    )
    return [_power_row(plan, criterion, protocol.planned_n(criterion.name)) for criterion in protocol.criteria]


def power_before(experiment: Experiment) -> list[PowerRow]:
    """The same before any text is read: units that only the text can count are unknown and stand in nobody's way."""
    config, seeds = experiment.protocol, len(experiment.train.seed_numbers)
    plan = _Plan(
        seeds=seeds,
        nulls=frozenset(config.nulls),
        bootstrap=config.bootstrap,
        permutations=config.permutations,
        pairs=config.pairs,
    )
    known = {"seed": seeds, "block": experiment.overhead.blocks, "part": PARTS, "run": MEMORY_RUNS}
    return [_power_row(plan, row, known.get(row.unit_of_sampling)) for row in choose_criteria(config.criteria)]


def refuse_underpowered(mode: str, rows: list[PowerRow]) -> None:
    """Raises Refused if the protocol is confirmatory and one of its criteria could not end in GO; exploratory runs go
    on."""
    for row in rows if mode == "confirmatory" else ():
        if row.obstacles:
            raise Refused(
                f"the confirmatory protocol cannot show {row.criterion}: {row.obstacles[0]}, or type "
                "protocol.mode=exploratory"
            )


class _Plan(BaseModel):
    seeds: int
    nulls: frozenset[str]
    bootstrap: int
    permutations: int
    pairs: int
    alpha: float = 0.05


def _power_row(plan: _Plan, criterion: Criterion, n: int | None) -> PowerRow:
    proportion = criterion.statistic == "proportion"
    mde = None if proportion and n is None else detectable(criterion, n or 0, plan.seeds, plan.alpha)
    unit = criterion.unit_of_sampling
    found: list[str] = []
    if plan.seeds < criterion.min_seeds:
        found.append(f"{plan.seeds} seeds, {criterion.min_seeds} needed; type train.seeds={criterion.min_seeds}")
    if n is not None and n < criterion.minimum_n:
        found.append(
            f"{n} units ({unit}), at least {criterion.minimum_n} needed; register more, or take it out of "
            "protocol.criteria"
        )
    missing = [null for null in criterion.voiding_nulls if null not in plan.nulls]
    if missing:
        found.append(f"it needs the null {missing[0]}; add {missing[0]} to protocol.nulls")
    reachable = not found
    if mde is not None and criterion.largest_mde is not None and not _as_near(criterion, mde):
        what = (
            f"{n} units ({unit}) show only a true rate of" if proportion else f"{plan.seeds} seeds show only a mean of"
        )
        found.append(f"{what} {mde:.4f} with 80 % power, {criterion.largest_mde} is registered; register more")
    if not proportion and plan.bootstrap < REPLICATES:
        found.append(
            f"protocol.bootstrap={plan.bootstrap}, at least {REPLICATES} needed; type protocol.bootstrap={REPLICATES}"
        )
    if criterion.reads_labels and plan.permutations < MATCHED_SETS:
        found.append(
            f"protocol.permutations={plan.permutations}, at least {MATCHED_SETS} needed; type "
            f"protocol.permutations={MATCHED_SETS}"
        )
    if criterion.name == "causal_interchange" and plan.pairs < PAIRS_PER_VALUE:
        found.append(
            f"protocol.pairs={plan.pairs}, at least {PAIRS_PER_VALUE} needed; type protocol.pairs={PAIRS_PER_VALUE}"
        )
    return PowerRow(
        criterion=criterion.name,
        planned_n=n,
        minimum_n=criterion.minimum_n,
        unit_of_sampling=unit,
        seeds=plan.seeds,
        min_seeds=criterion.min_seeds,
        mde=mde,
        reachable=reachable,
        obstacles=tuple(found),
    )


def _as_near(criterion: Criterion, mde: float) -> bool:
    """Whether the effect that can be shown is as near to the threshold as the registered one."""
    assert criterion.largest_mde is not None
    return mde <= criterion.largest_mde if criterion.direction == ">=" else mde >= criterion.largest_mde
