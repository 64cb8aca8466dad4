"""Planning figures: the design table row by row, other libraries, power by simulation, edge cases."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from analysis.estimates import mean_half_width, prediction_half_width, rate_interval
from analysis.power import (
    MAX_SEEDS,
    fewest_seeds,
    find_seeds,
    first_significant_count,
    largest_holm_family,
    minimum_detectable_difference,
    seeds_needed,
    sign_flip_effect,
    smallest_exact_p,
    tost_power,
)
from analysis.significance import MAX_EXACT, fisher_p, paired_t_p, sign_flip_p, tost_p
from tests.analysis.simulation import is_share_of

pytestmark = pytest.mark.filterwarnings("error")
NUM_SETS = 2000


@pytest.mark.parametrize(
    ("sd", "alone", "in_family_of_6"),
    [(0.25, 5, 7), (0.35, 7, 10), (0.5, 10, 16), (0.75, 20, 31), (1.0, 34, 52), (1.5, 73, 113)],
)
def test_seeds_for_half_a_point(sd: float, alone: int, in_family_of_6: int) -> None:
    assert seeds_needed(0.5, sd) == seeds_needed(-0.5, sd) == alone
    assert seeds_needed(0.5, sd, family_size=6) == in_family_of_6


def test_pairing_pays_through_correlation_alone() -> None:
    sd_half, sd_none = (0.5 * math.sqrt(2 * (1 - r)) for r in (0.5, 0.0))
    assert seeds_needed(0.5, sd_half) == 10
    assert seeds_needed(0.5, sd_none) == 18


@pytest.mark.parametrize(
    ("n", "alone", "in_family_of_6"), [(5, 1.68, 2.76), (10, 1.00, 1.37), (20, 0.66, 0.86), (30, 0.53, 0.68)]
)
def test_minimum_detectable_difference(n: int, alone: float, in_family_of_6: float) -> None:
    assert minimum_detectable_difference(n, 1) == pytest.approx(alone, abs=0.005)
    assert minimum_detectable_difference(n, 1, family_size=6) == pytest.approx(in_family_of_6, abs=0.005)
    assert minimum_detectable_difference(n, 0.3) == pytest.approx(0.3 * minimum_detectable_difference(n, 1))


@pytest.mark.parametrize(("n", "p_value"), [(5, 0.0625), (6, 0.031), (8, 0.0078), (10, 0.00195)])
def test_smallest_exact_p(n: int, p_value: float) -> None:
    assert smallest_exact_p(n) == pytest.approx(p_value, rel=0.01)


@pytest.mark.parametrize("n", [1, 5, MAX_EXACT, 60])
def test_smallest_exact_p_is_reached_by_equal_signs(n: int) -> None:
    assert sign_flip_p(np.arange(1.0, n + 1)) == smallest_exact_p(n)


@pytest.mark.parametrize(("n", "size"), [(5, 0), (6, 1), (7, 3), (8, 6), (9, 12), (10, 25), (12, 102)])
def test_largest_holm_family(n: int, size: int) -> None:
    assert largest_holm_family(n) == size


@pytest.mark.parametrize(("n", "width"), [(3, 2.48), (5, 1.24), (10, 0.72), (20, 0.47), (30, 0.37)])
def test_mean_half_width(n: int, width: float) -> None:
    assert mean_half_width(n) == pytest.approx(width, abs=0.005)


@pytest.mark.parametrize(("n", "width"), [(5, 3.04), (10, 2.37), (20, 2.14), (30, 2.08)])
def test_prediction_half_width(n: int, width: float) -> None:
    assert prediction_half_width(n) == pytest.approx(width, abs=0.005)


@pytest.mark.parametrize(
    ("n", "powers"), [(10, (0.44, 0.79, 0.99)), (20, (0.88, 0.99, 1.0)), (30, (0.98, 1.0, 1.0))]
)
def test_tost_power_at_no_difference(n: int, powers: tuple[float, ...]) -> None:
    found = [tost_power(n, margin, 1) for margin in (0.75, 1, 1.5)]
    assert found == pytest.approx(powers, abs=0.015)  # the design table was simulated


@pytest.mark.parametrize(
    ("num_events", "n", "low", "high"),
    [(0, 5, 0, 0.52), (0, 10, 0, 0.31), (0, 20, 0, 0.17), (0, 30, 0, 0.116), (1, 10, 0.003, 0.445)],
)
def test_rate_intervals_of_the_design_table(num_events: int, n: int, low: float, high: float) -> None:
    assert rate_interval(num_events, n) == pytest.approx((low, high), abs=0.005)


@pytest.mark.parametrize(("n", "count"), [(10, 5), (20, 5), (30, 6)])
def test_first_significant_count(n: int, count: int) -> None:
    assert first_significant_count(n) == count
    assert fisher_p(0, n, count - 1, n) >= 0.05 > fisher_p(0, n, count, n)


def test_fisher_at_ten_runs() -> None:
    assert fisher_p(0, 10, 4, 10) == pytest.approx(0.087, abs=0.0005)
    assert fisher_p(0, 10, 5, 10) == pytest.approx(0.033, abs=0.0006)


def test_first_significant_count_of_few_runs_is_absent() -> None:
    assert first_significant_count(3) is None and first_significant_count(0) is None


def test_seeds_agree_with_statsmodels_two_sided() -> None:
    for effect in (0.4, 0.9, 1.7):
        needed = TTestPower().solve_power(effect, power=0.8, alpha=0.01)
        assert seeds_needed(effect, 1, alpha=0.01) == math.ceil(needed)


def test_detectable_difference_inverts_seeds_needed() -> None:
    for n in (4, 11, 40):
        difference = minimum_detectable_difference(n, 0.5)
        assert seeds_needed(1.0001 * difference, 0.5) == n
        assert seeds_needed(0.9999 * difference, 0.5) == n + 1


@pytest.mark.parametrize(("n", "family_size"), [(5, 1), (10, 1), (20, 1), (10, 6)])
def test_detectable_difference_is_found_at_its_power(n: int, family_size: int) -> None:
    difference = minimum_detectable_difference(n, 2, family_size=family_size)
    samples = np.random.default_rng(n).normal(difference, 2, size=(NUM_SETS, n))
    assert is_share_of([paired_t_p(sample) < 0.05 / family_size for sample in samples], 0.8)


def sign_flip_rejections(effect: float, n: int, family_size: int) -> list[bool]:
    """Whether the shipped test rejects at Holm's first step, for samples with this true effect."""
    samples = np.random.default_rng(n).normal(effect, 1, size=(NUM_SETS, n))
    return [family_size * sign_flip_p(sample) < 0.05 for sample in samples]


@pytest.mark.parametrize(
    ("n", "family_size"), [(6, 1), (7, 3), (8, 6), (10, 1), (10, 24), (11, 24), (12, 24), (13, 24), (12, 1)]
)
def test_sign_flip_effect_is_found_at_its_power(n: int, family_size: int) -> None:
    found = sign_flip_rejections(sign_flip_effect(n, family_size), n, family_size)
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)


def test_the_power_of_a_t_test_is_not_that_of_the_test_in_use() -> None:
    """At n = 10 the first step of Holm over 24 takes ten equal signs."""
    by_t_test = minimum_detectable_difference(10, 1, family_size=24)
    assert stats.norm.cdf(by_t_test) ** 10 == pytest.approx(0.625, abs=0.001)
    assert np.mean(sign_flip_rejections(by_t_test, 10, 24)) < 0.7
    all_positive = stats.norm.ppf(0.8 ** (1 / 10))
    assert sign_flip_effect(10, 24) == pytest.approx(all_positive, rel=0.01)
    assert sign_flip_effect(6, 1) == pytest.approx(stats.norm.ppf(0.8 ** (1 / 6)), rel=0.01)


@pytest.mark.parametrize(("n", "family_size"), [(2, 1), (5, 1), (6, 2), (9, 24), (10, 26)])
def test_what_the_sign_flip_test_cannot_reach_has_no_effect_size(n: int, family_size: int) -> None:
    assert sign_flip_effect(n, family_size) == math.inf
    assert not any(sign_flip_rejections(100.0, n, family_size))
    assert fewest_seeds(family_size=family_size) > n


def test_find_seeds_is_the_first_n_that_is_enough() -> None:
    for family_size in (1, 24):
        n = find_seeds(1.5, 1.0, family_size)
        assert sign_flip_effect(int(n), family_size) <= 1.5 < sign_flip_effect(int(n) - 1, family_size)
    assert find_seeds(0.5, 0.5, 24) == seeds_needed(0.5, 0.5, family_size=24) == 21
    assert find_seeds(100.0, 1.0) == 6 and find_seeds(100.0, 1.0, 24) == 10
    assert find_seeds(1e-6, 1.0) == math.inf
    assert math.isnan(find_seeds(0.5, math.nan)) and math.isnan(find_seeds(0.5, 0.0))
    assert math.isnan(sign_flip_effect(1))


@pytest.mark.parametrize(("n", "margin"), [(5, 1.0), (10, 0.75), (10, 1.0), (20, 0.75)])
def test_tost_power_is_that_of_the_tost(n: int, margin: float) -> None:
    samples = np.random.default_rng(n).normal(0, 2, size=(NUM_SETS, n))
    assert is_share_of(
        [tost_p(sample, 2 * margin) < 0.05 for sample in samples], tost_power(n, 2 * margin, 2)
    )


def test_plans_that_cannot_be_made_are_nan() -> None:
    for n, sd in ((0, 1.0), (1, 1.0), (10, math.nan), (10, -1.0)):
        assert math.isnan(minimum_detectable_difference(n, sd)) and math.isnan(tost_power(n, 1, sd))
    for difference, sd in ((0.5, math.nan), (math.nan, 0.5), (0.5, -1.0)):
        assert math.isnan(seeds_needed(difference, sd))
    assert math.isnan(smallest_exact_p(0)) and largest_holm_family(0) == 0


def test_without_spread_two_seeds_are_enough() -> None:
    assert seeds_needed(0.5, 0) == seeds_needed(5, 1e-9) == 2
    assert minimum_detectable_difference(10, 0) == 0 and tost_power(10, 0.5, 0) == 1


def test_no_number_of_seeds_finds_nothing() -> None:
    assert seeds_needed(0, 1) == seeds_needed(0, 0) == seeds_needed(1e-6, 1) == math.inf
    assert MAX_SEEDS / 2 < seeds_needed(0.01, 1.08) <= MAX_SEEDS


@pytest.mark.parametrize("n", [2, 3, 2000])
@pytest.mark.parametrize("family_size", [1, 1000])
def test_detectable_difference_exists_at_every_n(n: int, family_size: int) -> None:
    difference = minimum_detectable_difference(n, 1, family_size=family_size)
    assert math.isfinite(difference) and difference > 0
    assert smallest_exact_p(n) > 0
