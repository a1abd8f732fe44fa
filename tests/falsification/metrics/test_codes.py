import numpy as np
import pytest
import torch

from raysae.falsification.metrics.codes import (
    correlation_of_columns,
    correlation_where_either_fires,
    sparse_code,
    sums,
    together,
)
from raysae.falsification.metrics.dictionaries import largest_cosine, match_rows, random_rows

from .geometry import random_code


def test_correlations_agree_with_a_loop_over_the_tokens_where_either_fires():
    rng = np.random.default_rng(0)
    a, b = random_code(rng, 300, 7, 0.2), random_code(rng, 300, 5, 0.3)
    found = correlation_where_either_fires(a, b)
    for i in range(7):
        for j in range(5):
            x, y = a.toarray()[:, i], b.toarray()[:, j]
            either = (x > 0) | (y > 0)
            assert found[i, j] == pytest.approx(np.corrcoef(x[either], y[either])[0, 1])
    assert correlation_of_columns(a[:, :5], b) == pytest.approx(np.diag(found[:5]))


def test_a_latent_that_never_fires_or_never_varies_correlates_with_nothing():
    code = sparse_code([torch.tensor([[0.0, 2.0], [0.0, 2.0]])], torch.tensor([True, True]))
    assert correlation_where_either_fires(code, code).tolist() == [[0, 0], [0, 0]]


def test_blocks_of_latents_cover_all_pairs_once():
    rng = np.random.default_rng(1)
    a, b = random_code(rng, 200, 11, 0.2), random_code(rng, 200, 6, 0.2)
    x, y = a.toarray(), b.toarray()
    parts = list(together(a, b, at_once=4))
    assert [part.stop - part.start for part, _, _ in parts] == [4, 4, 3]
    assert np.concatenate([products for _, products, _ in parts]) == pytest.approx(x.T @ y)
    assert np.concatenate([both for _, _, both in parts]) == pytest.approx((x > 0).T.astype(float) @ (y > 0))


def test_only_alive_latents_enter_the_code_and_chunks_are_joined_in_order():
    latents = torch.relu(torch.randn(50, 6, generator=torch.Generator().manual_seed(0)))
    alive = torch.tensor([True, False, True, True, False, True])
    code = sparse_code(latents.split(8), alive)
    assert code.toarray() == pytest.approx(latents[:, alive].numpy())
    assert sums(code).fired.tolist() == (latents[:, alive] > 0).sum(0).tolist()


def test_the_largest_cosine_agrees_with_all_pairs_and_does_not_see_itself():
    rows = random_rows(40, 6, np.random.default_rng(0))
    cosine = np.abs(rows @ rows.T)
    np.fill_diagonal(cosine, 0)
    assert largest_cosine(rows) == pytest.approx(cosine.max(1))
    assert largest_cosine(rows, of=7) == pytest.approx(cosine.max(1)[:7])
    assert largest_cosine(rows[:1]).tolist() == [0]


def test_matching_by_direction_finds_a_permutation_and_tells_a_latent_from_its_opposite():
    rng = np.random.default_rng(2)
    rows, order = random_rows(30, 8, rng), rng.permutation(30)
    found = match_rows(rows, rows[order])
    assert order[found.b].tolist() == found.a.tolist()
    assert found.score == pytest.approx(np.ones(30), abs=1e-6)
    assert match_rows(rows[:1], -rows[:1]).score == pytest.approx([-1], abs=1e-6)
