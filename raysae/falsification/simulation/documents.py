"""Reconstruction, sparsity and fidelity: activations of documents that differ in difficulty, dictionaries that err."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import stats
from torch import Tensor

from raysae.falsification.criterion import CE_RECOVERED, FVU_LIMIT, REPLICATES, SEEDS_FOR_GO, ZERO_FRACTION
from raysae.falsification.metrics import fidelity, reconstruction, sparsity
from raysae.falsification.metrics.documents import MAIN, Columns
from raysae.falsification.simulation.trial import (
    DIFFICULTY,
    FEWEST_DOCUMENTS,
    L0_CAP,
    Simulation,
    World,
    seed_of,
)
from raysae.types.metric import Metric

D, FACTORS, ON = 16, 12, 3
LATENTS = 64
VOCABULARY = 12
SEED_SPREAD = 0.05
"""Trainings differ by this share of their error."""
ALIKE = 0.9
"""Correlation between seeds of how a document is coded."""

NOISE_AT_LIMIT, LITTLE_NOISE = 0.2435, 0.20
"""Relative error of the activations at which the toy model keeps 0.90 of its cross-entropy, and one of a good SAE."""


def documents(rng: np.random.Generator) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """Document of each token and how hard it is, in the mean over documents 1."""
    lengths = rng.integers(8, 21, FEWEST_DOCUMENTS)
    hard = rng.lognormal(-(DIFFICULTY**2) / 2, DIFFICULTY, FEWEST_DOCUMENTS)
    document = torch.from_numpy(np.repeat(np.arange(FEWEST_DOCUMENTS), lengths))
    return document, torch.from_numpy(hard).float()[document]


def activations(rng: np.random.Generator, n: int) -> Float[Tensor, "n D"]:
    """Sums of three of twelve directions about a mean that is not 0."""
    on = rng.random((n, FACTORS)).argsort(axis=1) < ON
    directions = np.random.default_rng(0).standard_normal((FACTORS, D)) / np.sqrt(D)
    return torch.from_numpy((on * rng.uniform(1, 1.2, on.shape)) @ directions + 0.5).float()


MEAN = activations(np.random.default_rng(1), 20_000).mean(dim=0)


def erring(rng: np.random.Generator, x: Float[Tensor, "n D"], share: Float[Tensor, " n"]) -> Float[Tensor, "n D"]:
    """A reconstruction that leaves `share` of each token's squared distance from the mean, in a random direction."""
    noise = torch.from_numpy(rng.standard_normal(x.shape)).float()
    size = share.sqrt() * (x - MEAN).norm(dim=1)
    return x + noise / noise.norm(dim=1, keepdim=True) * size[:, None]


def nothing_learnt(rng: np.random.Generator, x: Float[Tensor, "n D"], arm: str) -> Float[Tensor, "n D"]:
    """What random directions make of `x` with ON of LATENTS active: tied; with the best coefficients, as a trained
    encoder on a frozen decoder at its best; or chosen at random and decoded by the best linear map (frozen encoder)."""
    rows = torch.from_numpy(rng.standard_normal((LATENTS, D))).float()
    rows /= rows.norm(dim=1, keepdim=True)
    centred = x - MEAN
    inner, chosen = (centred @ rows.T).topk(ON, dim=1)
    if arm == "frozen_decoder":
        bases = rows[chosen].transpose(1, 2)
        return MEAN + (bases @ torch.linalg.lstsq(bases, centred[:, :, None]).solution)[:, :, 0]
    latents = torch.zeros(len(x), LATENTS).scatter(1, chosen, inner.clamp_min(0))
    if arm == "frozen_encoder":
        return MEAN + latents @ torch.linalg.lstsq(latents, centred, driver="gelsd").solution
    return MEAN + latents @ rows


def fvu(rng: np.random.Generator, true: float | None) -> Metric:
    """Five SAEs of the given FVU, or, with None, one of the voiding nulls in their place."""
    document, hard = documents(rng)
    x, active = activations(rng, len(document)), torch.full((len(document),), ON)

    def columns(x_hat: Tensor) -> Columns:
        return reconstruction.document_errors(x, x_hat, MEAN, document, FEWEST_DOCUMENTS, active)

    nulls = ("random_dictionary", "frozen_decoder", "frozen_encoder")
    arms = {null: [columns(nothing_learnt(rng, x, null)) for _ in range(SEEDS_FOR_GO)] for null in nulls}
    if true is None:
        arms[MAIN] = arms[nulls[rng.integers(len(nulls))]]
    else:
        spread = 1 + SEED_SPREAD * rng.standard_normal(SEEDS_FOR_GO)
        arms[MAIN] = [columns(erring(rng, x, true * float(seed) * hard)) for seed in spread]
    return reconstruction.summarise(arms, l0_cap=L0_CAP, bootstrap=REPLICATES, seed=seed_of(rng))


def zeros(rng: np.random.Generator, fifth_percentile: float) -> Metric:
    """Five SAEs whose documents have a share of zeros with the given 5th percentile, exactly."""
    document, _ = documents(rng)
    tokens, latents = document.bincount().numpy(), 40
    common = rng.standard_normal(FEWEST_DOCUMENTS)
    arms: list[Columns] = []
    for _ in range(SEEDS_FOR_GO):
        own = ALIKE * common + np.sqrt(1 - ALIKE**2) * rng.standard_normal(FEWEST_DOCUMENTS)
        share = fifth_percentile + 0.015 * (own - stats.norm.ppf(sparsity.QUANTILE))
        cells = share * tokens * latents
        # Rounded away from the percentile, which no document then crosses.
        silent = np.where(share >= fifth_percentile, np.ceil(cells), np.floor(cells)).clip(0, tokens * latents)
        code = torch.zeros(len(document), latents)
        for d in range(FEWEST_DOCUMENTS):
            fires = rng.random(tokens[d] * latents).argsort() >= silent[d]
            code[document == d] = torch.from_numpy(fires.reshape(tokens[d], latents)).float()
        arms.append(sparsity.document_columns(code, torch.ones(latents, dtype=torch.bool), document, FEWEST_DOCUMENTS))
    return sparsity.summarise({MAIN: arms}, l0_cap=L0_CAP)


def language(
    rng: np.random.Generator, document: Int[Tensor, " n"]
) -> tuple[Float[Tensor, "n D"], Callable[[Float[Tensor, "n D"]], Float[np.ndarray, " documents"]]]:
    """Activations of a toy model, and the cross-entropy per document that it has with any others in their place. Its
    tokens are drawn from what it predicts, so it is as good a model of them as there can be."""
    x = activations(rng, len(document))
    unembed = torch.from_numpy(np.random.default_rng(2).standard_normal((D, VOCABULARY)) * 2.5).float()
    probabilities = ((x - MEAN) @ unembed).softmax(dim=1).numpy()
    nexts = torch.from_numpy((probabilities.cumsum(axis=1) < rng.random((len(x), 1))).sum(axis=1)).clamp_max(
        VOCABULARY - 1
    )
    lengths = document.bincount().tolist()
    longest = max(lengths) + 1
    tokens = torch.zeros(len(lengths), longest, dtype=torch.int64)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None] + 1
    tokens[:, 1:][mask[:, 1:]] = nexts

    def nats(edited: Tensor) -> np.ndarray:
        logits = torch.zeros(len(lengths), longest, VOCABULARY)
        logits[:, :-1][mask[:, 1:]] = (edited - MEAN) @ unembed
        return fidelity.cross_entropy(logits, tokens, mask, torch.arange(len(lengths)), len(lengths))

    return x, nats


def recovered(rng: np.random.Generator, noise: float | None) -> Metric:
    """Five SAEs whose error is `noise` of the activations, or, with None, random dictionaries in their place."""
    document, hard = documents(rng)
    x, nats = language(rng, document)
    fixed = {
        "clean": nats(x),
        "ablated": nats(MEAN.expand_as(x)),
        "tokens": document.bincount().double().numpy(),
    }

    def columns(x_hat: Tensor) -> Columns:
        return {**fixed, "sae": nats(x_hat)}

    null = [columns(nothing_learnt(rng, x, "random_dictionary")) for _ in range(SEEDS_FOR_GO)]
    main = null
    if noise is not None:
        spread = 1 + SEED_SPREAD * rng.standard_normal(SEEDS_FOR_GO)
        main = [columns(erring(rng, x, noise**2 * float(seed) * hard)) for seed in spread]
    return fidelity.summarise({MAIN: main, "random_dictionary": null}, bootstrap=REPLICATES, seed=seed_of(rng))


_NULL = "One of the voiding nulls, in turn at random, stands in the place of the real SAEs."

RECONSTRUCTION: Simulation = {
    "threshold": World(
        f"The true FVU is {FVU_LIMIT:g}, the limit itself.", lambda rng: fvu(rng, FVU_LIMIT), FEWEST_DOCUMENTS
    ),
    "null": World(_NULL, lambda rng: fvu(rng, None), FEWEST_DOCUMENTS),
    "truth": World("The true FVU is 0.07.", lambda rng: fvu(rng, 0.07), FEWEST_DOCUMENTS, claim_holds=True),
}

SPARSITY: Simulation = {
    "threshold": World(
        f"The true 5th percentile is {ZERO_FRACTION:g}, the threshold itself.",
        lambda rng: zeros(rng, ZERO_FRACTION),
        FEWEST_DOCUMENTS,
    ),
    "truth": World(
        "The true 5th percentile is 0.94.", lambda rng: zeros(rng, 0.94), FEWEST_DOCUMENTS, claim_holds=True
    ),
}

FIDELITY: Simulation = {
    "threshold": World(
        f"The true share of cross-entropy recovered is {CE_RECOVERED:g}, the threshold itself.",
        lambda rng: recovered(rng, NOISE_AT_LIMIT),
        FEWEST_DOCUMENTS,
    ),
    "null": World(_NULL, lambda rng: recovered(rng, None), FEWEST_DOCUMENTS),
    "truth": World(
        "The true share of cross-entropy recovered is about 0.93.",
        lambda rng: recovered(rng, LITTLE_NOISE),
        FEWEST_DOCUMENTS,
        claim_holds=True,
    ),
}
