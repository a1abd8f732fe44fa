import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from raysae.falsification.metrics.clustering import Groups, compare, gap_statistic, group, summarise
from raysae.falsification.metrics.dictionaries import random_rows

from .geometry import jittered

D = 16


def clustered(seed: int, clusters: int = 4, each: int = 25, noise: float = 0.4) -> np.ndarray:
    """Unit rows around a few directions, the same in every seed, in an order of the seed's own."""
    centres = random_rows(clusters, D, np.random.default_rng(0)).repeat(each, axis=0)
    members = jittered(np.random.default_rng(1), centres, noise)
    rng = np.random.default_rng(100 + seed)
    return jittered(rng, members, 0.1)[rng.permutation(len(members))]


def test_the_gap_statistic_counts_planted_clusters_and_sees_none_where_there_are_none():
    assert gap_statistic(clustered(0), seed=0) == 4
    assert gap_statistic(random_rows(100, D, np.random.default_rng(0)), seed=0) == 1


def test_the_same_clusters_come_back_in_every_seed_and_not_in_random_dictionaries():
    real = compare([group(clustered(seed), seed) for seed in range(4)])
    null = compare([group(random_rows(100, D, np.random.default_rng(seed)), seed) for seed in range(4)])
    found = summarise({"main": real, "random_dictionary": null}, gap=[4, 4, 1, 4])
    assert found.value == pytest.approx(1, abs=0.01) and found.interval is not None
    mean = found.nulls["random_dictionary"].mean
    assert mean is not None and mean < 0.1
    assert found.also["clusters"] == 4 and found.also["clusters_by_gap"] == 3.25
    assert found.also["clusters_by_hdbscan"] == pytest.approx(4, abs=1)
    assert found.also["ari_hdbscan"] is not None and found.also["ari_hdbscan"] > 0.9


def test_agreement_is_over_latents_matched_one_to_one_and_without_noise():
    rng = np.random.default_rng(3)
    rows, order = random_rows(40, D, rng), rng.permutation(40)
    a, b, noise = rng.integers(0, 3, 40), rng.integers(0, 3, 40), rng.random(40) < 0.3
    by_centre = {k: np.zeros(40, np.int64) for k in (2, 4, 8, 16, 32)}
    left = Groups(rows, {**by_centre, 4: a}, np.where(noise, -1, a))
    right = Groups(rows[order], {**by_centre, 4: b[order]}, b[order])
    found = compare([left, right])
    assert found.by_centre[4][0, 1] == pytest.approx(adjusted_rand_score(a, b))
    assert found.by_density[1, 0] == pytest.approx(adjusted_rand_score(a[~noise], b[~noise]))
    assert found.noise == (pytest.approx(noise.mean()), 0.0)


def test_one_cluster_on_a_side_is_no_agreement():
    tiny = group(random_rows(4, D, np.random.default_rng(0)), 0)
    found = compare([tiny, tiny])
    assert found.by_centre[8].tolist() == found.by_density.tolist() == [[0, 0], [0, 0]]
    alone = summarise({"main": found}, gap=[1, 1])
    assert alone.also["clusters"] == 2 and alone.interval is None and alone.not_run
