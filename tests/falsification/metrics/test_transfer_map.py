"""The transfer map: words pooled, scores against a naive loop, and places that must or must not find each other."""

import json

import numpy as np
import pytest
from scipy import sparse

from raysae.falsification.metrics import transfer_map
from raysae.falsification.metrics.codes import Code, pooled
from raysae.falsification.metrics.transfer_map import Cell, found_again, judge, matrix, summarise

ROWS, LATENTS = 400, 12


def code(dense: np.ndarray) -> Code:
    return Code(sparse.csr_array(dense))


def sparse_rows(seed: int, latents: int = LATENTS) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random((ROWS, latents)) * (rng.random((ROWS, latents)) < 0.15)


def training(seed: int, truth: np.ndarray, noise: float = 0.05) -> Code:
    """One of several that find the same latents, in an order of its own and not quite."""
    rng = np.random.default_rng(seed)
    fires = truth > 0
    return code((truth + noise * rng.standard_normal(truth.shape) * fires)[:, rng.permutation(truth.shape[1])])


def test_the_largest_activation_of_a_word_is_what_is_left_of_its_tokens() -> None:
    tokens = np.array([[0.0, 1.0], [3.0, 0.5], [2.0, 0.0], [0.0, 4.0], [9.0, 9.0]])
    found = pooled(code(tokens), np.array([0, 0, 1, 3, -1]), 4).toarray()
    assert found.tolist() == [[3.0, 1.0], [2.0, 0.0], [0.0, 0.0], [0.0, 4.0]]
    assert pooled(code(tokens), np.full(5, -1), 2).toarray().tolist() == [[0.0, 0.0]] * 2


def test_a_score_is_what_a_loop_over_pairs_of_latents_finds() -> None:
    a, b = sparse_rows(1, 5), sparse_rows(2, 7)
    b[:, 0] = 2 * a[:, 3]
    best = []
    for latent in b.T:
        found = [0.0]
        for other in a.T:
            either = (latent > 0) | (other > 0)
            found.append(float(np.corrcoef(latent[either], other[either])[0, 1]))
        best.append(max(found))
    assert found_again(code(a), code(b)) == pytest.approx(np.mean(best), abs=1e-6)
    assert found_again(code(a[:, :0]), code(b)) == 0


def test_the_order_and_scale_of_latents_do_not_matter() -> None:
    b = sparse_rows(3)
    assert found_again(code(3 * b[:, ::-1]), code(b)) == pytest.approx(1.0)


def cell(a: list[Code], b: list[Code], floor: list[Code]) -> Cell:
    return Cell("a", "b", matrix(a, b), matrix(b, b), {"random_dictionary": matrix(floor, b)})


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return sparse_rows(10)


def test_a_place_with_the_same_latents_transfers_wholly_and_one_without_not_at_all(truth: np.ndarray) -> None:
    b = [training(seed, truth) for seed in (0, 1, 2)]
    floor = [code(sparse_rows(seed)) for seed in (20, 21, 22)]
    same = judge(cell([training(seed, truth) for seed in (5, 6, 7)], b, floor))
    assert same["transfer"] == pytest.approx(1.0, abs=0.05) and same["interval"][0] < 1 < same["interval"][1] + 0.05
    other = judge(cell([code(sparse_rows(seed)) for seed in (30, 31, 32)], b, floor))
    assert other["transfer"] == pytest.approx(0.0, abs=0.1)
    half = [training(seed, np.concatenate([truth[:, :6], sparse_rows(seed + 40, 6)], axis=1)) for seed in (5, 6, 7)]
    assert judge(cell(half, b, floor))["transfer"] == pytest.approx(0.5, abs=0.1)


def test_between_two_null_dictionaries_there_is_no_ratio() -> None:
    seeds = [[code(sparse_rows(10 * place + seed)) for seed in (0, 1, 2)] for place in (1, 2, 3)]
    found = judge(cell(*seeds))
    assert found["transfer"] is None and found["interval"] is None, "0/0 is not near 1"
    metric, _ = summarise([cell(*seeds)])
    assert metric.value is None and metric.not_run == transfer_map.UNDEFINED


def test_the_best_null_counts(truth: np.ndarray) -> None:
    b = [training(seed, truth) for seed in (0, 1, 2)]
    found = cell([training(seed, truth) for seed in (5, 6, 7)], b, [code(sparse_rows(seed)) for seed in (20, 21, 22)])
    found.floors["pca"] = matrix([training(seed, truth, 0.6) for seed in (50, 51, 52)], b)
    assert judge(found)["floor"] == "pca" and judge(found)["null"] > 0.3


def test_the_value_is_the_mean_over_different_places_and_each_is_named(truth: np.ndarray) -> None:
    b = [training(seed, truth) for seed in (0, 1, 2)]
    floor = [code(sparse_rows(seed)) for seed in (20, 21, 22)]
    own = Cell("b", "b", matrix(b, b), matrix(b, b), {"pca": matrix(floor, b)})
    away = cell([training(seed, truth) for seed in (5, 6, 7)], b, floor)
    metric, rows = summarise([own, away])
    assert len(rows) == 2 and rows[0]["transfer"] == pytest.approx(1.0)
    assert metric.n == 1 and metric.value == pytest.approx(rows[1]["transfer"])
    assert metric.also["a on b"] == rows[1]["transfer"]
    elsewhere = away._replace(a="other a", foreign=True)
    assert summarise([own, away, elsewhere])[0].n == 1, "with another model, the value is about that one"
    assert summarise([own])[0].not_run == transfer_map.NO_PLACE


def test_one_seed_meets_no_other_and_its_cells_hold_no_number(truth: np.ndarray) -> None:
    found = cell([training(5, truth)], [training(0, truth)], [code(sparse_rows(20))])
    metric, rows = summarise([found])
    assert metric.value is None and metric.not_run == transfer_map.FEW
    assert [rows[0][name] for name in ("transfer", "across", "within", "null")] == [None] * 4
    json.dumps([metric.model_dump(mode="json"), rows], allow_nan=False)


def test_two_seeds_give_no_interval_and_so_no_ratio(truth: np.ndarray) -> None:
    b = [training(seed, truth) for seed in (0, 1)]
    found = cell([training(seed, truth) for seed in (5, 6)], b, [code(sparse_rows(seed)) for seed in (20, 21)])
    metric, _ = summarise([found])
    assert metric.value is None and metric.not_run == transfer_map.FEW
