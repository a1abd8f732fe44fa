"""Where a latent is pushed: tokens at which it is on, and how far one of its standard deviations is."""

import numpy as np
import torch

from raysae.falsification.metrics.attribution import Probe
from raysae.models.patch import reach
from raysae.stages.court import Examination
from raysae.stages.exhibits.pushing import Pushed
from raysae.stages.exhibits.readouts import Readouts
from raysae.types import Split


def spread(h: torch.Tensor) -> torch.Tensor:
    """float32 [m], the standard deviation of each column of `h` [n, m], float64, over the tokens where it is on."""
    fires = h > 0
    count = fires.sum(dim=0).clamp_min(1)
    mean_on = h.sum(dim=0) / count
    return (((h - mean_on) ** 2 * fires).sum(dim=0) / count).sqrt().float()


def sites(
    exam: Examination, split: Split, numbers: np.ndarray, readouts: Readouts, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(rows of the sample, which of `numbers` is on there): at most the registered number per latent, from as many
    documents as there are."""
    sample = exam.fit if split == Split.FIT else exam.test
    latents = exam.fit_latents if split == Split.FIT else exam.test_latents
    window = reach(exam.model, exam.hookpoint.layer, exam.protocol.attribution_window)
    readable, document = readouts.readable(sample, window), sample.document.numpy()
    rows, owner = [], []
    for place, number in enumerate(numbers):
        candidates = np.flatnonzero((latents[:, number] > 0).numpy() & readable)
        candidates = np.random.default_rng([seed, int(number)]).permutation(candidates)
        _, first = np.unique(document[candidates], return_index=True)
        again = np.setdiff1d(np.arange(len(candidates)), first)
        taken = candidates[np.concatenate([np.sort(first), again])][: exam.protocol.attribution_sites]
        rows.append(taken)
        owner.append(np.full(len(taken), place))
    return np.concatenate(rows), np.concatenate(owner)


def probe(
    exam: Examination, split: Split, numbers: np.ndarray, rows: np.ndarray, owner: np.ndarray, readouts: Readouts
) -> Probe:
    """The model at `rows` of a split's sample, each with the latent of `numbers` that `owner` names."""
    latents = exam.fit_latents if split == Split.FIT else exam.test_latents
    activation = latents[torch.from_numpy(rows), torch.from_numpy(numbers[owner])]
    return Probe(Pushed(exam.court, exam.source, split, rows, readouts, exam.hookpoint), owner, activation)
