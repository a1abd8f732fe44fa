"""What a protocol can show, said before the run: minimum detectable effects, and the refusal of a hopeless one."""

from pydantic import BaseModel, ConfigDict

from raysae.errors import Refused
from raysae.falsification.criterion import MATCHED_SETS, PAIRS_PER_VALUE, REPLICATES, Criterion
from raysae.falsification.intervals import minimum_detectable
from raysae.falsification.protocol import Protocol


class PowerRow(BaseModel):
    """What a criterion can show with what is planned."""

    model_config = ConfigDict(frozen=True)

    criterion: str
    planned_n: int
    minimum_n: int
    unit_of_sampling: str
    seeds: int
    min_seeds: int
    mde: float | None
    """Smallest true rate shown with 80 % power; null for a mean, or where no rate can be shown."""
    reachable: bool
    """Whether GO can be the outcome at all."""
    obstacles: tuple[str, ...]
    """Why not."""


def power(protocol: Protocol) -> list[PowerRow]:
    """What each criterion can show, to be printed before the run (SCIENCE 0.8)."""
    return [_power_row(protocol, criterion) for criterion in protocol.criteria]


def refuse_underpowered(protocol: Protocol) -> None:
    """Raises Refused if the protocol is confirmatory and one of its criteria could not end in GO; exploratory runs go
    on."""
    if protocol.mode != "confirmatory":
        return
    for row in power(protocol):
        if row.obstacles:
            raise Refused(
                f"the confirmatory protocol cannot show {row.criterion}: {row.obstacles[0]}, or type "
                "protocol.mode=exploratory"
            )


def _power_row(protocol: Protocol, criterion: Criterion) -> PowerRow:
    n, seeds = protocol.planned_n(criterion.name), len(protocol.seeds)
    proportion = criterion.statistic == "proportion"
    mde = minimum_detectable(criterion.threshold, n, alpha=protocol.alpha) if proportion else None
    registered = {null.name for null in protocol.nulls}
    unit = criterion.unit_of_sampling
    found: list[str] = []
    if seeds < criterion.min_seeds:
        found.append(f"{seeds} seeds, {criterion.min_seeds} needed; type train.seeds={criterion.min_seeds}")
    if n < criterion.minimum_n:
        found.append(
            f"{n} units ({unit}), at least {criterion.minimum_n} needed; register more, or take it out of "
            "protocol.criteria"
        )
    missing = [null for null in criterion.voiding_nulls if null not in registered]
    if missing:
        found.append(f"it needs the null {missing[0]}; add {missing[0]} to protocol.nulls")
    reachable = not found
    if proportion and mde is not None and criterion.largest_mde is not None and mde > criterion.largest_mde:
        found.append(
            f"{n} units ({unit}) show only a true rate of {mde:.4f} with 80 % power, {criterion.largest_mde} is "
            "registered; register more units"
        )
    if not proportion and protocol.bootstrap < REPLICATES:
        found.append(
            f"protocol.bootstrap={protocol.bootstrap}, at least {REPLICATES} needed; type "
            f"protocol.bootstrap={REPLICATES}"
        )
    if criterion.reads_labels and protocol.permutations < MATCHED_SETS:
        found.append(
            f"protocol.permutations={protocol.permutations}, at least {MATCHED_SETS} needed; type "
            f"protocol.permutations={MATCHED_SETS}"
        )
    if criterion.name.startswith("causal") and protocol.pairs < PAIRS_PER_VALUE:
        found.append(
            f"protocol.pairs={protocol.pairs}, at least {PAIRS_PER_VALUE} needed; type protocol.pairs={PAIRS_PER_VALUE}"
        )
    return PowerRow(
        criterion=criterion.name,
        planned_n=n,
        minimum_n=criterion.minimum_n,
        unit_of_sampling=unit,
        seeds=seeds,
        min_seeds=criterion.min_seeds,
        mde=mde,
        reachable=reachable,
        obstacles=tuple(found),
    )
