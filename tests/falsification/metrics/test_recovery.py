"""Recovery against numbers worked out by hand on a dictionary of four latents."""

import numpy as np
import pytest
import torch

from raysae.falsification.metrics.alignment import Alignment
from raysae.falsification.metrics.recovery import Recovery, gate, measure

NEVER = np.zeros(3)
FACTORS = np.array([[1, 0, 0], [1, 0, 1], [0, 1, 0], [0, 1, 1], [0, 0, 0]], dtype=bool)
"""Two values of a register and a factor of its own, on five tokens."""
TRUTH = np.eye(4)[:3]
REGISTERS = np.array([0, 0, 1])


def matched(latents: list[int]) -> Alignment:
    return Alignment(np.array(latents), np.full(3, 0.5), NEVER, NEVER, NEVER)


def recovery(latents: list[int], h: np.ndarray, rows: np.ndarray) -> Recovery:
    return measure(
        matched(latents), torch.tensor(h).float(), FACTORS, torch.tensor(rows).float(), TRUTH, REGISTERS, np.arange(3)
    )


def test_the_true_dictionary_is_recovered_wholly() -> None:
    h = np.concatenate([FACTORS, np.zeros((5, 1))], axis=1)
    found = recovery([0, 1, 2], h, np.eye(4))
    assert found == pytest.approx(Recovery(cosine=1, purity=1, splitting=0, absorption=0, whole_state=1))


def test_what_all_values_of_a_register_share_does_not_count_against_a_latent() -> None:
    """Latents 0 and 1 hold their own value and half of the register's sum: cosine 0.95 with the truth, 1 without it."""
    rows = np.eye(4)
    rows[:2, :2] += 0.5
    h = np.concatenate([FACTORS, np.zeros((5, 1))], axis=1)
    assert recovery([0, 1, 2], h, rows).cosine == pytest.approx(1)
    rows[2] = [0, 0, 0.6, 0.8]
    assert recovery([0, 1, 2], h, rows).cosine == pytest.approx((1 + 1 + 0.6) / 3)


def test_each_fault_shows_in_its_own_number() -> None:
    h = np.concatenate([FACTORS, np.zeros((5, 1))], axis=1)
    h[4, 0] = 1  # latent 0 fires a third of its mass beside its factor: token 4 is read wrongly
    found = recovery([0, 1, 2], h, np.eye(4))
    assert found.purity == pytest.approx((2 / 3 + 1 + 1) / 3)
    assert found.whole_state == pytest.approx(4 / 5)
    h = np.concatenate([FACTORS, FACTORS[:, 1:2]], axis=1)
    assert recovery([0, 1, 2], h, np.eye(4)).splitting == pytest.approx(1 / 3), "latent 3 repeats factor 1"
    h = np.concatenate([FACTORS, np.zeros((5, 1))], axis=1)
    h[1, 2], h[1, 3] = 0, 1  # on token 1 another latent, which points like factor 2, takes its place
    rows = np.eye(4)
    rows[3] = [0, 0, 0.3, 0.9]
    assert recovery([0, 1, 2], h, rows).absorption == pytest.approx((0 + 0 + 1 / 2) / 3)
    rows[3] = [0, 0, 0.1, 0.9]
    assert recovery([0, 1, 2], h, rows).absorption == 0, "it points elsewhere"


def test_a_factor_without_a_latent_has_nothing() -> None:
    h = np.concatenate([FACTORS, np.zeros((5, 1))], axis=1)
    found = recovery([0, 1, -1], h, np.eye(4))
    assert (found.cosine, found.purity) == pytest.approx((2 / 3, 2 / 3))
    assert found.whole_state == pytest.approx(3 / 5)


def test_the_gate_asks_for_the_lower_bound_over_seeds() -> None:
    def seeds(*cosines: float) -> list[Recovery]:
        return [Recovery(cosine, 1, 0, 0, 1) for cosine in cosines]

    assert gate(seeds(0.95, 0.95, 0.96)).passed
    assert not gate(seeds(0.99, 0.99, 0.80)).passed, "0.927 on average, and nobody knows"
    assert not gate(seeds(0.99)).passed
