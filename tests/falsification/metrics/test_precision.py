"""Latents of one variable each against a rotation of them, on a model that reads out two variables apart."""

import numpy as np
import pytest
import torch

from raysae.falsification.intervals import clopper_pearson, t_interval
from raysae.falsification.metrics.precision import FLIPS, Effects, Selected, select, summarise

VALUES, PAIRS, UNREAD = 4, 300, 24
WIDTH = 2 * VALUES
ONE_EACH = torch.eye(WIDTH)
ROTATED = torch.cat([ONE_EACH[:VALUES] + ONE_EACH[VALUES:], ONE_EACH[:VALUES] - ONE_EACH[VALUES:]]) / 2**0.5


def naive(effects: Effects, latents: int, seed: int) -> tuple[list[bool], list[float]]:
    flips = np.random.default_rng(seed).choice([-1.0, 1.0], size=(FLIPS, int(effects.base.max()) + 1))
    p, share = [], []
    for latent in range(latents):
        rows = [i for i, one in enumerate(effects.latent) if one == latent]
        excess = {i: effects.total[i] - effects.null[i] for i in rows}
        drawn = [sum(flip[effects.base[i]] * excess[i] for i in rows) for flip in flips]
        p.append((1 + sum(value >= sum(excess.values()) for value in drawn)) / (1 + FLIPS))
        of = sum(effects.total[i] for i in rows)
        share.append(max(sum(effects.mass[i, v] for i in rows) for v in range(2)) / of if of else 0.0)
    line = max((rank for rank, one in enumerate(sorted(p), 1) if one <= 0.05 * rank / latents), default=0)
    return [one <= 0.05 * line / latents and share[j] > 0 for j, one in enumerate(p)], share


def effects(dictionary: torch.Tensor) -> Effects:
    """Single-latent exchanges of the codes h = dictionary @ x, x a one-hot of a and then one of b, each read out, among
    many more dimensions that nothing reads."""
    generator = torch.Generator().manual_seed(0)
    base, source = (torch.nn.functional.one_hot(torch.randint(0, VALUES, (PAIRS, 2), generator=generator), VALUES)
                    .flatten(1).float() for _ in range(2))  # fmt: skip
    difference = (source - base) @ dictionary.T
    pair, latent = torch.nonzero(difference.abs() > 1e-6, as_tuple=True)
    delta = difference[pair, latent, None] * dictionary[latent]
    noise = torch.randn((len(delta), WIDTH + UNREAD), generator=generator)
    noise *= delta.norm(dim=1, keepdim=True) / noise.norm(dim=1, keepdim=True)

    def moved(step: torch.Tensor) -> np.ndarray:
        before, after = ((6 * x).view(-1, 2, VALUES).softmax(-1) for x in (base[pair], base[pair] + step))
        return ((before - after).abs().sum(-1) / 2).double().numpy()

    mass = moved(delta)
    return Effects(latent.numpy(), pair.numpy() // 2, mass, mass.sum(axis=1), moved(noise[:, :WIDTH]).sum(axis=1))


@pytest.mark.parametrize("dictionary", [ONE_EACH, ROTATED])
def test_selection_is_that_of_a_plain_loop(dictionary: torch.Tensor) -> None:
    shown = effects(dictionary)
    found, (significant, share) = select(shown, WIDTH + 1, seed=5), naive(shown, WIDTH + 1, seed=5)
    assert found.significant.tolist() == significant and found.share == pytest.approx(share)
    assert not found.significant[WIDTH] and found.share[WIDTH] == 0, "a latent that never differs"


def test_latents_of_one_value_each_are_selective_and_a_rotation_of_them_is_not() -> None:
    true, mixed = (summarise([select(effects(one), WIDTH, seed=0)]) for one in (ONE_EACH, ROTATED))
    assert true["precision"] == 1.0 and true["effective_latents"] == WIDTH
    assert mixed["precision"] == 0.0 and mixed["effective_latents"] == WIDTH


def test_directions_that_do_no_more_than_random_ones_have_no_effect() -> None:
    shown = effects(ONE_EACH)
    swapped = shown._replace(total=shown.null, null=shown.total)
    assert not select(swapped, WIDTH, seed=0).significant.any()
    nothing = summarise([select(swapped, WIDTH, seed=0)])
    assert nothing["precision"] is None and nothing["examined_latents"] == WIDTH and nothing["effective_latents"] == 0


def seeds(*counts: tuple[int, int]) -> list[Selected]:
    """(selective, effective) of ten latents."""
    return [Selected(np.arange(10) < of, np.where(np.arange(10) < hits, 0.8, 0.7)) for hits, of in counts]


def test_bounds_are_exact_within_a_seed_and_wider_where_seeds_differ() -> None:
    alone = summarise(seeds((6, 8)))
    assert (alone["precision_low"], alone["precision_high"]) == pytest.approx(clopper_pearson(6, 8))
    two = summarise(seeds((6, 8), (2, 8), (0, 0)))
    within = np.mean([clopper_pearson(6, 8), clopper_pearson(2, 8)], axis=0)
    between = t_interval(np.array([0.75, 0.25]))
    assert between is not None and two["precision"] == 0.5
    assert two["precision_low"] == pytest.approx(max(0.5 - np.hypot(0.5 - within[0], 0.5 - between[0]), 0))
    assert two["precision_high"] == pytest.approx(min(0.5 + np.hypot(within[1] - 0.5, between[1] - 0.5), 1))
