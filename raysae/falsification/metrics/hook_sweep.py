"""Where along a model the task is read: principal axes pushed at every hook point, against random directions of the
same norm at the same sites (SCIENCE 7, hook sweep).

An SAE is trained at one hook point; the axes of largest variance are directions that every hook point has without one.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from raysae.falsification.intervals import max_statistic_band, t_interval
from raysae.falsification.metrics.attribution import Scorer
from raysae.types.metric import Metric

AXES = 8
BAND_DRAWS = 2000


class Cell(NamedTuple):
    """One hook point."""

    name: str
    fit: Float[np.ndarray, " n"]
    """By FIT site, each in a document of its own: mean over axes of |effect of one standard deviation| on the possible
    targets, minus the same of random directions; nats."""
    test: Float[np.ndarray, " k"]


def axes(x: Float[Tensor, "n d"]) -> Float[Tensor, "a d"]:
    """The first principal axes, each as long as its standard deviation."""
    centred = (x - x.mean(dim=0)).double()
    variance, vectors = torch.linalg.eigh(centred.T @ centred / len(x))
    first = torch.argsort(variance, descending=True)[:AXES]
    return (variance[first].clamp_min(0).sqrt()[:, None] * vectors.T[first]).to(x)


@torch.no_grad()
def excess(score: Scorer, sites: int, steps: Float[Tensor, "a d"], targets: int, seed: int) -> Float[np.ndarray, " n"]:
    """Per site, what `Cell` holds; every site and axis has a random direction of its own."""
    generator = torch.Generator().manual_seed(seed)
    random = torch.randn((sites, *steps.shape), generator=generator).to(steps)
    random *= steps.norm(dim=1)[:, None] / random.norm(dim=2, keepdim=True)
    pushed = torch.cat([steps.expand_as(random), random], dim=1)
    value = score(torch.arange(sites), torch.cat([pushed, -pushed], dim=1)).value[:, :, :targets].double()
    up, down = value.chunk(2, dim=1)
    real, null = ((up - down) / 2).abs().sum(dim=2).chunk(2, dim=1)
    return (real - null).mean(dim=1).numpy()


def summarise(cells: Sequence[Cell], seed: int) -> tuple[Metric, list[dict[str, Any]]]:
    """The hook point chosen on FIT with its TEST effect, and a row per hook point with the band of the sweep.

    The interval is of the chosen one alone: it was chosen without TEST, so no other cell enters.
    """
    fit = max_statistic_band(np.stack([cell.fit for cell in cells]), BAND_DRAWS, seed)
    test = max_statistic_band(np.stack([cell.test for cell in cells]), BAND_DRAWS, seed)
    chosen = int(np.argmax(fit.statistic))
    one = cells[chosen].test
    rows = [
        {
            "hookpoint": cell.name,
            "fit": float(cell.fit.mean()),
            "test": float(cell.test.mean()),
            "fit_statistic": float(fit.statistic[i]),
            "statistic": float(test.statistic[i]),
            "p": float(test.p[i]),
            "band": test.band,
            "chosen": i == chosen,
        }
        for i, cell in enumerate(cells)
    ]
    metric = Metric(
        name="hook_sweep",
        unit="nats per standard deviation, above random directions",
        direction=">=",
        value=float(one.mean()),
        interval=t_interval(one),
        n=len(one),
        unit_of_sampling="document",
        seeds=1,
        also={
            "band": test.band,
            "hookpoints_above_band": float((test.statistic > test.band).sum()),
            **{f"statistic {row['hookpoint']}": row["statistic"] for row in rows},
        },
    )
    return metric, rows
