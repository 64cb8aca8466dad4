"""Tests of claims that have a direction, fixed before results are read.

Each takes one row a seed and one column a cell, and returns an outcome: an effect that is positive where it
points as the claim says, and its two-sided p value. A verdict for a claim and one against it are the two
sides of one test, so that together they are wrong with a probability of `ALPHA` at most.

Shape suffixes: S seeds, M cells.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.significance import sign_flip_p

FloatArray = NDArray[np.float64]


class Outcome(NamedTuple):
    """What a test found."""

    effect: float
    """positive where it points as the claim says"""
    p_value: float
    """two-sided"""


Test = Callable[[FloatArray], Outcome]


def positive_mean(values_S: FloatArray) -> Outcome:
    """Test that the mean over seeds is positive: exact sign-flip test."""
    return Outcome(float(values_S.mean()), sign_flip_p(values_S))


def lead(values_SM: FloatArray) -> Outcome:
    """Test that the first cell has more than the second."""
    return positive_mean(values_SM[:, 0] - values_SM[:, 1])


def non_inferiority(margin: float) -> Test:
    """Return the test that the first cell matches or beats the second: it falls short by less than a margin.

    A claim to match is not shown by a difference that is not significant, nor refuted by one that is too
    small to matter.
    """
    return lambda values_SM: positive_mean(values_SM[:, 0] - values_SM[:, 1] + margin)


def equivalence(margin: float) -> Test:
    """Return the test that two cells differ by less than a margin: two sign-flip tests, one for each side.

    The effect is the room left within the margin. Inside it both sides must be significant; beyond it, the
    one that is passed.
    """

    def test(values_SM: FloatArray) -> Outcome:
        differences_S = values_SM[:, 0] - values_SM[:, 1]
        low, high = positive_mean(margin + differences_S), positive_mean(margin - differences_S)
        nearer = min(low, high)
        return nearer if nearer.effect < 0 else Outcome(nearer.effect, max(low.p_value, high.p_value))

    return test


def rising_trend(levels: Sequence[float]) -> Test:
    """Return the test that values rise with the level of their cell: sign-flip test on each seed's slope.

    Page's test would take the cells of a seed as exchangeable where nothing rises. They are not: cells that
    share a generator go together, and one without any does not; then it finds trends too often.
    """
    centred_M = np.asarray(levels, dtype=np.float64) - np.mean(levels)
    return lambda values_SM: positive_mean(values_SM @ centred_M / (centred_M @ centred_M))


def shrinking_gap(values_SM: FloatArray) -> Outcome:
    """Test that a gap is smaller, or turned round, in the second pair of cells than in the first.

    The gap of the first pair has to be there: which way it points is a result, not a choice, so that it
    counts as far as it is significant itself. The p value is the larger of both (intersection-union).

    Args:
        values_SM: columns are first and second cell of the first pair, then of the second pair.
    """
    first_S, second_S = values_SM[:, 0] - values_SM[:, 1], values_SM[:, 2] - values_SM[:, 3]
    gap = positive_mean(first_S)
    change = positive_mean(np.sign(gap.effect) * (first_S - second_S))
    return Outcome(change.effect, max(gap.p_value, change.p_value))


def wider_spread(values_SM: FloatArray) -> Outcome:
    """Test that the lead of cell 0 over 1 spreads more over seeds than that of cell 2 over 3.

    Deviations from the median, as Brown and Forsythe (1974) take them, compared seed by seed: the seeds of
    both are the same, which an unpaired test would give away. The effect is the difference of mean
    deviations, which is finite where one does not spread.
    """
    leads_SM = values_SM[:, [0, 2]] - values_SM[:, [1, 3]]
    deviations_SM = np.abs(leads_SM - np.median(leads_SM, axis=0))
    return lead(deviations_SM)
