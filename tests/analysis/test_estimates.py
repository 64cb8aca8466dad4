"""Estimates and their intervals: hand-computed values, coverage by simulation, degenerate samples."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from analysis import estimates
from analysis.estimates import (
    NOT_ESTIMABLE,
    Interval,
    accuracy_sd,
    bootstrap_interval,
    interquartile_mean,
    mean_interval,
    prediction_half_width,
    prediction_interval,
    rate_interval,
    sample_sd,
    sd_interval,
    share_at_most,
    z_score,
)
from tests.analysis.simulation import is_share_of

pytestmark = pytest.mark.filterwarnings("error")
NUM_SETS = 4000
ONE_TO_FIVE = (1.0, 2.0, 3.0, 4.0, 5.0)
T_975_4 = 2.776445105
"""quantile of Student's t at .975 with 4 degrees of freedom, from a printed table"""


def _covers(interval: Interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high


def _collapsing_accuracies(num_sets: int, n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random((num_sets, n)) < 0.1, 0.10, rng.normal(0.75, 0.01, (num_sets, n)))


def test_mean_interval_equals_the_textbook_formula() -> None:
    half = T_975_4 * math.sqrt(2.5) / math.sqrt(5)
    assert mean_interval(ONE_TO_FIVE) == pytest.approx((3 - half, 3 + half))


def test_mean_interval_agrees_with_scipy_at_other_confidence() -> None:
    values = np.random.default_rng(0).normal(size=7)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert mean_interval(values, 0.9) == pytest.approx((expected.low, expected.high))


def test_prediction_interval_equals_the_textbook_formula() -> None:
    half = T_975_4 * math.sqrt(2.5) * math.sqrt(1 + 1 / 5)
    assert prediction_interval(ONE_TO_FIVE) == pytest.approx((3 - half, 3 + half))


def test_prediction_factor_at_ten_runs() -> None:
    assert prediction_half_width(10) == pytest.approx(2.37, abs=0.005)


def test_sd_interval_at_ten_runs_spans_the_stated_factors() -> None:
    values = np.random.default_rng(1).normal(size=10)
    low, high = np.array(sd_interval(values)) / values.std(ddof=1)
    assert (low, high) == pytest.approx((0.69, 1.83), abs=0.005)


@pytest.mark.parametrize("n", [2, 5, 10, 30])
def test_intervals_cover_at_their_level_on_normal_data(n: int) -> None:
    rng = np.random.default_rng(n)
    samples, further = rng.normal(5, 2, size=(NUM_SETS // 2, n)), rng.normal(5, 2, size=NUM_SETS // 2)
    assert is_share_of([_covers(mean_interval(sample), 5) for sample in samples], 0.95)
    assert is_share_of([_covers(mean_interval(sample, 0.9), 5) for sample in samples], 0.9)
    assert is_share_of([_covers(sd_interval(sample), 2) for sample in samples], 0.95)
    inside = [_covers(prediction_interval(sample), x) for sample, x in zip(samples, further, strict=True)]
    assert is_share_of(inside, 0.95)


@pytest.mark.parametrize(("n", "coverage"), [(10, 0.65), (20, 0.88), (30, 0.91)])
def test_mean_interval_falls_short_where_runs_collapse(n: int, coverage: float) -> None:
    samples = _collapsing_accuracies(NUM_SETS, n, seed=n)
    assert is_share_of(
        [_covers(mean_interval(sample), 0.9 * 0.75 + 0.1 * 0.10) for sample in samples], coverage
    )


@pytest.mark.slow
@pytest.mark.parametrize(("n", "coverage"), [(5, 0.835), (10, 0.90), (20, 0.925)])
def test_bootstrap_interval_covers_less_than_its_level(n: int, coverage: float) -> None:
    samples = np.random.default_rng(n).normal(size=(1000, n))
    hits = np.array([_covers(bootstrap_interval(sample, seed=1), 0) for sample in samples])
    assert is_share_of(hits, coverage)
    assert not is_share_of(hits, 0.95)


def test_bootstrap_interval_approaches_students_with_many_values() -> None:
    values = np.random.default_rng(3).normal(size=2000)
    tolerance = 0.05 * np.ptp(mean_interval(values))
    assert bootstrap_interval(values, seed=1) == pytest.approx(mean_interval(values), abs=tolerance)


def test_bootstrap_interval_leans_to_the_long_tail() -> None:
    values = np.random.default_rng(4).exponential(size=30)
    low, high = bootstrap_interval(values, seed=1)
    assert high - values.mean() > 1.1 * (values.mean() - low)


def test_bootstrap_interval_depends_on_its_seed_alone() -> None:
    values = np.random.default_rng(5).normal(size=9)
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values[::-1], seed=1)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)


@pytest.mark.parametrize("n", [1, 5, 10, 30])
def test_rate_interval_covers_at_least_its_level_for_every_rate(n: int) -> None:
    intervals = [rate_interval(k, n) for k in range(n + 1)]
    for rate in np.linspace(0, 1, 101):
        covering = [k for k in range(n + 1) if _covers(intervals[k], rate)]
        assert stats.binom.pmf(covering, n, rate).sum() >= 0.95


def test_rate_interval_equals_the_closed_form_without_events() -> None:
    assert rate_interval(0, 10) == pytest.approx((0, 1 - 0.025**0.1))
    assert rate_interval(0, 10).high == pytest.approx(0.3085, abs=5e-5)
    assert rate_interval(10, 10) == pytest.approx((0.025**0.1, 1))


def test_rate_interval_agrees_with_scipy() -> None:
    expected = stats.binomtest(3, 17).proportion_ci(0.9, method="exact")
    assert rate_interval(3, 17, 0.9) == pytest.approx((expected.low, expected.high))


def test_interquartile_mean_is_the_mean_of_the_middle_half() -> None:
    assert interquartile_mean([8, 1, 7, 2, 6, 3, 5, 4]) == pytest.approx((3 + 4 + 5 + 6) / 4)
    assert interquartile_mean([8, -100, 7, 2, 6, 3, 5, 4]) == pytest.approx((3 + 4 + 5 + 6) / 4)


def test_share_at_most_counts_equal_values() -> None:
    assert share_at_most([0.1, 0.2, 0.2, 0.4], 0.2) == 0.75
    assert share_at_most([0.1, 0.2], 0.05) == 0


def test_z_score_is_in_sample_standard_deviations() -> None:
    assert z_score(5, ONE_TO_FIVE) == pytest.approx(2 / math.sqrt(2.5))
    assert z_score(3, ONE_TO_FIVE) == 0


@pytest.mark.parametrize(("accuracy", "points"), [(0.9, 0.30), (0.8, 0.40), (0.7, 0.46)])
def test_accuracy_sd_of_ten_thousand_images(accuracy: float, points: float) -> None:
    assert 100 * accuracy_sd(accuracy, 10_000) == pytest.approx(points, abs=0.005)


def test_accuracy_sd_equals_the_spread_over_drawn_test_sets() -> None:
    accuracies = np.random.default_rng(6).binomial(500, 0.76, size=NUM_SETS) / 500
    margin = 3.3 / math.sqrt(2 * NUM_SETS)
    assert accuracies.std(ddof=1) == pytest.approx(accuracy_sd(0.76, 500), rel=margin)


@pytest.mark.parametrize("interval", [mean_interval, prediction_interval])
def test_interval_of_location_moves_with_the_values(interval: Callable[..., Interval]) -> None:
    values = np.random.default_rng(7).normal(size=8)
    low, high = interval(values)
    assert interval(values[::-1]) == pytest.approx((low, high))
    assert interval(values + 3) == pytest.approx((low + 3, high + 3))
    assert interval(-values) == pytest.approx((-high, -low))


def test_interval_of_spread_knows_neither_location_nor_sign() -> None:
    values = np.random.default_rng(8).normal(size=8)
    assert sd_interval(values[::-1] + 3) == pytest.approx(sd_interval(values))
    assert sd_interval(-2 * values) == pytest.approx(2 * np.array(sd_interval(values)))


@pytest.mark.parametrize(
    "values", [[], [0.1], [0.1, math.nan, 0.3], [0.1, math.inf, 0.3], [math.inf, -math.inf]]
)
def test_intervals_are_nan_without_two_finite_values(values: list[float]) -> None:
    for interval in (mean_interval, prediction_interval, sd_interval):
        assert all(map(math.isnan, interval(values)))
    assert all(map(math.isnan, bootstrap_interval(values, seed=1)))
    assert math.isnan(sample_sd(values)) and math.isnan(z_score(0.5, values))


@pytest.mark.parametrize(
    "values", [[0.1] * 3, [0.1] * 9 + [np.nextafter(0.1, 1)], [1e9, 1e9 + 1e-7], [0.0] * 4]
)
def test_values_that_differ_by_rounding_alone_have_no_spread(values: list[float]) -> None:
    assert sample_sd(values) == 0
    intervals = (sd_interval(values), mean_interval(values), prediction_interval(values))
    assert np.isnan(intervals).all()  # equal values say nothing about the variation of other values
    assert math.isnan(z_score(0.5, values)) and all(map(math.isnan, bootstrap_interval(values, seed=1)))


@pytest.mark.parametrize(
    "values", [[0.0, 0, 1], [0.1, 0.75, 0.75, 0.75], [0.1] * 5 + [0.7] * 5, [0.0] * 19 + [1]]
)
def test_bootstrap_interval_of_ties_is_finite(values: list[float]) -> None:
    low, high = bootstrap_interval(values, seed=1)
    assert min(values) <= low < high <= max(values)


def test_single_numbers_are_nan_without_values() -> None:
    assert math.isnan(interquartile_mean([])) and math.isnan(share_at_most([], 0.5))
    assert math.isnan(share_at_most([0.1], math.nan)) and math.isnan(share_at_most([math.nan], 0.1))
    assert math.isnan(accuracy_sd(0.5, 0))
    assert rate_interval(0, 0) is NOT_ESTIMABLE and rate_interval(1, 1).low == pytest.approx(0.025)
    assert math.isnan(estimates.mean_half_width(1)) and math.isnan(prediction_half_width(0))
