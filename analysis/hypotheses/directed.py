"""Tests of claims that have a direction, fixed before results are read.

Each takes one row per seed and one column per cell, and returns an outcome: an effect, positive in the
direction of the claim, its two-sided p value, and the smallest p value that this number of seeds can give.
Verdicts for and against a claim are the two sides of one test, so together they are wrong with probability
`ALPHA` at most.

Shape suffixes: S seeds, M cells.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.power import smallest_exact_p
from analysis.significance import sign_flip_p

FloatArray = NDArray[np.float64]


class Outcome(NamedTuple):
    """The outcome of a test."""

    effect: float
    """positive in the direction of the claim"""
    p_value: float
    """two-sided"""
    least_p: float
    """the smallest p value that the test can give at this n, corrected as the p value is"""


Test = Callable[[FloatArray], Outcome]


def positive_mean(values_S: FloatArray) -> Outcome:
    """Test that the mean over seeds is positive: sign-flip test."""
    return Outcome(float(values_S.mean()), sign_flip_p(values_S), smallest_exact_p(len(values_S)))


def lead(values_SM: FloatArray) -> Outcome:
    """Test that the first cell has more than the second."""
    return positive_mean(values_SM[:, 0] - values_SM[:, 1])


def non_inferiority(margin: float) -> Test:
    """Return the test that the first cell is not inferior to the second by more than a margin.

    A difference that is not significant does not show this, and a difference below the margin does not refute
    it.
    """
    return lambda values_SM: positive_mean(values_SM[:, 0] - values_SM[:, 1] + margin)


def equivalence(margin: float) -> Test:
    """Return the test that two cells differ by less than a margin: two sign-flip tests, one for each side.

    The effect is the margin minus the size of the difference. Within the margin both sides must be
    significant; beyond it, the side that is exceeded.
    """

    def test(values_SM: FloatArray) -> Outcome:
        differences_S = values_SM[:, 0] - values_SM[:, 1]
        low, high = positive_mean(margin + differences_S), positive_mean(margin - differences_S)
        nearer = min(low, high)
        return nearer if nearer.effect < 0 else nearer._replace(p_value=max(low.p_value, high.p_value))

    return test


def rising_trend(levels: Sequence[float]) -> Test:
    """Return the test that values rise with the level of their cell: sign-flip test on each seed's slope.

    Page's test would assume that the cells of a seed are exchangeable if there is no trend. They are not:
    cells that share a generator are correlated, and a cell without one is not, so it would find trends too
    often.
    """
    centred_M = np.asarray(levels, dtype=np.float64) - np.mean(levels)
    return lambda values_SM: positive_mean(values_SM @ centred_M / (centred_M @ centred_M))


def shrinking_gap(values_SM: FloatArray) -> Outcome:
    """Test that a gap is smaller, or reversed, in the second pair of cells.

    The direction of the first pair's gap is a result, not a choice, so that gap must be significant itself.
    The p value is the larger of both (intersection-union).

    Args:
        values_SM: columns are first and second cell of the first pair, then of the second pair.
    """
    first_S, second_S = values_SM[:, 0] - values_SM[:, 1], values_SM[:, 2] - values_SM[:, 3]
    gap = positive_mean(first_S)
    change = positive_mean(np.sign(gap.effect) * (first_S - second_S))
    return change._replace(p_value=max(gap.p_value, change.p_value))


def wider_spread(values_SM: FloatArray) -> Outcome:
    """Test that the lead of cell 0 over 1 spreads more over seeds than that of cell 2 over 3.

    Deviations from the median, as Brown and Forsythe (1974) take them, compared seed by seed: both have the
    same seeds, which an unpaired test would ignore. The effect is the difference of mean deviations, which is
    finite where one does not spread.
    """
    leads_SM = values_SM[:, [0, 2]] - values_SM[:, [1, 3]]
    deviations_SM = np.abs(leads_SM - np.median(leads_SM, axis=0))
    return lead(deviations_SM)
