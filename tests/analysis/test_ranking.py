"""Simultaneous ranks and intervals of all methods: known answers, size, coverage."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from analysis.ranking import MAX_JOINT, Rank, all_pairs_p, rank_methods, simultaneous_intervals
from analysis.significance import sign_flip_p
from tests.analysis.simulation import is_share_at_most, is_share_of

FloatArray = NDArray[np.float64]
NUM_SETS = 1000


def draw(rng: np.random.Generator, kind: str, num_seeds: int, means_M: FloatArray) -> FloatArray:
    """Return values that share what a seed is; methods differ in spread, and go together in pairs."""
    shape = (num_seeds, len(means_M))
    match kind:
        case "normal":
            own_SM = rng.normal(size=shape)
        case "t3":
            own_SM = rng.standard_t(3, size=shape)
        case "ties":
            own_SM = rng.integers(-1, 2, size=shape) * 1.0
    own_SM[:, 1::2] += own_SM[:, : shape[1] - shape[1] % 2 : 2]
    return means_M + rng.normal(0, 3, size=(num_seeds, 1)) + own_SM * np.linspace(0.5, 2, len(means_M))


# Known answers


def test_two_columns_have_the_p_value_of_their_differences() -> None:
    values_SM = np.random.default_rng(0).normal(size=(9, 2)) + np.array([0, 0.8])
    p_MM = all_pairs_p(values_SM)
    assert p_MM[0, 1] == p_MM[1, 0] == sign_flip_p(values_SM[:, 0] - values_SM[:, 1])
    assert p_MM[0, 0] == p_MM[1, 1] == 1


def test_p_values_are_those_of_the_largest_t_over_all_signs() -> None:
    values_SM = np.random.default_rng(1).normal(size=(7, 4)) + np.array([0, 0.5, 1, 3])
    pairs = list(itertools.combinations(range(4), 2))
    differences = np.array([values_SM[:, i] - values_SM[:, j] for i, j in pairs])
    found = np.abs(stats.ttest_1samp(differences, 0, axis=1).statistic)
    largest = [
        np.abs(stats.ttest_1samp(differences * signs, 0, axis=1).statistic).max()
        for signs in itertools.product((1, -1), repeat=7)
    ]
    for (i, j), t in zip(pairs, found, strict=True):
        assert all_pairs_p(values_SM)[i, j] == pytest.approx(np.mean(np.array(largest) >= t - 1e-9))


def test_p_values_hang_on_differences_alone() -> None:
    values_SM = np.random.default_rng(2).normal(size=(8, 5)) + np.arange(5)
    p_MM = all_pairs_p(values_SM)
    of_seed = np.random.default_rng(3).normal(0, 100, size=(8, 1))
    assert all_pairs_p(values_SM + of_seed) == pytest.approx(p_MM)
    assert all_pairs_p(7 * values_SM) == pytest.approx(p_MM)
    order, seeds = [3, 0, 4, 1, 2], [7, 2, 1, 0, 3, 6, 5, 4]
    assert all_pairs_p(values_SM[seeds][:, order]) == pytest.approx(p_MM[order][:, order])


def test_many_blocks_are_drawn_and_agree_with_all_of_them() -> None:
    values_SM = np.random.default_rng(4).normal(size=(MAX_JOINT + 2, 2)) + np.array([0, 0.4])
    exact = sign_flip_p(values_SM[:, 0] - values_SM[:, 1])
    assert all_pairs_p(values_SM)[0, 1] == pytest.approx(exact, abs=0.015)


def test_ranks_are_told_where_differences_are_large_and_open_where_there_are_none() -> None:
    rng = np.random.default_rng(5)
    values_SM = rng.normal(0, 5, size=(10, 1)) + rng.normal(0, 0.1, size=(10, 4)) + np.array([1, 3, 3, 0])
    first, *others, last = rank_methods(values_SM)
    assert (first, last) == (Rank(3, 3, 3), Rank(4, 4, 4))
    assert {(rank.low, rank.high) for rank in others if rank} == {(1, 2)}
    assert [rank.value for rank in rank_methods(values_SM, is_higher_better=False) if rank][-1] == 1


def test_five_seeds_tell_no_ranks() -> None:
    values_SM = np.random.default_rng(6).normal(0, 0.01, size=(5, 3)) + np.array([1, 2, 3])
    assert rank_methods(values_SM) == [Rank(3, 1, 3), Rank(2, 1, 3), Rank(1, 1, 3)]


def test_columns_that_are_equal_are_not_told_apart() -> None:
    values_SM = np.repeat(np.random.default_rng(7).normal(size=(8, 1)), 3, axis=1)
    assert rank_methods(values_SM) == [Rank(1, 1, 3)] * 3
    worse_SM = np.hstack([values_SM[:, :2], values_SM[:, :1] - 1.0])
    assert rank_methods(worse_SM) == [Rank(1, 1, 2), Rank(1, 1, 2), Rank(3, 3, 3)]
    assert [rank.value for rank in rank_methods(worse_SM, is_higher_better=False) if rank] == [2, 2, 1]


def test_method_without_a_value_has_no_rank_and_pairs_use_the_seeds_that_both_have() -> None:
    values_SM = np.random.default_rng(8).normal(0, 0.01, size=(9, 3)) + np.array([1, 2, 0])
    values_SM[:, 2] = np.nan
    values_SM[6:, 1] = np.nan
    assert all_pairs_p(values_SM)[0, 1] == 2 / 2**6
    assert rank_methods(values_SM) == [Rank(2, 2, 2), Rank(1, 1, 1), None]
    values_SM[5:, 1] = np.nan
    assert rank_methods(values_SM)[0] == Rank(2, 1, 2)


def test_interval_of_one_mean_is_students_and_of_four_takes_a_quarter_of_the_error() -> None:
    values_SM = np.array([[0.0, 1.0, 2.0, 5.0], [1.0, 3.0, 5.0, 5.0], [2.0, 2.0, 8.0, 5.0]])
    (alone,) = simultaneous_intervals(values_SM[:, :1])
    assert alone == pytest.approx((1 - 4.3027 / np.sqrt(3), 1 + 4.3027 / np.sqrt(3)), abs=1e-4)
    first, _, third, constant = simultaneous_intervals(values_SM)
    quantile = stats.t.ppf(1 - 0.05 / 8, 2)
    assert first.high == pytest.approx(1 + quantile / np.sqrt(3))
    assert third.low == pytest.approx(5 - 3 * quantile / np.sqrt(3)) and np.isnan(constant.low)


# Size and coverage


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "num_seeds"), [("normal", 8), ("t3", 8), ("normal", 16)])
def test_no_difference_is_found_in_one_of_twenty_studies_and_seldomer(kind: str, num_seeds: int) -> None:
    """Exactly as often as the steps of the test allow, where nothing is tied."""
    rng = np.random.default_rng(9)
    found = [
        bool((all_pairs_p(draw(rng, kind, num_seeds, np.zeros(6))) < 0.05).any())
        for _ in range(NUM_SETS // 2)
    ]
    size = 6 / 2**7 if num_seeds == 8 else 0.0475  # below .05 in steps of 1 / 128
    assert is_share_of(found, size)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "t3", "ties"])
def test_intervals_hold_the_true_ranks_of_all_methods_together(kind: str) -> None:
    """Also where some methods are equal, which may then have any of their ranks."""
    means_M = np.array([0.0, 0.0, 0.0, 3.0, 3.0, 9.0])
    low_M = [1 + (means_M > mean).sum() for mean in means_M]
    high_M = [(means_M >= mean).sum() for mean in means_M]
    rng, missed, widths = np.random.default_rng(10), [], []
    for _ in range(NUM_SETS // 2):
        ranks = rank_methods(draw(rng, kind, 10, means_M))
        missed.append(
            any(
                rank is None or rank.low > low or rank.high < high
                for rank, low, high in zip(ranks, low_M, high_M, strict=True)
            )
        )
        widths.append(np.mean([rank.high - rank.low for rank in ranks if rank]))
    assert is_share_at_most(missed, 0.05)
    assert np.mean(widths) < 4  # of 5: they say something


@pytest.mark.slow
@pytest.mark.parametrize("num_methods", [1, 5, 30])
def test_intervals_hold_all_means_together(num_methods: int) -> None:
    rng, means_M = np.random.default_rng(11), np.linspace(0, 5, num_methods)
    missed = []
    for _ in range(NUM_SETS):
        intervals = simultaneous_intervals(draw(rng, "normal", 10, means_M))
        missed.append(
            any(not low <= mean <= high for (low, high), mean in zip(intervals, means_M, strict=True))
        )
    assert is_share_at_most(missed, 0.05)
    # Intervals that hold one by one would miss some of 30 far more often.
    assert num_methods > 1 or is_share_of(missed, 0.05)
