from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from raysae.falsification.intervals import (
    Estimate,
    allowed_failures,
    benjamini_hochberg,
    clopper_pearson,
    draws_needed,
    in_quadrature,
    jackknife_over_seeds,
    mean_over_seeds,
    minimum_detectable,
    minimum_detectable_mean,
    permutation_p,
    pooled_p,
    quantile_over_documents,
    sequential_p,
    t_interval,
    worst_of,
)
from raysae.falsification.resampling import hierarchical, ratio_over_documents


def test_a_mean_at_the_detectable_distance_is_shown_four_times_out_of_five():
    rng = np.random.default_rng(0)
    for direction, sign in ((">=", 1), ("<=", -1)):
        true = minimum_detectable_mean(0.9, direction, 0.02, 5)
        assert true is not None and sign * (true - 0.9) > 0
        shown = [t_interval(rng.normal(true, 0.02, 5)) for _ in range(2000)]
        share = np.mean([(low if sign > 0 else -high) >= sign * 0.9 for low, high in shown])
        assert share == pytest.approx(0.8, abs=0.03)
    assert minimum_detectable_mean(0.9, ">=", 0.02, 1) is None


def power_of(threshold: float, n: int, true: float) -> float:
    """Probability that n units with this success rate show it to be at least the threshold."""
    failures = allowed_failures(threshold, n)
    assert failures is not None
    return float(stats.binom.cdf(failures, n, 1 - true))


def test_the_exact_sample_sizes_of_the_specification_come_out():
    for threshold, smallest in ((0.95, [59, 93, 124, 153, 181]), (0.80, [14, 22, 30, 37, 44])):
        assert [allowed_failures(threshold, n) for n in smallest] == [0, 1, 2, 3, 4]
        assert [allowed_failures(threshold, n - 1) for n in smallest] == [None, 0, 1, 2, 3]


@pytest.mark.parametrize(
    ("threshold", "true", "n", "power"),
    [
        (0.95, 0.99, 60, 0.55),
        (0.95, 0.99, 100, 0.74),
        (0.95, 0.99, 200, 0.95),
        (0.95, 0.98, 200, 0.63),
        (0.95, 0.98, 300, 0.85),
        (0.80, 0.90, 60, 0.61),
        (0.80, 0.90, 100, 0.88),
        (0.80, 0.90, 200, 0.99),
    ],
)
def test_the_exact_powers_of_the_specification_come_out(threshold: float, true: float, n: int, power: float):
    assert power_of(threshold, n, true) == pytest.approx(power, abs=0.006)


def test_planted_truth_is_found_with_200_units_and_not_with_120():
    assert power_of(0.95, 200, 0.995) >= 0.95 > power_of(0.95, 120, 0.995)


def test_clopper_pearson_gives_the_bounds_of_the_specification():
    assert clopper_pearson(33, 33)[0] == pytest.approx(0.913, abs=5e-4)
    assert clopper_pearson(14, 14)[0] == pytest.approx(0.807, abs=5e-4)
    assert clopper_pearson(54, 60)[0] >= 0.80 > clopper_pearson(53, 60)[0]
    assert clopper_pearson(0, 10)[0] == 0.0
    assert clopper_pearson(10, 10)[1] == 1.0
    with pytest.raises(ValueError, match="successes=3 of n=2"):
        clopper_pearson(3, 2)


@given(n=st.integers(1, 300), data=st.data())
def test_clopper_pearson_inverts_the_binomial_test(n: int, data: st.DataObject):
    successes = data.draw(st.integers(1, n - 1)) if n > 1 else 1
    lower, upper = clopper_pearson(successes, n)
    assert lower < successes / n or successes == n
    assert stats.binom.sf(successes - 1, n, lower) == pytest.approx(0.05, abs=1e-6)
    if successes < n:
        assert stats.binom.cdf(successes, n, upper) == pytest.approx(0.05, abs=1e-6)


@given(n=st.integers(1, 200), threshold=st.sampled_from([0.5, 0.8, 0.95]))
@settings(max_examples=25, deadline=None)
def test_allowed_failures_is_the_last_number_that_passes(n: int, threshold: float):
    failures = allowed_failures(threshold, n)
    passing = [f for f in range(n) if clopper_pearson(n - f, n)[0] >= threshold]
    assert failures == (max(passing) if passing else None)


def test_the_minimum_detectable_effect_has_the_power_it_is_named_for():
    for threshold, n in [(0.95, 59), (0.95, 200), (0.80, 60)]:
        effect = minimum_detectable(threshold, n)
        assert effect is not None
        assert power_of(threshold, n, effect) == pytest.approx(0.8, abs=1e-9)
    assert minimum_detectable(0.95, 58) is None
    assert minimum_detectable(0.95, 0) is None


def test_the_t_half_width_is_that_of_the_specification():
    for seeds, factor in [(3, 1.69), (5, 0.95)]:
        values = np.arange(float(seeds))
        interval = t_interval(values)
        assert interval is not None
        assert (interval[1] - interval[0]) / 2 / values.std(ddof=1) == pytest.approx(factor, abs=5e-3)
    assert t_interval(np.array([0.3])) is None


def pairs_of(values: np.ndarray) -> np.ndarray:
    return (values[:, None] + values) / 2


def test_the_jackknife_over_seeds_agrees_with_leaving_out_each_seed():
    rng = np.random.default_rng(0)
    pairs = rng.random((6, 6))
    pairs = (pairs + pairs.T) / 2
    found = jackknife_over_seeds(np.where(np.eye(6, dtype=bool), np.nan, pairs))
    off = ~np.eye(6, dtype=bool)
    without = []
    for k in range(6):
        kept = np.ix_(np.arange(6) != k, np.arange(6) != k)
        without.append(pairs[kept][off[kept]].mean())
    half = stats.t.ppf(0.95, 5) * np.sqrt(5 / 6 * np.sum((np.array(without) - np.mean(without)) ** 2))
    assert found.value == pytest.approx(pairs[off].mean())
    assert found.interval == pytest.approx((found.value - half, found.value + half))
    assert found.per_seed[2] == pytest.approx(np.delete(pairs[2], 2).mean())


def test_pairs_that_are_means_of_two_seeds_get_the_interval_of_the_seeds():
    values = np.array([0.2, 0.5, 0.3, 0.9, 0.4])
    assert jackknife_over_seeds(pairs_of(values)).interval == pytest.approx(t_interval(values))
    assert mean_over_seeds(values).interval == pytest.approx(t_interval(values))


def test_the_jackknife_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    intervals = [jackknife_over_seeds(pairs_of(rng.normal(0, 1, 5))).interval for _ in range(600)]
    # 600 x 0.05 = 30; the bounds are its 0.2th and 99.9th percentiles.
    assert 15 <= sum(interval is not None and interval[1] < 0 for interval in intervals) <= 48


def test_too_few_seeds_or_a_missing_pair_have_no_interval():
    assert jackknife_over_seeds(pairs_of(np.array([0.2, 0.4]))).interval is None
    assert jackknife_over_seeds(np.ones((1, 1))).interval is None
    assert jackknife_over_seeds(pairs_of(np.array([0.2, 0.4, np.nan, 0.1]))).interval is None
    assert mean_over_seeds(np.array([0.2])).interval is None and mean_over_seeds(np.array([0.2])).value == 0.2
    assert mean_over_seeds(np.array([0.2, np.inf])).interval is None


def test_two_sources_of_error_add_as_squares_and_none_stands_aside():
    assert in_quadrature(0.5, (0.2, 0.6), (0.1, 0.5)) == pytest.approx((0.0, 0.6))
    assert in_quadrature(0.5, (0.2, 0.6), None) == (0.2, 0.6)
    assert in_quadrature(0.5, None, None) is None


def naive_bootstrap_t(numerator: np.ndarray, denominator: np.ndarray, draws: int, rng: np.random.Generator) -> tuple:
    """One seed: the textbook's loop, with the error of a ratio by the delta method."""

    def ratio_and_error(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
        ratio = a.sum() / b.sum()
        return ratio, float((a - ratio * b).std(ddof=1) / b.mean() / np.sqrt(len(a)))

    value, error = ratio_and_error(numerator, denominator)
    found = []
    for _ in range(draws):
        chosen = rng.integers(0, len(numerator), len(numerator))
        ratio, spread = ratio_and_error(numerator[chosen], denominator[chosen])
        found.append((ratio - value) / spread)
    low, high = np.quantile(found, [0.05, 0.95])
    return value - high * error, value - low * error


def test_the_bootstrap_of_a_ratio_agrees_with_the_loop_over_resamples():
    rng = np.random.default_rng(0)
    denominator = rng.gamma(4.0, size=(1, 80))
    numerator = denominator * rng.exponential(0.1, (1, 80))
    found = ratio_over_documents(numerator, denominator, bootstrap=4000, seed=1)
    lower, upper = naive_bootstrap_t(numerator[0], denominator[0], 4000, rng)
    assert found.value == pytest.approx(numerator.sum() / denominator.sum())
    assert found.interval is not None
    assert found.interval[1] == pytest.approx(upper, abs=1e-3)  # The long side of a skewed distribution.
    assert found.interval[0] < lower  # On the short side Student's interval is the wider.


def test_equal_documents_leave_the_interval_over_seeds():
    seed_level = np.array([[0.05], [0.08], [0.12]])
    found = ratio_over_documents(seed_level * np.ones((3, 50)), np.ones((3, 50)), bootstrap=500, seed=0)
    expected = t_interval(seed_level[:, 0])
    assert found.interval is not None and expected is not None
    assert found.interval == pytest.approx(expected)
    assert found.per_seed == pytest.approx((0.05, 0.08, 0.12))


def test_seeds_and_documents_that_both_vary_make_a_wider_interval_than_either():
    rng = np.random.default_rng(3)
    documents = rng.gamma(4.0, 0.025, (1, 60))
    seeds = np.array([[0.9], [1.0], [1.1]])
    of_documents = ratio_over_documents(documents, np.ones((1, 60)), bootstrap=500, seed=0).interval
    of_both = ratio_over_documents(documents * seeds, np.ones((3, 60)), bootstrap=500, seed=0).interval
    of_seeds = t_interval(documents.mean() * seeds[:, 0])
    assert of_documents is not None and of_both is not None and of_seeds is not None
    assert of_both == pytest.approx(in_quadrature(documents.mean(), of_documents, of_seeds))
    assert of_both[0] < min(of_documents[0], of_seeds[0]) and max(of_documents[1], of_seeds[1]) < of_both[1]


def test_two_documents_bound_little():
    found = ratio_over_documents(np.array([[0.1, 0.2]]), np.ones((1, 2)), bootstrap=200, seed=0)
    assert found.interval == pytest.approx((0.15 - 6.314 * 0.05, 0.15 + 6.314 * 0.05), abs=1e-3)


def test_the_bounds_of_a_quantile_are_the_order_statistics_of_the_table():
    values = np.random.default_rng(2).permutation(np.arange(1.0, 101)) / 100
    found = quantile_over_documents(values[None], 0.05)
    # Binomial(100, 0.05): P(<= 1) = 0.037, P(<= 2) = 0.118; P(<= 8) = 0.937, P(<= 9) = 0.972.
    assert found.value == 0.05 and found.interval == pytest.approx((0.02, 0.10))
    assert found.value == np.quantile(values, 0.05, method="inverted_cdf")


@pytest.mark.parametrize(("documents", "lower"), [(58, 0.0), (59, 0.5)])
def test_fifty_nine_documents_are_the_fewest_that_bound_a_fifth_percentile_from_below(documents: int, lower: float):
    found = quantile_over_documents(np.linspace(0.5, 0.6, documents)[None], 0.05)
    assert found.interval is not None and found.interval[0] == pytest.approx(lower)


def test_the_quantiles_of_seeds_are_averaged_and_their_spread_widens_the_interval():
    row = np.linspace(0.5, 0.9, 100)
    shifts = np.array([[-0.02], [0.0], [0.02]])
    one, three = quantile_over_documents(row[None], 0.05), quantile_over_documents(row + shifts, 0.05)
    assert three.value == pytest.approx(one.value)
    assert three.interval == pytest.approx(in_quadrature(one.value, one.interval, t_interval(one.value + shifts[:, 0])))


def test_the_same_seed_gives_the_same_interval_and_another_another():
    rng = np.random.default_rng(0)
    numerator, denominator = rng.random((1, 30)), np.ones((1, 30))
    first = ratio_over_documents(numerator, denominator, bootstrap=300, seed=5)
    assert first == ratio_over_documents(numerator, denominator, bootstrap=300, seed=5)
    assert first != ratio_over_documents(numerator, denominator, bootstrap=300, seed=6)


def test_a_resample_that_draws_one_document_throughout_says_nothing():
    numerator = np.array([[0.78988436, 0.87052842], [0.88038523, 0.90710674]])
    found = ratio_over_documents(numerator, np.ones((2, 2)), bootstrap=2000, seed=1)
    assert found.interval is not None and -2 < found.interval[0] < found.interval[1] < 4


def test_an_undefined_ratio_has_no_interval():
    assert ratio_over_documents(np.ones((1, 4)), np.zeros((1, 4)), bootstrap=200, seed=0).interval is None
    assert ratio_over_documents(np.ones((1, 0)), np.ones((1, 0)), bootstrap=200, seed=0).interval is None


def by_weights(numerator: np.ndarray, denominator: np.ndarray, **how: int) -> Estimate:
    """The same ratio, as a statistic of document weights."""

    def ratio(weights: Mapping[str, np.ndarray]) -> np.ndarray:
        return (numerator @ weights["TEST"].T) / (denominator @ weights["TEST"].T)

    return hierarchical(ratio, {"TEST": numerator.shape[1]}, **how)


@pytest.mark.parametrize("estimate", [ratio_over_documents, by_weights])
def test_at_the_threshold_skewed_documents_pass_about_as_seldom_as_the_bounds_say(estimate: Callable[..., Estimate]):
    rng = np.random.default_rng(4)
    below = 0
    for run in range(300):
        denominator = rng.gamma(3.0, size=(1, 60)) * np.ones((5, 1))
        difficulty = rng.lognormal(-0.5 * 0.5**2, 0.5, (1, 60)) * rng.normal(1, 0.1, (5, 1))
        interval = estimate(denominator * 0.1 * difficulty, denominator, bootstrap=200, seed=run).interval
        assert interval is not None
        below += interval[1] <= 0.1
    # The rate of false claims "below 0.1" is to be 0.05; 26 of 300 is the 99.5th percentile of that. The wider of
    # percentiles and the t-interval over seeds gives 33 and more.
    assert below <= 26


def test_what_the_weights_never_move_has_no_spread():
    found = hierarchical(lambda weights: np.ones((2, len(weights["a"]))), {"a": 30}, bootstrap=200, seed=0)
    assert found.value == 1.0 and found.interval == (1.0, 1.0)


def test_permutation_p_of_sets_drawn_again_is_that_of_each_drawn_once():
    different = np.array([[0.1, 0.9, 0.2, 0.3]])
    again = np.repeat(different, 50, axis=1)
    observed = np.array([0.5])
    assert permutation_p(observed, again, np.array([4])) == pytest.approx(permutation_p(observed, different))
    assert permutation_p(observed, again) < permutation_p(observed, different)


def test_permutation_p_counts_ties_and_is_never_zero():
    p = permutation_p(np.array([1.0, 0.5, 0.0]), np.array([[0.0] * 19, [0.5] * 19, [0.5] * 19]))
    assert p == pytest.approx([1 / 20, 1.0, 1.0])


def test_pooled_p_counts_the_draws_of_every_hypothesis_of_the_stratum():
    rng = np.random.default_rng(0)
    observed, null, stratum = rng.normal(size=12), rng.normal(size=(7, 12)).round(1), np.arange(12) % 3
    naive = [(1 + (null[:, stratum == stratum[u]] >= observed[u]).sum()) / (1 + 7 * 4) for u in range(12)]
    assert pooled_p(observed, null, stratum) == pytest.approx(naive)
    alone = pooled_p(observed, null, np.arange(12))
    assert alone == pytest.approx(permutation_p(observed, null.T))


def test_splits_are_resampled_apart_from_each_other():
    rng = np.random.default_rng(1)
    seen, unseen = rng.random(80), rng.random(120)
    found = hierarchical(
        lambda weights: ((weights["SEEN"] @ seen) / 80 - (weights["UNSEEN"] @ unseen) / 120)[None],
        {"SEEN": 80, "UNSEEN": 120}, bootstrap=4000, seed=0,
    )  # fmt: skip
    assert found.value == pytest.approx(seen.mean() - unseen.mean()) and found.interval is not None
    spread = np.sqrt(seen.var() / 80 + unseen.var() / 120)
    assert found.interval == pytest.approx((found.value - 1.645 * spread, found.value + 1.645 * spread), abs=0.004)


def test_the_worst_is_below_a_line_only_if_all_are_and_above_it_as_soon_as_one_is():
    low, wide, high = Estimate(0.0, (-0.1, 0.1), ()), Estimate(0.05, (-0.3, 0.4), ()), Estimate(0.2, (0.15, 0.25), ())
    assert worst_of([low, wide, high]) == (0.2, (0.15, 0.4))
    assert worst_of([low, Estimate(float("nan"), None, ())]) == (None, None)
    assert worst_of([]) == (None, None)


def test_benjamini_hochberg_agrees_with_its_definition():
    p = np.array([0.001, 0.012, 0.02, 0.039, 0.3])
    order = np.sort(p)
    largest = max(k for k in range(1, 6) if order[k - 1] <= 0.05 * k / 5)
    assert benjamini_hochberg(p).tolist() == (p <= order[largest - 1]).tolist()
    assert benjamini_hochberg(np.array([])).tolist() == []


def test_draws_that_stop_early_give_the_p_values_of_besag_and_clifford():
    no, yes = False, True
    assert sequential_p(np.array([no, yes, no, yes, yes]), enough=2, draws=99) == 2 / 4
    assert sequential_p(np.array([no, yes] + [no] * 97), enough=2, draws=99) == 2 / 100
    assert sequential_p(np.zeros(99, dtype=bool), enough=2, draws=99) == 1 / 100


def test_a_sequential_p_is_no_smaller_than_it_should_be_where_there_is_nothing():
    rng = np.random.default_rng(0)
    draws = rng.random((4000, 100))
    p = np.array([sequential_p(row[1:] >= row[0], enough=5, draws=99) for row in draws])
    for alpha in (0.01, 0.05, 0.2, 0.5):
        assert (p <= alpha).mean() <= alpha + 3 * np.sqrt(alpha / 4000)
    assert (p <= 0.05).mean() >= 0.04, "it would find nothing"


def test_so_many_draws_let_the_smallest_p_survive_the_correction():
    draws = draws_needed(300, 10)
    p = np.ones(300)
    p[:10] = 1 / (1 + draws)
    assert benjamini_hochberg(p).sum() == 10
    p[:10] = 1 / draws
    assert not benjamini_hochberg(p).any()
