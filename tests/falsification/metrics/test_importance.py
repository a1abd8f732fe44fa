import numpy as np
import pytest
from scipy import stats

from raysae.falsification.metrics.importance import calibration, rank_correlation


def test_the_rank_correlation_is_scipys_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(0)
    proxy = rng.random(80)
    measured = proxy + rng.normal(0, 0.3, 80)
    value, interval = rank_correlation(proxy, measured, seed=1)
    assert value == pytest.approx(stats.spearmanr(proxy, measured).statistic)
    assert interval is not None and interval[0] < value < interval[1]
    unrelated = [rank_correlation(proxy, rng.random(80), seed=i)[1] for i in range(60)]
    covered = [bounds is not None and bounds[0] < 0 < bounds[1] for bounds in unrelated]
    assert 0.8 <= np.mean(covered) <= 0.98, "a two-sided 90 % interval"
    constant, interval = rank_correlation(proxy, np.ones(80), seed=1)
    assert np.isnan(constant) and interval is None


def test_calibration_is_scipys_line_and_the_gap_of_its_bins() -> None:
    rng = np.random.default_rng(1)
    predicted = rng.random(40)
    measured = 2 * predicted + rng.normal(0, 0.1, 40)
    found, line = calibration(predicted, measured), stats.linregress(predicted, measured)
    assert found is not None
    assert (found.slope, found.r_squared) == (pytest.approx(line.slope), pytest.approx(line.rvalue**2))
    order = sorted(range(40), key=lambda i: predicted[i])
    gaps = [abs(np.mean([measured[i] - predicted[i] for i in order[k : k + 4]])) for k in range(0, 40, 4)]
    assert found.gap == pytest.approx(np.mean(gaps))
    exact = calibration(predicted, predicted)
    assert exact is not None and exact == (pytest.approx(1), pytest.approx(1), pytest.approx(0))
    assert calibration(np.ones(40), measured) is None
