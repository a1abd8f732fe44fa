from typing import Any

import numpy as np
import pytest

from raysae.falsification.metrics import redundancy
from raysae.falsification.metrics.codes import Code
from raysae.falsification.metrics.dictionaries import random_rows, unit
from raysae.falsification.metrics.redundancy import Pair, Redundancy, chance_cosine, functional, geometric, summarise
from raysae.types import Reason

from .geometry import random_code


def naive_functional(code: Code) -> float:
    x = code.toarray()
    m, repeated = x.shape[1], set()
    for i in range(m):
        for j in range(m):
            a, b = x[:, i] > 0, x[:, j] > 0
            jaccard = (a & b).sum() / (a | b).sum()
            if i != j and jaccard > 0.5 and np.corrcoef(x[:, i], x[:, j])[0, 1] > 0.8:
                repeated.add(i)
    return len(repeated) / m


def with_copies(rng: np.random.Generator, tokens: int = 600, latents: int = 30, copies: int = 12) -> Code:
    """Some columns come again, with more or less of their firings and their size changed."""
    x = random_code(rng, tokens, latents, 0.1).toarray()
    again = x[:, :copies] * np.exp(rng.uniform(0, 0.6, copies) * rng.standard_normal((tokens, copies)))
    again *= rng.random((tokens, copies)) < rng.uniform(0.4, 1, copies)
    return Code(np.concatenate([x, again], axis=1))


@pytest.mark.parametrize("at_once", [5, 512])
def test_functional_redundancy_agrees_with_a_loop_over_pairs(at_once: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(redundancy, "LATENTS_AT_ONCE", at_once)
    found = []
    for seed in range(6):
        code = with_copies(np.random.default_rng(seed))
        found.append(functional(code))
        assert found[-1] == pytest.approx(naive_functional(code))
    assert 0 < min(found) < max(found)


def test_functional_redundancy_of_latents_that_never_fire_is_none():
    assert functional(Code((5, 3), dtype=np.float64)) == 0
    assert functional(Code((5, 0), dtype=np.float64)) == 0


def test_geometric_redundancy_agrees_with_its_definition():
    rows = unit(random_rows(60, 16, np.random.default_rng(0)).repeat(2, axis=0)[:100])
    cosine = np.abs(rows @ rows.T) - 2 * np.eye(100)
    q = chance_cosine(100, 16, seed=3)
    assert geometric(rows, seed=3) == pytest.approx(np.maximum(cosine.max(1) - q, 0).mean(), abs=1e-6)


def test_a_random_dictionary_exceeds_its_own_quantile_in_one_latent_of_twenty():
    m, d = 512, 64
    drawn = [random_rows(m, d, np.random.default_rng(seed)) for seed in (7, 8)]
    largest = [(np.abs(rows @ rows.T) - 2 * np.eye(m)).max(1) for rows in drawn]
    above = np.mean(np.concatenate(largest) > chance_cosine(m, d, seed=0))
    assert above == pytest.approx(0.05, abs=0.02)
    assert geometric(random_rows(m, d, np.random.default_rng(9)), seed=0) < redundancy.SOMETHING_TO_REDUCE


def test_copies_are_all_the_redundancy_there_can_be_and_one_row_has_none():
    rows = random_rows(50, 32, np.random.default_rng(0))
    doubled = np.concatenate([rows, -rows])
    assert geometric(doubled, seed=0) == pytest.approx(1 - chance_cosine(100, 32, seed=0), abs=1e-6)
    assert geometric(rows[:1], seed=0) == 0


def one(geo: float, fun: float = 0.1, **changes: Any) -> Redundancy:
    fields = {"geometric": geo, "functional": fun, "alive": 500, "l0": 6.0, "fvu": 0.05, "start": "s"}
    return Redundancy(**{**fields, **changes})


def pairs(before: float = 0.2, after: float = 0.06, **changes: Any) -> list[Pair]:
    steps = np.linspace(1.0, 1.03, 5)
    return [Pair(one(before * s), one(after / s, **{"fun": 0.04, **changes})) for s in steps]


def test_rho_is_paired_by_seed_and_passes_where_every_gate_does():
    found = summarise({"main": pairs(), "random_dictionary": pairs(after=0.002)})
    expected = [1 - pair.decorrelated.geometric / pair.plain.geometric for pair in pairs()]
    assert found.value == pytest.approx(np.mean(expected)) and found.per_seed == pytest.approx(expected)
    assert found.interval is not None and 0.5 < found.interval[0] < np.mean(expected)
    assert all(gate.passed for gate in found.gates)
    assert found.also["rho_functional"] == pytest.approx(0.6)
    assert found.ceiling == pytest.approx(0.99, abs=0.001)


@pytest.mark.parametrize(
    ("changes", "gate", "reason"),
    [
        ({"l0": 6.4}, "same L0", Reason.GATE_FAILED),
        ({"alive": 440}, "same alive", Reason.GATE_FAILED),
        ({"fvu": 0.0601}, "FVU kept", Reason.GATE_FAILED),
        ({"start": "other"}, "same start", Reason.GATE_FAILED),
        ({"start": None}, "same start", Reason.GATE_FAILED),
        ({"fun": 0.1}, "functional redundancy falls", Reason.GATE_FAILED),
        ({"before": 0.0096, "after": 0.001}, "something to reduce", Reason.VOID),
    ],
)
def test_each_condition_of_a_fair_comparison_is_a_gate(changes: dict, gate: str, reason: Reason):
    failed = [found for found in summarise({"main": pairs(**changes)}).gates if not found.passed]
    assert [(found.name, found.failure) for found in failed] == [(gate, reason)]


def test_a_reduction_that_fails_in_direction_is_not_excused_by_firing():
    found = summarise({"main": pairs(after=0.19, fun=0.1)})
    assert all(gate.passed for gate in found.gates)
    assert found.interval is not None and found.interval[1] < 0.5


def test_no_redundancy_at_all_is_no_number():
    found = summarise({"main": pairs(before=0.0)})
    assert found.value is None and found.interval is None and found.not_run


def test_the_level_of_one_kind_of_sae_stands_beside_its_nulls():
    found = redundancy.level({"main": [one(0.2), one(0.3)], "random_dictionary": [one(0.001, 0.0)] * 2})
    assert found.value == pytest.approx(0.25) and found.also["r_fun"] == pytest.approx(0.1)
    assert found.nulls["random_dictionary"].mean == pytest.approx(0.001)
    assert found.nulls["random_dictionary"].note == "R_geo 0.0010, R_fun 0.0000"
