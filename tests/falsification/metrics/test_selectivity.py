import numpy as np
import pytest
from scipy.sparse import csr_array

from raysae.falsification.metrics.matching import permuted_rows
from raysae.falsification.metrics.selectivity import measure, selective, summarise

DOCUMENTS, LENGTH, FACTORS, LATENTS = 60, 20, 6, 24
BOOT = {"bootstrap": 200, "seed": 0}


def world(seed: int, planted: int) -> tuple[csr_array, np.ndarray, np.ndarray]:
    """Labels hold for runs of five tokens; the first `planted` latents follow one each, the others nothing."""
    rng = np.random.default_rng(seed)
    document = np.repeat(np.arange(DOCUMENTS), LENGTH)
    factors = np.repeat(rng.random((len(document) // 5, FACTORS)) < 0.2, 5, axis=0)
    latents = np.repeat(rng.random((len(document) // 5, LATENTS)) < 0.1, 5, axis=0) * rng.random((1, LATENTS))
    latents[:, :planted] = factors[:, :planted] * (rng.random((len(document), planted)) < 0.9)
    return csr_array(latents), factors, document


def measured(planted: int, seed: int = 0, alive: np.ndarray | None = None, draws: int = 120):
    (fit, fit_factors, fit_document), (test, test_factors, test_document) = (
        world(2 * seed, planted),
        world(2 * seed + 1, planted),
    )
    alive = np.ones(LATENTS, bool) if alive is None else alive
    return measure(
        fit, fit_factors, fit_document, test, test_factors, test_document, alive,
        documents=DOCUMENTS, seed=seed, draws=draws,
    )  # fmt: skip


def test_the_shares_agree_with_a_loop_over_latents():
    found, draws = measured(3, draws=30), 30
    (fit, fit_factors, _), (test, factors, document) = world(0, 3), world(1, 3)
    for a in range(LATENTS):
        fires, on_fit = test.toarray()[:, a] > 0, fit.toarray()[:, a] > 0
        label = int(np.argmax([fit_factors[on_fit, f].mean() - fit_factors[:, f].mean() for f in range(FACTORS)]))
        assert found.label[a] == label
        share = found.tally.hits[:, a].sum() / found.tally.of[:, a].sum()
        assert share == pytest.approx(factors[fires, label].mean())
        null = [factors[permuted_rows(document, 2 * draw)][fires, label].mean() for draw in range(draws)]
        assert found.expected[a] == pytest.approx(np.mean(null), abs=1e-6)


def test_planted_latents_are_selective_and_the_others_are_not():
    found = measured(3)
    assert found.label[:3].tolist() == [0, 1, 2]
    assert selective(found)[:3].all() and selective(found)[3:].sum() <= 1
    metric = summarise({"main": [found] * 5, "random_dictionary": [measured(0)]}, **BOOT)
    assert metric.value == pytest.approx(3 / LATENTS * 0.8, abs=0.05)
    null, other = metric.nulls["permuted_labels"], metric.nulls["random_dictionary"]
    assert null.mean == pytest.approx(0, abs=0.01) and other.mean == pytest.approx(0, abs=0.02)
    assert metric.interval is not None and metric.interval[0] > 0.05


def test_without_anything_to_find_discoveries_are_rare():
    runs = [selective(measured(0, seed=seed, draws=20)) for seed in range(30)]
    # At a false discovery rate of 0.05 with nothing true, 1 run in 20 has a discovery; 5 of 30 is its 99th percentile.
    assert sum(found.any() for found in runs) <= 5


def test_only_alive_latents_count_and_none_is_an_error():
    alive = np.arange(LATENTS) < 2
    assert measured(3, alive=alive).latents.tolist() == [0, 1]
    with pytest.raises(ValueError, match="0 alive latents"):
        measured(3, alive=np.zeros(LATENTS, bool))
