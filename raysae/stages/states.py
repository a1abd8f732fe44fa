"""Label blocks -> activation blocks, where there is no model: a world's states, written as activations (SCIENCE 3.1).

The same blocks in the same store as those of a model. The map of the run takes the place of the model's weights: its
directions come from `model.seed`, which no SAE draws from. The twin that stands for a model with random weights has
directions of its own and writes states that belong to other tokens.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from raysae.errors import BadInput
from raysae.models.load import describe
from raysae.models.maps import ROTATED, SUPERPOSED, is_map
from raysae.stages.capture import MAIN, Job, token_columns, twin_seed
from raysae.stages.measure import factor_matrix
from raysae.store import BlockInfo, Manifest, TokenStore, write_block
from raysae.store.activation_block import ActivationBlock
from raysae.types import Experiment
from raysae.types.experiment import ModelConfig, stream_seed
from raysae.worlds import strata
from raysae.worlds.states import factor_names
from raysae.worlds.systems import SYSTEMS, systems_of

STRATA = {ROTATED: strata.rotated, SUPERPOSED: strata.superposed}
LEAST_SUPERPOSITION = 1.25
"""Factors per dimension (SCIENCE 3.1)."""
NEED_A_MODEL = (
    "fidelity",
    "causal_attribution",
    "leakage",
    "brittleness",
    "transfer",
    "stability",
    "hook_sweep",
    "answer_accuracy",
    "step_control",
    "transfer_map",
)
"""Exhibits that run a model, or compare what only models have."""


class StatesWriter:
    """Takes the place of `Capturer`: token block -> activation block."""

    def __init__(self, job: Job) -> None:
        self.job, self.store = job, TokenStore(job.tokens)
        labels = Manifest.read(job.tokens.parent / "labels")
        self.names = factor_names(systems_of(labels.extra["variables"]))

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        job, arm, block = self.job, item["arm"], BlockInfo.model_validate(item["block"])
        documents = list(self.store.documents(block))
        seed = job.model.seed if arm == MAIN else job.twin_seed
        rng = np.random.default_rng(stream_seed(seed, f"states/{arm}/{block.name}"))
        factors = factor_matrix(self.store.labels(block), self.names)
        if arm != MAIN or job.model.randomize:
            factors = factors[rng.permutation(len(factors))]
        x = strata.activations(factors, directions(job.model, len(self.names), seed), rng)
        statistics: dict[str, Any] = {}

        def write(path: Path) -> None:
            points = {str(point): x for point in job.capture.hookpoints}
            widths = {point: x.shape[1] for point in points}
            with ActivationBlock(path, [record for record, _, _ in documents], widths, job.capture.dtype) as out:
                out.add(token_columns(0, documents), points)
            statistics.update(out.statistics())

        info = write_block(
            job.out / arm,
            block.name,
            ".parquet",
            job.fingerprints[arm],
            len(x),
            write,
            learnt=lambda: {"statistics": statistics},
            split=block.facts["split"],
            documents=len(documents),
        )
        return {"arm": arm, "block": info.model_dump(mode="json")}


def directions(model: ModelConfig, count: int, seed: int) -> np.ndarray:
    """float64 [count, d_in]: what the map writes for each factor, in the order of `factor_names`."""
    rng = np.random.default_rng(stream_seed(seed, "states/directions"))
    return STRATA[model.name](count, describe(model).d_model, rng)


class Truth(NamedTuple):
    """What the activations of an arm are made of."""

    names: tuple[str, ...]
    """Every factor, `register=value`."""
    directions: np.ndarray
    """float64 [A, d_in]"""
    registers: np.ndarray
    """int64 [A]: which register each factor belongs to."""


def truth(experiment: Experiment, arm: str = MAIN) -> Truth:
    """For an experiment on states."""
    names = factor_names([SYSTEMS[name] for name in SYSTEMS if name in experiment.corpus.names])
    seed = experiment.model.seed if arm == MAIN else twin_seed(experiment)
    _, registers = np.unique([name.partition("=")[0] for name in names], return_inverse=True)
    return Truth(names, directions(experiment.model, len(names), seed), registers)


def check(experiment: Experiment) -> None:
    """BadInput where states and a map do not belong together, or something is asked for that only a model has."""
    corpora, model = experiment.corpus.names, experiment.model
    if not is_map(model):
        return
    if other := [name for name in corpora if name not in SYSTEMS]:
        raise BadInput(
            f"model.name={model.name} with corpus.name={other[0]}",
            f"allowed: {', '.join(SYSTEMS)}, whose states it writes",
            "correct corpus.name, or name a language model",
        )
    count, width = len(factor_names([SYSTEMS[name] for name in corpora])), describe(model).d_model
    fits = count <= width if model.name == ROTATED else count >= LEAST_SUPERPOSITION * width
    if not fits:
        raise BadInput(
            f"model.name={model.name} with {count} factors in {width} dimensions",
            f"allowed: for {ROTATED} at least {count}, for {SUPERPOSED} at most {int(count / LEAST_SUPERPOSITION)}",
            f"type model.width={count if model.name == ROTATED else int(count / LEAST_SUPERPOSITION)}",
        )
    if experiment.activations.mode != "cache":
        raise BadInput(
            f"activations.mode={experiment.activations.mode} of states without a model",
            "allowed: cache",
            "type activations.mode=cache",
        )
    asked = (*experiment.protocol.criteria, *experiment.protocol.observations)
    if network := [name for name in asked if name in NEED_A_MODEL]:
        raise BadInput(
            f"{network[0]} of states without a model",
            "allowed: reconstruction, sparsity, alignment, causal_interchange, redundancy",
            "take it out of protocol.criteria or protocol.observations",
        )
