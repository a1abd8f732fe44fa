import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from raysae.falsification.metrics.alignment import Alignment, align, align_permuted, register_factors, summarise
from raysae.falsification.metrics.matching import best_f1, f1_at, permuted_rows

FACTORS, LENGTH = 60, 25


def world(seed: int, documents: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Factors that hold for a part of a document, as the variables of a reasoning trace do; documents differ in
    length."""
    rng = np.random.default_rng(seed)
    rows, document = [], []
    for d in range(documents):
        length = LENGTH + int(rng.integers(-5, 6))
        labels = np.zeros((length, FACTORS), dtype=bool)
        for part in np.array_split(np.arange(length), 5):
            labels[np.ix_(part, rng.choice(FACTORS, 3, replace=False))] = True
        rows.append(labels)
        document.append(np.full(length, d))
    return np.concatenate(rows), np.concatenate(document)


def oracle(factors: np.ndarray, seed: int) -> Tensor:
    """The true dictionary: one latent per factor, in another order, with weak false firings below the true ones."""
    rng = np.random.default_rng(seed)
    latents = factors * rng.uniform(1, 1.2, factors.shape) + (rng.random(factors.shape) < 0.1) * 0.3
    return torch.tensor(latents[:, np.random.default_rng(9).permutation(FACTORS)], dtype=torch.float16)


@pytest.fixture(scope="module")
def data() -> dict:
    (fit, fit_document), (test, test_document) = world(0), world(1)
    return {
        "fit_factors": fit,
        "test_factors": test,
        "fit_latents": oracle(fit, 2),
        "test_latents": oracle(test, 3),
        "documents": (fit_document, test_document),
        "names": [f"f{i}" for i in range(FACTORS)],
    }


def aligned(data: dict, change=lambda latents: latents) -> Alignment:
    return align(change(data["fit_latents"]), data["fit_factors"], change(data["test_latents"]), data["test_factors"])


def permuted(data: dict, draws: int = 3) -> list[Alignment]:
    (fit_document, test_document), seed = data["documents"], 7
    return align_permuted(
        data["fit_latents"],
        data["fit_factors"],
        fit_document,
        data["test_latents"],
        data["test_factors"],
        test_document,
        draws=draws,
        seed=seed,
    )


def test_the_oracle_dictionary_is_perfect_and_its_permuted_labels_are_nothing(data: dict):
    found = summarise(
        {"main": [aligned(data)] * 5}, names=data["names"], drawn={"permuted_labels": [permuted(data)] * 5}
    )
    assert found.value == 1.0
    assert found.interval is not None and found.interval[0] >= 0.95  # 60 of 60
    null = found.nulls["permuted_labels"]
    assert null.mean == 0.0 and null.interval is not None and null.interval[1] < 0.06
    assert found.also["coverage"] == 1.0


def test_the_matching_finds_the_planted_order(data: dict):
    order = np.random.default_rng(9).permutation(FACTORS)
    assert aligned(data).latents.tolist() == np.argsort(order).tolist()


def test_a_random_dictionary_recovers_nothing(data: dict):
    noise = torch.relu(torch.randn(len(data["fit_factors"]), 120, generator=torch.Generator().manual_seed(0)))
    other = torch.relu(torch.randn(len(data["test_factors"]), 120, generator=torch.Generator().manual_seed(1)))
    null = align(noise, data["fit_factors"], other, data["test_factors"])
    found = summarise({"main": [aligned(data)], "random_dictionary": [null]}, names=data["names"])
    assert found.nulls["random_dictionary"].mean == 0.0


def test_dead_latents_change_nothing(data: dict):
    padded = aligned(
        data, lambda latents: torch.cat([torch.zeros(len(latents), 540, dtype=latents.dtype), latents], dim=1)
    )
    plain = aligned(data)
    assert (padded.test_f1 == plain.test_f1).all()
    assert (padded.latents == plain.latents + 540).all()


def test_duplicates_of_the_good_latents_do_not_help(data: dict):
    half = summarise({"main": [aligned(data, lambda latents: latents[:, :30])]}, names=data["names"])
    copied = summarise({"main": [aligned(data, lambda latents: latents[:, :30].repeat(1, 4))]}, names=data["names"])
    assert half.value == copied.value == 0.5


def test_one_latent_cannot_serve_two_factors_in_the_verdict_but_does_in_the_rival():
    rng = np.random.default_rng(0)
    one = rng.random((2000, 1)) < 0.2
    factors = np.concatenate([one, one], axis=1)
    latents = torch.tensor(one, dtype=torch.float32)
    found = summarise({"main": [align(latents, factors, latents, factors)]}, names=["a", "b"])
    assert found.value == 0.5 and found.also["max_f1_share"] == 1.0


def test_latents_that_are_not_alive_are_not_matched(data: dict):
    alive = torch.ones(FACTORS, dtype=torch.bool)
    alive[:6] = False
    found = align(data["fit_latents"], data["fit_factors"], data["test_latents"], data["test_factors"], alive)
    assert not set(found.latents) & set(range(6))
    assert (found.test_f1 >= 0.95).sum() == FACTORS - 6


def test_a_factor_counts_only_if_most_seeds_recover_it(data: dict):
    good = aligned(data)
    bad = good._replace(test_f1=np.where(np.arange(FACTORS) == 0, 0.5, good.test_f1))
    share = [summarise({"main": [good] * (5 - k) + [bad] * k}, names=data["names"]).value for k in (0, 1, 2)]
    assert share == [1.0, 1.0, 59 / 60]


def test_the_denominator_is_the_registered_factors(data: dict):
    with pytest.raises(ValueError, match="59 registered"):
        summarise({"main": [aligned(data)]}, names=data["names"][:-1])
    nothing = summarise({"main": []}, names=[])
    assert nothing.value is None and nothing.n == 0 and nothing.not_run


def test_thresholds_are_frozen_on_fit(data: dict):
    found = aligned(data)
    scaled = align(data["fit_latents"], data["fit_factors"], data["test_latents"] * 0.25, data["test_factors"])
    assert (found.thresholds == scaled.thresholds).all() and scaled.test_f1.max() < 0.5


@given(seed=st.integers(0, 10_000), levels=st.sampled_from([3, 1000]))
@settings(max_examples=30, deadline=None)
def test_the_best_threshold_agrees_with_trying_all(seed: int, levels: int):
    rng = np.random.default_rng(seed)
    latents = np.maximum(0, np.round(rng.normal(0, 1, (60, 4)) * levels) / levels).astype(np.float32)
    factors = rng.random((60, 3)) < 0.3
    f1, thresholds = best_f1(torch.tensor(latents), factors)
    for j in range(4):
        for f in range(3):
            cuts = [0.0, *np.unique(latents[:, j])]
            naive = [f1_at((latents[:, [j]] > cut), factors[:, [f]])[0] for cut in cuts[:-1]]
            assert f1[j, f] == pytest.approx(max(naive, default=0.0))
            if f1[j, f] > 0:
                assert f1_at(latents[:, [j]] > thresholds[j, f], factors[:, [f]])[0] == pytest.approx(f1[j, f])


def test_a_silent_latent_scores_zero():
    f1, thresholds = best_f1(torch.zeros(10, 2), np.ones((10, 1), dtype=bool))
    assert f1.tolist() == [[0.0], [0.0]] and np.isinf(thresholds).all()


def test_permuted_rows_move_whole_documents_in_order():
    document = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
    for seed in range(20):
        rows = permuted_rows(document, seed)
        sources = []
        for d in range(3):
            taken = rows[document == d]
            source = np.flatnonzero(document == document[taken[0]])
            assert taken.tolist() == np.resize(source, len(taken)).tolist()
            sources.append(document[taken[0]])
        assert sorted(sources) == [0, 1, 2]
    assert len({tuple(permuted_rows(document, seed)) for seed in range(20)}) == 6


def test_labels_that_are_exchanged_among_some_documents_leave_the_others_theirs():
    document = np.repeat(np.arange(6), 3)
    among = np.isin(document, [1, 3, 4]) & (np.arange(18) % 3 == 1)  # one row of each is enough
    for seed in range(20):
        rows = permuted_rows(document, seed, among)
        taking = np.isin(document, [1, 3, 4])
        assert (rows[~taking] == np.flatnonzero(~taking)).all()
        assert sorted(rows[taking]) == np.flatnonzero(taking).tolist()
    assert len({tuple(permuted_rows(document, seed, among)) for seed in range(20)}) == 6


def test_the_audit_keeps_what_can_be_told_apart_and_says_why_not():
    rng = np.random.default_rng(0)
    n = 8000
    register = rng.integers(0, 4, n)[:, None] == np.arange(4)  # always on: its last value is 1 minus the others
    free, common, rare = rng.random(n) < 0.1, rng.random(n) < 0.5, rng.random(n) < 0.002
    part = free & (rng.random(n) < 0.5)
    seldom = rng.random(n) < 0.02
    factors = np.column_stack([register, common, rare, free, part, seldom])
    names = ["r0", "r1", "r2", "r3", "common", "rare", "free", "part", "seldom"]
    found = register_factors(factors, n, names)
    assert found.kept == ("r0", "r1", "r2")
    assert "outside" in found.dropped["common"] and "outside" in found.dropped["rare"]
    assert found.dropped["part"] == "implies free in 1.000 of cases, more than 0.9"
    assert found.dropped["free"] == "is implied by part in 1.000 of cases, more than 0.9"
    assert "fewer than 200" in found.dropped["seldom"], "0.02 of 8000 TEST tokens"
    assert "seldom" in register_factors(factors, 2 * n, names).kept
    assert "affine" in found.dropped["r3"]
    assert register_factors(factors, n, names, minimum=1, implication=1.0).kept == (
        "r0",
        "r1",
        "r2",
        "free",
        "part",
        "seldom",
    )


def test_the_audit_of_no_factors_is_empty():
    assert register_factors(np.zeros((5, 0), bool), 5, []) == ((), {})
