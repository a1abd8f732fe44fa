"""Which SAE stands for (arm, seed): a trained one is read, the others are made from it on the spot."""

from collections.abc import Callable
from typing import Any

import torch

from raysae.falsification.metrics import sparsity
from raysae.falsification.nulls import NULLS
from raysae.saes import (
    SparseAutoencoder,
    build,
    checkpoint,
    coordinates,
    cut_back,
    principal_axes,
    random_dictionary,
    shuffled_decoder,
    tied_dictionary,
)
from raysae.stages.capture import MAIN, TWIN
from raysae.stages.measure import Sample, encode, mean_active
from raysae.store import RunFolder
from raysae.types import Experiment
from raysae.types.experiment import stream_seed

DENSEST = 0.4
"""Largest share of its latents that a dictionary without training is asked to fire. A random direction is positive on
half of the tokens; a code denser than that, far beyond the L0 cap and so VOID, is met at the densest it can be."""


PLAIN = "without_decorrelation"
"""The arm to which the redundancy criterion compares: the same seeds, trained without that term. Not a null."""
UNGUIDED = "without_guidance"
"""To which leakage compares: the same seeds, the probe beside them only watching."""
CONTROLLED = "guided_by_control_labels"
"""As the real one, but guided by labels that only the token type tells."""
TWIN_UNGUIDED = f"{TWIN}_{UNGUIDED}"
GUIDANCE = (UNGUIDED, CONTROLLED, TWIN_UNGUIDED)
"""What leakage needs beside the real arm and the random model's. No nulls."""


def arms(experiment: Experiment) -> tuple[str, ...]:
    """`main`, what the redundancy and leakage criteria compare it to, its rivals, the SAEs elsewhere, and every
    registered null that has a dictionary to examine, in the order of the protocol."""
    nulls = [NULLS[name] for name in experiment.protocol.nulls]
    plain = "redundancy" in experiment.protocol.criteria and experiment.loss.decorrelation > 0
    guided = "leakage" in experiment.protocol.criteria and experiment.loss.probe > 0
    twin = TWIN in experiment.protocol.nulls
    return (
        MAIN,
        *((PLAIN,) if plain else ()),
        *((arm for arm in GUIDANCE if arm != TWIN_UNGUIDED or twin) if guided else ()),
        *experiment.rivals,
        *elsewhere(experiment),
        *(null.name for null in nulls if null.level in ("model", "dictionary")),
    )


def elsewhere(experiment: Experiment) -> tuple[str, ...]:
    """The arms at other hook points, called after them."""
    return tuple(map(str, experiment.sae.also_at))


def _own(experiment: Experiment) -> tuple[str, ...]:
    """Arms that are no null's."""
    return (MAIN, PLAIN, *GUIDANCE, *experiment.rivals, *elsewhere(experiment))


def trained_arms(experiment: Experiment) -> tuple[str, ...]:
    """Those of `arms` whose SAEs are trained."""
    return tuple(arm for arm in arms(experiment) if arm in _own(experiment) or NULLS[arm].needs != "nothing")


def reads(arm: str) -> str:
    """Whose activations the SAEs of an arm are trained on and judged by: the real model's or its twin's."""
    return TWIN if arm in (TWIN, TWIN_UNGUIDED) else MAIN


def dictionary(folder: RunFolder, experiment: Experiment, arm: str, number: int, fit: Sample) -> SparseAutoencoder:
    """The SAE of one arm and seed, in raw units; `fit` is the FIT sample of the activations it reads."""
    if arm in (TWIN, *_own(experiment)):
        return checkpoint.load(folder.sae / arm / str(number))
    real = checkpoint.load(folder.sae / MAIN / str(number))
    latents = encode(real, fit.x)
    if NULLS[arm].needs == "training":
        return _at_most(checkpoint.load(folder.sae / arm / str(number)), mean_active(latents), fit.x)
    alive = sparsity.alive_latents(latents, experiment.protocol.alive_rate)
    return floor(experiment, arm, number, real, alive, latents, fit.x)


def _at_most(sae: SparseAutoencoder, l0: float, x: torch.Tensor) -> SparseAutoencoder:
    """Nulls are compared at equal L0: one that fires more (without a budget of its own, as under L1) is cut back."""
    found = mean_active(encode(sae, x))
    return sae if found <= l0 * 1.05 or sae.needs_k else cut_back(sae, l0, x)


def _random(experiment: Experiment, number: int, real: Any, alive: Any, l0: float, x: Any) -> SparseAutoencoder:
    seed = stream_seed(experiment.seed, f"nulls/random_dictionary/{number}")
    width = max(int(alive.sum()), 1)
    return random_dictionary(real, min(l0, DENSEST * width), x, seed, d_sae=width)


def _untrained(experiment: Experiment, number: int, real: Any, alive: Any, l0: float, x: Any) -> SparseAutoencoder:
    seed = stream_seed(experiment.seed, f"sae/{number}/init")
    first = build(real.architecture, real.d_in, real.d_sae, real.k, seed)
    return tied_dictionary(first.W_dec.detach(), real, min(l0, DENSEST * real.d_sae), x)


def _axes(experiment: Experiment, number: int, real: Any, alive: Any, l0: float, x: Any) -> SparseAutoencoder:
    return principal_axes(real, min(l0, DENSEST * 2 * real.d_in), x)


def _coordinates(experiment: Experiment, number: int, real: Any, alive: Any, l0: float, x: Any) -> SparseAutoencoder:
    return coordinates(real, min(l0, DENSEST * 2 * real.d_in), x)


def _shuffled(experiment: Experiment, number: int, real: Any, alive: Any, l0: float, x: Any) -> SparseAutoencoder:
    return shuffled_decoder(real, alive, stream_seed(experiment.seed, f"nulls/shuffled_decoder/{number}"))


def floor(
    experiment: Experiment,
    name: str,
    number: int,
    real: SparseAutoencoder,
    alive: torch.Tensor,
    latents: torch.Tensor,
    x: torch.Tensor,
) -> SparseAutoencoder:
    """The null dictionary `name`, made on the spot, beside any real SAE: at the L0 of its `latents` on `x`."""
    return _BUILT[name](experiment, number, real, alive, mean_active(latents), x)


_BUILT: dict[str, Callable[..., SparseAutoencoder]] = {
    "random_dictionary": _random,
    "untrained_sae": _untrained,
    "pca": _axes,
    "neurons": _coordinates,
    "shuffled_decoder": _shuffled,
}
