"""The hook sweep on readers that are known: one place is read along its axes, the other at random."""

import numpy as np
import pytest
import torch
from torch import Tensor

from raysae.falsification.intervals import max_statistic_band
from raysae.falsification.metrics import hook_sweep
from raysae.falsification.metrics.attribution import Scores


def test_the_axes_are_those_of_the_covariance_each_as_long_as_its_spread() -> None:
    x = torch.randn(500, 12, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 13) + 3
    found = hook_sweep.axes(x)
    variance = torch.linalg.eigvalsh(torch.cov(x.T, correction=0)).flip(0)[: hook_sweep.AXES]
    assert torch.allclose(found.norm(dim=1) ** 2, variance, rtol=1e-4)
    product = found @ found.T
    assert torch.allclose(product, torch.diag(product.diag()), atol=1e-2)


def test_the_excess_is_the_effect_along_the_axes_less_that_of_random_directions() -> None:
    readers = torch.randn(5, 2, 6, generator=torch.Generator().manual_seed(1))

    def score(sites: Tensor, delta: Tensor) -> Scores:
        value = torch.einsum("ned,ngd->neg", delta, readers[sites])
        return Scores(value, value.argmax(dim=2, keepdim=True))

    steps = 0.5 * torch.eye(6)[:3]
    found = hook_sweep.excess(score, 5, steps, targets=1, seed=4)
    random = torch.randn((5, 3, 6), generator=torch.Generator().manual_seed(4))
    for site in range(5):
        naive = 0.0
        for axis in range(3):
            direction = 0.5 * random[site, axis] / random[site, axis].norm()
            naive += abs(float(steps[axis] @ readers[site, 0])) - abs(float(direction @ readers[site, 0]))
        assert found[site] == pytest.approx(naive / 3, abs=1e-5)


def test_the_hook_point_is_chosen_on_fit_and_its_test_effect_reported() -> None:
    rng = np.random.default_rng(0)
    cells = [
        hook_sweep.Cell("a", rng.normal(0.0, 1, 80), rng.normal(3.0, 1, 80)),
        hook_sweep.Cell("b", rng.normal(1.0, 1, 80), rng.normal(0.5, 1, 80)),
    ]
    metric, rows = hook_sweep.summarise(cells, seed=1)
    assert [row["chosen"] for row in rows] == [False, True], "a is better on TEST, which was not looked at"
    assert metric.value == pytest.approx(cells[1].test.mean()) and metric.interval is not None
    assert rows[0]["statistic"] == pytest.approx(cells[0].test.mean() / (cells[0].test.std(ddof=1) / 80**0.5))


def test_the_band_holds_the_largest_of_cells_where_there_is_nothing_and_not_an_effect() -> None:
    rng = np.random.default_rng(2)
    beyond = 0
    for trial in range(200):
        shared = rng.normal(size=40)
        found = max_statistic_band(0.7 * shared + rng.normal(size=(12, 40)), draws=200, seed=trial)
        beyond += bool((found.statistic > found.band).any())
    assert 3 <= beyond <= 19, "5 % of 200"
    effect = np.random.default_rng(1).normal(size=(12, 40)) + np.where(np.arange(12) == 7, 1.2, 0.0)[:, None]
    found = max_statistic_band(effect, draws=999, seed=0)
    assert np.flatnonzero(found.statistic > found.band).tolist() == [7]
    assert found.p[7] < 0.01 and found.p[0] > 0.05
    with pytest.raises(ValueError, match="1 units"):
        max_statistic_band(effect[:, :1], draws=10, seed=0)
