"""Adam and the schedules; each schedule is a function of the step, so that resuming needs no state of its own."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from raysae.types.learning import LossConfig, TrainConfig

BETAS = (0.9, 0.999)
EPS = 6.25e-10
"""Gradients of rare latents are small; the value of arXiv 2406.04093."""
CLIP_NORM = 1.0


def adam(parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Adam:
    return torch.optim.Adam(parameters, lr=lr, betas=BETAS, eps=EPS, fused=True)


def lr_at(step: int, train: TrainConfig) -> float:
    """Linear warm-up to `lr`, and a linear fall to 0 over the last `decay_fraction` of the steps."""
    warm = min(1.0, (step + 1) / max(1, train.warmup_steps))
    decay_steps = train.decay_fraction * train.steps
    left = min(1.0, (train.steps - step) / decay_steps) if decay_steps else 1.0
    return train.lr * min(warm, max(0.0, left))


def k_at(step: int, k: int, train: TrainConfig) -> float:
    """From 4k linearly to k over the first `k_anneal_fraction` of the steps (SCIENCE 3.4)."""
    anneal_steps = train.k_anneal_fraction * train.steps
    return k * (4 - 3 * min(1.0, step / anneal_steps)) if anneal_steps else float(k)


def penalties_at(step: int, loss: LossConfig, train: TrainConfig) -> LossConfig:
    """The L1 and L0 weights rise linearly over the first `penalty_warmup_fraction` of the steps."""
    warm_steps = train.penalty_warmup_fraction * train.steps
    if step + 1 >= warm_steps:
        return loss
    share = (step + 1) / warm_steps
    return loss.model_copy(update={"l1": loss.l1 * share, "l0": loss.l0 * share})


def threshold_weight_at(step: int, train: TrainConfig) -> float:
    """Weight of this step in the running mean of the inference threshold: while k still falls only the last step
    counts, then all equally, and from the hundredth on about the last hundred, because the weights move."""
    after_annealing = step - math.ceil(train.k_anneal_fraction * train.steps)
    return 1 / min(100, max(1, after_annealing + 1))
