"""What F1 does not say where the true directions are known: is the matched latent the factor's own direction, does it
fire for that factor alone, does it do so by itself (SCIENCE 3.3)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from raysae.falsification.intervals import t_interval
from raysae.falsification.metrics.alignment import Alignment
from raysae.falsification.metrics.matching import fires_above
from raysae.types.metric import Gate

MCC = 0.90
"""Least lower bound of the mean cosine between matched latents and true directions."""
ALIGNED = 0.2
"""A latent beyond this cosine with a factor can take its place when the match is silent."""
SPLIT_F1 = 0.5


class Recovery(NamedTuple):
    """One SAE against the truth: means over the registered factors, on TEST."""

    cosine: float
    """|cos| of the matched decoder row with the true direction, each register's mean direction removed (MCC)."""
    purity: float
    """Share of the matched latent's activation that falls on its factor."""
    splitting: float
    """Other latents with F1 > 0.5 to the same factor."""
    absorption: float
    """Share of a factor's tokens where its latent is silent while another one with cosine > 0.2 fires."""
    whole_state: float
    """Share of tokens on which every registered factor is read rightly (ALT-b)."""


def measure(
    matched: Alignment,
    latents: Float[Tensor, "k m"],
    factors: Bool[np.ndarray, "k F"],
    W_dec: Float[Tensor, "m d"],
    directions: Float[np.ndarray, "A d"],
    registers: Int[np.ndarray, " A"],
    registered: Int[np.ndarray, " F"],
) -> Recovery:
    """`directions` holds all factors that the activations are made of and `registers` which register each belongs to;
    `registered` says which of them are the columns of `factors`. A factor without a latent has cosine, purity 0."""
    found, place = matched.latents >= 0, np.maximum(matched.latents, 0)
    rows = W_dec.detach().cpu().double().numpy()
    cosines = _cosines(rows, directions[registered])
    free = _without_means(directions, registers)
    own = np.abs((_unit(rows[place] @ free) * _unit(directions[registered] @ free)).sum(axis=1)) * found
    h = latents.cpu().float()
    on = torch.from_numpy(factors).float()
    fires = (h > 0).float()
    mass = (h[:, torch.from_numpy(place)] * on).sum(dim=0) / h[:, torch.from_numpy(place)].sum(dim=0).clamp_min(1e-12)
    f1 = 2 * (fires.T @ on) / (fires.sum(dim=0)[:, None] + on.sum(dim=0)).clamp_min(1)
    f1[torch.from_numpy(place[found]), torch.from_numpy(np.flatnonzero(found))] = 0
    read = fires_above(latents, matched.latents, matched.thresholds)
    others = cosines > ALIGNED
    others[place[found], np.flatnonzero(found)] = False
    # Per factor: is any of the latents that could stand in for its own one active?
    instead = (fires @ torch.from_numpy(others).float() > 0).numpy()
    absorbed = (factors & ~read & instead).sum(axis=0) / np.maximum(factors.sum(axis=0), 1)
    return Recovery(
        cosine=float(own.mean()),
        purity=float((mass.numpy() * found).mean()),
        splitting=float((f1 > SPLIT_F1).sum(dim=0).float().mean()),
        absorption=float(absorbed.mean()),
        whole_state=float((read == factors).all(axis=1).mean()),
    )


def gate(seeds: Sequence[Recovery]) -> Gate:
    """MCC of the real SAEs, by its lower bound over seeds; of one seed nothing is bounded."""
    values = np.array([seed.cosine for seed in seeds])
    interval = t_interval(values)
    low = interval[0] if interval else float("nan")
    detail = f"mean cosine with the true directions {values.mean():.3f}, lower bound {low:.3f}, at least {MCC:g} asked"
    return Gate(name="mcc", passed=low >= MCC, detail=detail)


def _without_means(directions: Float[np.ndarray, "A d"], registers: Int[np.ndarray, " A"]) -> Float[np.ndarray, "d d"]:
    """Projection that removes the mean direction of every register with several values: what is common to them is on
    whenever the register is, and could as well belong to another one (gauge freedom)."""
    means = [directions[registers == r].mean(axis=0) for r in np.unique(registers) if (registers == r).sum() > 1]
    if not means:
        return np.eye(directions.shape[1])
    basis, scale, _ = np.linalg.svd(np.stack(means, axis=1), full_matrices=False)
    basis = basis[:, scale > 1e-9]
    return np.eye(directions.shape[1]) - basis @ basis.T


def _unit(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _cosines(rows: Float[np.ndarray, "m d"], directions: Float[np.ndarray, "F d"]) -> Float[np.ndarray, "m F"]:
    return _unit(rows) @ _unit(directions).T
