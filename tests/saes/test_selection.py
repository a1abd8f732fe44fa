"""Each rule against its definition, on exact values, on tied ones, and from rounded values that are computed again."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raysae.saes.selection import Above, LargestOfBatch, LargestOfToken, Listed, Masked, Selection, kth_largest

D_SAE = 48


def values(n: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(n, D_SAE, generator=torch.Generator().manual_seed(seed)) + shift


def as_matrix(chosen: Selection, n: int) -> torch.Tensor:
    if isinstance(chosen, Masked):
        return torch.where(chosen.mask, chosen.pre, 0.0)
    assert (chosen.token.diff() >= 0).all()
    return torch.zeros(n, D_SAE).index_put((chosen.token, chosen.latent), chosen.pre)


def naive(rule, pre: torch.Tensor) -> torch.Tensor:
    """By sorting everything; of equal values the first."""
    if isinstance(rule, Above):
        return torch.where(pre > rule.floor, pre, 0.0)
    kept, k = torch.zeros_like(pre), rule.k if isinstance(rule, LargestOfToken) else rule.count
    rows, out = (pre, kept) if isinstance(rule, LargestOfToken) else (pre.view(1, -1), kept.view(1, -1))
    for row, mine in zip(rows, out, strict=True):
        for place in sorted(range(len(row)), key=lambda i: (-row[i], i))[:k]:
            mine[place] = row[place].clamp(min=0)
    return kept


def rules(k: int, n: int) -> list:
    floors = torch.linspace(1.4, 2.2, D_SAE)
    return [Above(1.5), Above(floors), LargestOfToken(k), LargestOfBatch(max(1, k * n - 1))]


@given(n=st.integers(1, 20), k=st.integers(1, D_SAE), seed=st.integers(0, 10_000), shift=st.floats(-4, 1))
@settings(max_examples=60, deadline=None)
def test_a_rule_chooses_what_its_definition_does(n, k, seed, shift):
    pre = values(n, seed, shift)
    for rule in rules(k, n):
        assert torch.equal(as_matrix(rule.choose(pre), n), naive(rule, pre))


@given(n=st.integers(1, 20), k=st.integers(1, 4), seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_of_equal_values_the_first_are_chosen_and_never_more_than_asked_for(n, k, seed):
    pre = (values(n, seed) * 2).round()
    for rule in rules(k, n)[2:]:
        chosen = rule.choose(pre)
        assert torch.equal(as_matrix(chosen, n), naive(rule, pre))
        assert len(chosen.pre) <= k * n


@given(n=st.integers(1, 20), k=st.integers(1, 4), seed=st.integers(0, 10_000), width=st.floats(0, 0.2))
@settings(max_examples=60, deadline=None)
def test_screening_rounded_values_ends_with_the_selection_of_the_exact_ones(n, k, seed, width):
    pre = values(n, seed)
    slack = width * torch.rand(n, generator=torch.Generator().manual_seed(seed + 1))
    off = (torch.rand(n, D_SAE, generator=torch.Generator().manual_seed(seed + 2)) * 2 - 1) * slack[:, None]

    def refine(pairs: Listed) -> Listed:
        return pairs._replace(pre=pre[pairs.token, pairs.latent])

    for rule in rules(k, n):
        screened = rule.screen((pre + off).bfloat16(), slack, refine)
        if screened is not None:
            assert torch.equal(as_matrix(screened, n), naive(rule, pre))


def test_many_active_latents_become_a_matrix_and_few_a_list():
    pre = values(50, 0)
    dense = (Above(0.0), LargestOfToken(6), LargestOfBatch(300))
    sparse = (Above(1.5), LargestOfToken(3), LargestOfBatch(150))
    assert all(isinstance(rule.choose(pre), Masked) for rule in dense)
    assert all(isinstance(rule.choose(pre), Listed) for rule in sparse)
    assert all(rule.screen(pre, torch.zeros(50), lambda pairs: pairs) is None for rule in dense)


def test_the_kth_largest_of_each_row():
    rows = torch.tensor([[3.0, 1.0, 2.0], [5.0, 5.0, 0.0]])
    assert kth_largest(rows, 2).tolist() == [[2.0], [5.0]]


@pytest.mark.parametrize("rule", [Above(5.0), LargestOfToken(2), LargestOfBatch(9)], ids=["above", "token", "batch"])
def test_nothing_positive_gives_an_empty_list(rule):
    chosen = rule.choose(values(7, 0) - 100)
    assert isinstance(chosen, Listed)
    assert len(chosen.pre) == 0
