"""Tests, effect sizes and corrections: known answers, other libraries, error rates by simulation."""

import itertools
import math
from collections.abc import Callable

import baycomp  # type: ignore[import-untyped]
import numpy as np
import pandas as pd
import pytest
from autorank import autorank  # type: ignore[import-untyped]
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests

from analysis.estimates import NOT_ESTIMABLE, mean_interval, rate_interval
from analysis.significance import (
    MAX_EXACT,
    MAX_PERMUTED,
    NUM_FLIPS,
    NUM_PERMUTATIONS,
    association,
    benjamini_hochberg,
    better_share,
    binomial_p,
    correlation,
    d_z,
    fisher_p,
    hedges_g_av,
    holm,
    least_association_p,
    least_fisher_p,
    least_welch_p,
    paired_t_p,
    rope_probabilities,
    sign_flip_p,
    tost_p,
    welch_p,
    wilcoxon_p,
)
from tests.analysis.simulation import is_share_at_most, is_share_of, null_differences

pytestmark = pytest.mark.filterwarnings("error")
NUM_SETS = 2000
ALPHA = 0.05
KNOWN = np.array([0.3, 0.5, -0.1, 0.8, 0.2, 0.6, 0.4, 0.1, 0.7, 0.9])
KINDS = ["normal", "t3", "skewed", "ties", "collapse"]
PairedTest = Callable[[NDArray[np.float64]], float]


def _all_flips(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array(list(itertools.product([1, -1], repeat=len(values)))) * values


def _is_rejected(test: PairedTest, samples: NDArray[np.float64], alpha: float = ALPHA) -> NDArray[np.bool_]:
    return np.array([test(sample) <= alpha for sample in samples])


def test_sign_flip_of_the_known_answer() -> None:
    assert sign_flip_p(KNOWN) == 6 / 1024


@pytest.mark.parametrize("kind", KINDS)
def test_sign_flip_agrees_with_scipys_permutation_test(kind: str) -> None:
    for sample in null_differences(kind, 5, 9, seed=1) + 0.5:
        expected = stats.permutation_test(
            (sample,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
        )
        assert sign_flip_p(sample) == pytest.approx(expected.pvalue, abs=1e-12)


def test_sign_flip_counts_every_tie_as_such() -> None:
    differences = [0.1, 0.2, 0.3, 0.4, -0.6, 0.7]  # sums of tenths that rounding would tell apart
    tenths = np.array([1, 2, 3, 4, -6, 7])
    sums = np.abs(_all_flips(tenths).sum(axis=1))
    assert sign_flip_p(differences) == (sums >= tenths.sum()).mean()


@pytest.mark.parametrize(("n", "size"), [(5, 0), (6, 1 / 32), (8, 6 / 128), (10, 25 / 512)])
@pytest.mark.parametrize("kind", ["normal", "t3", "skewed"])
def test_sign_flip_has_its_exact_size(kind: str, n: int, size: float) -> None:
    assert is_share_of(_is_rejected(sign_flip_p, null_differences(kind, NUM_SETS, n, seed=n)), size)


@pytest.mark.parametrize("kind", ["ties", "collapse"])
@pytest.mark.parametrize("n", [6, 10])
def test_sign_flip_keeps_its_level_with_ties(kind: str, n: int) -> None:
    rejected = _is_rejected(sign_flip_p, null_differences(kind, NUM_SETS, n, seed=n))
    assert is_share_at_most(rejected, ALPHA)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "skewed"])
def test_sign_flip_by_monte_carlo_has_its_level(kind: str) -> None:
    samples = null_differences(kind, NUM_SETS // 2, MAX_EXACT + 5, seed=2)
    assert is_share_of(_is_rejected(sign_flip_p, samples), ALPHA)


@pytest.mark.slow
def test_sign_flip_by_monte_carlo_keeps_its_level_with_ties() -> None:
    samples = null_differences("ties", NUM_SETS // 2, MAX_EXACT + 5, seed=2)
    assert is_share_at_most(_is_rejected(sign_flip_p, samples), ALPHA)


@pytest.mark.parametrize("shift", [0.1, 0.3, 0.6, 0.9])
def test_sign_flip_by_monte_carlo_agrees_with_the_exact_value(shift: float) -> None:
    values = np.random.default_rng(3).normal(shift, 1, size=18)
    exact = sign_flip_p(values)
    padded = sign_flip_p(np.concatenate([values, np.zeros(MAX_EXACT)]))  # zeros change no sum
    low, high = stats.binom.interval(0.999, NUM_FLIPS, exact)
    assert (low + 1) / (NUM_FLIPS + 1) <= padded <= (high + 1) / (NUM_FLIPS + 1)


def test_sign_flip_by_monte_carlo_is_never_zero() -> None:
    assert sign_flip_p(np.arange(1.0, 61)) == 1 / (NUM_FLIPS + 1)


def test_sign_flip_is_uniform_over_swapped_labels() -> None:
    differences = np.random.default_rng(4).normal(1, 1, size=8)
    p_values = sorted(sign_flip_p(flipped) for flipped in _all_flips(differences))
    assert p_values == [2 * (index // 2 + 1) / 256 for index in range(256)]


@pytest.mark.parametrize("test", [sign_flip_p, wilcoxon_p])
def test_exact_tests_keep_their_level_when_labels_are_permuted_within_blocks(test: PairedTest) -> None:
    rng = np.random.default_rng(5)
    scores = rng.standard_t(3, size=(10, 4)) + np.array([0, 1, 2, 5])  # methods do differ
    permuted = rng.permuted(np.broadcast_to(scores, (NUM_SETS, 10, 4)), axis=2)
    p_values = np.array([test(sample[:, 0] - sample[:, 1]) for sample in permuted])
    for alpha in (0.01, 0.05, 0.2, 0.5):
        assert is_share_at_most(p_values <= alpha, alpha)
    assert not is_share_at_most(p_values <= 0.5, 0.4)


@pytest.mark.parametrize("n", [10, MAX_EXACT + 5])
@pytest.mark.parametrize("test", [sign_flip_p, wilcoxon_p, paired_t_p])
def test_paired_tests_know_neither_order_nor_sign(test: PairedTest, n: int) -> None:
    values = np.random.default_rng(6).normal(0.4, 1, size=n)
    assert test(values[::-1]) == pytest.approx(test(values), rel=1e-12)
    assert test(-values) == pytest.approx(test(values), rel=1e-12)
    assert test(0.01 * values) == pytest.approx(test(values), rel=1e-9)


@pytest.mark.parametrize("test", [sign_flip_p, wilcoxon_p, paired_t_p])
def test_paired_tests_ignore_a_constant_added_to_both_methods(test: PairedTest) -> None:
    images = np.random.default_rng(7).integers(7000, 7020, size=(2, 10))  # many ties of differences
    for added in (0, 37, 1234):
        accuracies = (images + added) / 10_000
        assert test(accuracies[0] - accuracies[1]) == pytest.approx(
            test((images[0] - images[1]) / 1.0), rel=1e-9
        )


def test_paired_t_agrees_with_autorank() -> None:
    rng = np.random.default_rng(8)
    frame = pd.DataFrame({"a": rng.normal(size=12), "b": rng.normal(size=12)})
    found = autorank(frame, alpha=ALPHA, force_mode="parametric")
    assert found.omnibus == "ttest"
    assert paired_t_p(frame["a"] - frame["b"]) == pytest.approx(found.pvalue)


def test_paired_t_has_its_level_on_normal_differences() -> None:
    assert is_share_of(_is_rejected(paired_t_p, null_differences("normal", NUM_SETS, 10, seed=9)), ALPHA)


@pytest.mark.parametrize("kind", ["t3", "skewed", "ties"])
def test_paired_t_keeps_its_level_on_symmetric_differences(kind: str) -> None:
    assert is_share_at_most(_is_rejected(paired_t_p, null_differences(kind, NUM_SETS, 10, seed=9)), ALPHA)


def test_wilcoxon_agrees_with_scipy_without_ties() -> None:
    for sample in np.random.default_rng(10).normal(0.5, 1, size=(20, 11)):
        assert wilcoxon_p(sample) == pytest.approx(stats.wilcoxon(sample, method="exact").pvalue)


def test_wilcoxon_is_exact_with_ties_and_drops_zeros() -> None:
    signed_ranks = np.array([1.5, -1.5, 3.5, 3.5, 5.0])
    sums = np.abs(_all_flips(signed_ranks).sum(axis=1))
    assert wilcoxon_p([0.1, -0.1, 0.2, 0.2, 0.5, 0.0]) == (sums >= signed_ranks.sum()).mean()


@pytest.mark.parametrize("kind", KINDS)
def test_wilcoxon_keeps_its_level(kind: str) -> None:
    rejected = _is_rejected(wilcoxon_p, null_differences(kind, NUM_SETS, 10, seed=11))
    assert is_share_at_most(rejected, ALPHA)


def test_power_of_sign_flip_and_paired_t_is_the_same() -> None:
    samples = np.random.default_rng(12).normal(1, 1, size=(NUM_SETS, 10))
    assert is_share_of(_is_rejected(paired_t_p, samples), 0.80)
    assert is_share_of(_is_rejected(sign_flip_p, samples), 0.79)


def test_hedges_g_av_equals_the_formula() -> None:
    first, second = [3.0, 5.0, 7.0], [1.0, 2.0, 3.0]  # standard deviations 2 and 1
    assert hedges_g_av(first, second) == pytest.approx(3 / 1.5 * (1 - 3 / 15))
    assert hedges_g_av(second, first) == -hedges_g_av(first, second)


def test_hedges_g_av_is_nearly_unbiased() -> None:
    samples = np.random.default_rng(13).normal([[[1]], [[0]]], 1, size=(2, NUM_SETS, 8))
    found = np.array([hedges_g_av(*pair) for pair in zip(*samples, strict=True)])
    assert found.mean() == pytest.approx(1, abs=0.02 + 3.3 * found.std() / math.sqrt(NUM_SETS))


def test_d_z_times_root_n_is_students_t() -> None:
    assert d_z(KNOWN) * math.sqrt(10) == pytest.approx(stats.ttest_1samp(KNOWN, 0).statistic)


def test_correlation_of_known_pairs() -> None:
    assert correlation([1, 2, 3], [1, 3, 2]) == pytest.approx(0.5)
    assert correlation([1, 2, 3], [-2, -4, -6]) == pytest.approx(-1)


def test_better_share_counts_ties_half() -> None:
    share = better_share([0.1, 0.2, -0.3, 0.0])
    assert share.value == 0.625
    assert share.interval == rate_interval(2, 3)


def test_rope_agrees_with_baycomp() -> None:
    n, mean = len(KNOWN), KNOWN.mean()
    correction = 1 / n + 1 / (n - 1)  # baycomp's factor on the variance, for overlapping training sets
    shrunk = mean + (KNOWN - mean) * math.sqrt(1 / n / correction)
    expected = baycomp.two_on_single(shrunk, np.zeros(n), rope=0.3)
    below, inside, above = rope_probabilities(KNOWN, 0.3)
    assert (above, inside, below) == pytest.approx(expected, abs=1e-12)


def test_rope_probabilities_sum_to_one_and_mirror() -> None:
    below, inside, above = rope_probabilities(KNOWN, 0.4)
    assert below + inside + above == pytest.approx(1)
    assert rope_probabilities(-KNOWN, 0.4) == pytest.approx((above, inside, below))


@pytest.mark.parametrize("shift", [-1e6, 1e6])
def test_rope_probabilities_are_never_negative(shift: float) -> None:
    assert min(rope_probabilities(KNOWN + shift, 0.4)) >= 0


def test_rope_probabilities_are_calibrated_under_a_flat_prior() -> None:
    samples = null_differences("normal", NUM_SETS, 6, seed=14)
    assert is_share_of([rope_probabilities(sample, 0).above > 0.9 for sample in samples], 0.1)


@pytest.mark.parametrize("margin", [0.2, 0.5, 0.6, 0.7, 1.0])
def test_tost_rejects_where_the_90_percent_interval_lies_inside(margin: float) -> None:
    low, high = mean_interval(KNOWN, 0.9)
    assert (tost_p(KNOWN, margin) < ALPHA) == (-margin < low and high < margin)


def test_tost_is_the_larger_of_two_one_sided_tests() -> None:
    for mean in (-0.4, 0.1, 2.0):
        sample = KNOWN - KNOWN.mean() + mean
        above_low = stats.ttest_1samp(sample, -0.5, alternative="greater").pvalue
        below_high = stats.ttest_1samp(sample, 0.5, alternative="less").pvalue
        assert tost_p(sample, 0.5) == pytest.approx(max(above_low, below_high))


@pytest.mark.parametrize("true_difference", [-1.0, 1.0])
def test_tost_has_its_level_at_the_edge_of_the_region(true_difference: float) -> None:
    samples = null_differences("normal", NUM_SETS, 12, seed=15) + true_difference
    assert is_share_of([tost_p(sample, 1) <= ALPHA for sample in samples], ALPHA)


def test_fisher_equals_the_hypergeometric_by_hand() -> None:
    assert fisher_p(0, 10, 5, 10) == pytest.approx(2 * math.comb(10, 5) / math.comb(20, 5))
    assert fisher_p(5, 10, 0, 10) == fisher_p(0, 10, 5, 10)


@pytest.mark.parametrize("sizes", [(5, 5), (10, 10), (20, 7)])
def test_fisher_keeps_its_level_at_every_common_rate(sizes: tuple[int, int]) -> None:
    n, n_other = sizes
    rejected = [
        (k, k_other)
        for k in range(n + 1)
        for k_other in range(n_other + 1)
        if fisher_p(k, n, k_other, n_other) <= ALPHA
    ]
    for rate in (0.05, 0.2, 0.5, 0.9):
        size = sum(stats.binom.pmf(k, n, rate) * stats.binom.pmf(j, n_other, rate) for k, j in rejected)
        assert 0 <= size <= ALPHA


def test_binomial_p_sums_the_tail() -> None:
    tail = sum(math.comb(10, k) * 0.05**k * 0.95 ** (10 - k) for k in range(3, 11))
    assert binomial_p(3, 10, 0.05, "greater") == pytest.approx(tail)
    assert binomial_p(8, 10, 0.5) == pytest.approx(2 * sum(math.comb(10, k) for k in (8, 9, 10)) / 1024)


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_binomial_p_keeps_its_level(alternative: str) -> None:
    for rate in (0.05, 0.3, 0.5):
        rejected = [k for k in range(21) if binomial_p(k, 20, rate, alternative) <= ALPHA]
        assert stats.binom.pmf(rejected, 20, rate).sum() <= ALPHA


def test_welch_agrees_with_scipy_and_needs_spread() -> None:
    first, second = np.random.default_rng(16).normal(size=(2, 8))
    expected = stats.ttest_ind(first, second, equal_var=False).pvalue
    assert welch_p(first, second) == pytest.approx(expected)
    assert welch_p([0.1] * 8, second) < 1
    for pair in (([0.1] * 8, [0.2] * 8), ([0.1], [0.2, 0.3]), ([], [])):
        assert math.isnan(welch_p(*pair))


def test_welch_keeps_its_level_at_unequal_spreads() -> None:
    samples = null_differences("normal", 4000, 10, seed=17).reshape(2000, 2, 10) * np.array([[1.0], [4.0]])
    assert is_share_at_most([welch_p(*pair) <= ALPHA for pair in samples], 0.06)  # Welch is approximate


def test_association_by_hand() -> None:
    """Of the 6 permutations of three seeds, the identity and its mirror have a rank correlation of 1."""
    column = np.array([[1.0], [2.0], [5.0]])
    assert association(column, column) == pytest.approx((1, 2 / 6))
    assert association(column, -column) == pytest.approx((-1, 2 / 6))
    assert association(column, np.array([[1.0], [9.0], [2.0]])) == pytest.approx((0.5, 6 / 6))


def test_association_is_the_mean_of_rank_correlations() -> None:
    first, second = np.random.default_rng(18).normal(size=(2, 9, 4))
    expected = [stats.spearmanr(first[:, column], second[:, column]).statistic for column in range(4)]
    assert association(first, second).correlation == pytest.approx(np.mean(expected))


@pytest.mark.slow
@pytest.mark.parametrize("num_seeds", [6, 10])
def test_association_keeps_its_level_whatever_columns_and_seeds_share(num_seeds: int) -> None:
    """Columns differ in their means on both sides, and all columns of a seed go together on each."""
    rng = np.random.default_rng(19)
    shape = (1000, num_seeds, 5)
    first, second = (
        rng.normal(size=shape) + 3 * np.arange(5) + 2 * rng.standard_t(3, (1000, num_seeds, 1))
        for _ in range(2)
    )
    rejected = [association(*pair).p_value <= ALPHA for pair in zip(first, second, strict=True)]
    assert is_share_at_most(rejected, ALPHA)
    assert association(first[0], first[0] + 0.1 * second[0]).p_value < 0.01


def test_association_needs_seeds_spread_and_finite_values() -> None:
    column, constant = np.arange(6.0)[:, None], np.ones((6, 1))
    assert math.isnan(association(column, constant).p_value)
    assert association(
        np.hstack([column, constant]), np.hstack([column, column])
    ).correlation == pytest.approx(1)
    assert math.isnan(association(column[:2], column[:2]).p_value)
    assert math.isnan(association(column, np.where(column == 3, math.nan, column)).p_value)
    assert math.isnan(association(np.empty((6, 0)), np.empty((6, 0))).p_value)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.01, 0.04, 0.03], 24) == pytest.approx([0.24, 22 * 0.04, 23 * 0.03])
    assert holm([0.3, 0.9]) == pytest.approx([0.6, 0.9])


def test_holm_agrees_with_statsmodels_on_the_completed_family() -> None:
    p_values = np.random.default_rng(24).random(9) ** 3
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])
    completed = np.concatenate([p_values, np.ones(15)])
    assert holm(p_values, 24) == pytest.approx(multipletests(completed, method="holm")[1][:9])


def test_holm_counts_what_could_not_be_tested() -> None:
    np.testing.assert_allclose(holm([0.01, math.nan, 0.02]), [0.03, math.nan, 0.04])
    np.testing.assert_allclose(holm([0.01, math.nan], 4), [0.04, math.nan])
    assert np.isnan(holm([math.nan, math.nan])).all() and len(holm([])) == len(holm([], 24)) == 0


def _p_values_sharing_a_comparator(num_sets: int, effects: list[float], seed: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    normal = (rng.normal(size=(num_sets, len(effects))) + rng.normal(size=(num_sets, 1))) / math.sqrt(2)
    p_values: NDArray[np.float64] = 2 * stats.norm.sf(np.abs(normal + effects))
    return p_values


@pytest.mark.parametrize("effects", [[0.0] * 8, [0.0] * 5 + [2.5, 3, 4]])
def test_holm_controls_the_family_wise_rate(effects: list[float]) -> None:
    is_null = np.array(effects) == 0
    sets = _p_values_sharing_a_comparator(NUM_SETS, effects, seed=20)
    any_false = [bool((holm(p_values)[is_null] <= ALPHA).any()) for p_values in sets]
    assert is_share_at_most(any_false, ALPHA)
    assert not is_share_at_most([bool((p_values[is_null] <= ALPHA).any()) for p_values in sets], ALPHA)


@pytest.mark.slow
def test_holm_of_sign_flips_controls_the_declared_family() -> None:
    contrasts = null_differences("skewed", 24 * 2000, 10, seed=21)
    p_values = np.array([sign_flip_p(sample) for sample in contrasts]).reshape(2000, 24)
    assert is_share_at_most([bool((holm(row) <= ALPHA).any()) for row in p_values], ALPHA)


def test_benjamini_hochberg_by_hand_and_without_nan() -> None:
    np.testing.assert_allclose(benjamini_hochberg([0.01, math.nan, 0.02, 0.9]), [0.03, math.nan, 0.03, 0.9])
    assert np.isnan(benjamini_hochberg([math.nan])).all() and len(benjamini_hochberg([])) == 0


def test_benjamini_hochberg_agrees_with_scipy() -> None:
    p_values = np.random.default_rng(22).random(30) ** 2
    assert benjamini_hochberg(p_values) == pytest.approx(stats.false_discovery_control(p_values))


def test_benjamini_hochberg_controls_the_false_discovery_rate() -> None:
    q, num_null, num_planted = 0.2, 12, 8
    rng = np.random.default_rng(23)
    effects = np.repeat([0.0, 3.0], [num_null, num_planted])
    sets = 2 * stats.norm.sf(np.abs(rng.normal(effects, 1, size=(NUM_SETS, 20))))
    found = np.array([benjamini_hochberg(p_values) <= q for p_values in sets])
    false_shares = found[:, :num_null].sum(axis=1) / np.maximum(1, found.sum(axis=1))
    margin = 3.3 * false_shares.std() / math.sqrt(NUM_SETS)
    assert false_shares.mean() == pytest.approx(q * num_null / (num_null + num_planted), abs=margin)


@pytest.mark.parametrize("values", [[], [math.nan, 1.0, 2, 3], [math.inf, 1.0, 2, 3]])
def test_everything_is_nan_where_values_are_missing(values: list[float]) -> None:
    others = [1.0, 2, 3, 5][: len(values)]
    for test in (sign_flip_p, wilcoxon_p, paired_t_p, d_z):
        assert math.isnan(test(values))
    assert all(map(math.isnan, rope_probabilities(values, 1))) and math.isnan(tost_p(values, 1))
    assert math.isnan(hedges_g_av(values, others)) and math.isnan(correlation(values, others))


def test_better_share_is_nan_where_values_are_missing() -> None:
    assert better_share([]) == better_share([math.nan, 1.0]) and math.isnan(better_share([]).value)
    assert better_share([0.0, 0.0]) == (0.5, NOT_ESTIMABLE)


@pytest.mark.parametrize("values", [[0.1] * 3, [0.0] * 6, [0.3, 0.1 + 0.2, 0.3], [0.1] * 10, [0.5]])
def test_nothing_is_divided_by_a_spread_of_zero(values: list[float]) -> None:
    for test in (paired_t_p, d_z):
        assert math.isnan(test(values))
    assert all(map(math.isnan, rope_probabilities(values, 0))) and math.isnan(tost_p(values, 0))
    assert math.isnan(hedges_g_av(values, [2 * value for value in values]))
    assert math.isnan(correlation(values, list(range(len(values)))))


def test_equal_differences_are_equivalent_inside_the_margin_alone() -> None:
    """The limit of ever smaller spreads around 0.2: within 0.3, and not within 0.2 or less."""
    for sd in (1e-3, 1e-6, 0.0):
        values = 0.2 + sd * np.array([-1.0, 1, -1, 1, -1, 1])
        assert tost_p(values, 0.3) == pytest.approx(0, abs=1e-9)
        assert rope_probabilities(values, 0.3) == pytest.approx((0, 1, 0), abs=1e-9)
        assert tost_p(-values, 0.3) == pytest.approx(0, abs=1e-9)
    for margin in (0.2, 0.1):
        assert math.isnan(tost_p([0.2] * 6, margin))
    assert math.isnan(tost_p([0.2], 0.3))


def test_exact_tests_of_equal_differences() -> None:
    assert sign_flip_p([0.1] * 10) == wilcoxon_p([0.1] * 10) == 2 / 1024
    assert sign_flip_p([0.0] * 10) == 1 and math.isnan(wilcoxon_p([0.0] * 10))
    assert sign_flip_p([0.4]) == wilcoxon_p([0.4]) == 1


@pytest.mark.parametrize(("n", "n_other"), [(3, 3), (3, 12), (12, 3), (5, 2)])
def test_least_p_of_two_rates_is_that_of_no_other_table(n: int, n_other: int) -> None:
    tables = [(k, k_other) for k in range(n + 1) for k_other in range(n_other + 1)]
    smallest = min(fisher_p(k, n, k_other, n_other) for k, k_other in tables)
    assert least_fisher_p(n, n_other) == pytest.approx(smallest)


def test_least_p_of_an_association_is_that_of_equal_columns() -> None:
    """The reversed order of four seeds counts with the order itself, unless another column has another."""
    one = np.array([[0.0], [1], [2], [3]])
    assert association(one, one).p_value == least_association_p(4, 1) == 2 / 24
    two = np.hstack([one, one[[1, 0, 2, 3]]])
    assert association(two, two).p_value == least_association_p(4, 2) == 1 / 24
    assert math.isnan(least_association_p(2, 2)) and math.isnan(least_association_p(4, 0))
    assert least_association_p(MAX_PERMUTED + 1) == 1 / (NUM_PERMUTATIONS + 1)


def test_welchs_test_has_no_least_p_from_two_values_on() -> None:
    assert math.isnan(least_welch_p(1)) and math.isnan(welch_p([0.0], [1.0, 1.1]))
    assert least_welch_p(2) == 0 and welch_p([0, 1e-9], [1, 1 + 1e-9]) < 1e-9


def test_rates_without_runs_are_nan() -> None:
    assert math.isnan(fisher_p(0, 0, 1, 5)) and math.isnan(fisher_p(1, 5, 0, 0))
    assert fisher_p(0, 5, 0, 5) == fisher_p(5, 5, 5, 5) == 1
    assert math.isnan(binomial_p(0, 0, 0.5))
