"""Rank methods, with intervals that hold jointly for all of them.

Shape suffixes: S seeds (or other blocks), M methods, P pairs of methods, F draws of signs.
"""

import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.estimates import TOLERANCE, Interval, mean_interval
from analysis.significance import FLIP_SEED

ALPHA = 0.05
MAX_JOINT = 14
"""blocks up to which all sign vectors are enumerated"""
NUM_JOINT = 9_999
"""random sign vectors above that"""
_CHUNK = 4_000_000
"""signed sums in memory at a time"""

FloatArray = NDArray[np.float64]


class Rank(NamedTuple):
    """The rank of a method, 1 for the best, with its interval."""

    value: int
    low: int
    high: int


def all_pairs_p(values_SM: FloatArray) -> FloatArray:
    """Return p values `p_MM` of the differences of all pairs of columns, corrected for multiple testing.

    The signs of all differences of a block are flipped together (single-step max statistic: Westfall and
    Young 1993, section 2.3), so each pair is compared with the largest |sum| / sqrt(sum of squares) of any
    pair. Exact up to `MAX_JOINT` blocks, then Monte Carlo with `NUM_JOINT` fixed draws and the + 1
    correction. It assumes that the deviations of a block's values from their expectations are jointly
    symmetric, and nothing about their shape, size or correlation. Then the probability of any false
    difference is at most the level, whichever other differences are true. Below 6 blocks it cannot reach .05.

    Args:
        values_SM: nan where a block lacks a method; a pair is compared over the blocks that have both.
    """
    num_methods = values_SM.shape[1]
    p_MM = np.ones((num_methods, num_methods))
    firsts, seconds = np.triu_indices(num_methods, k=1)
    differences_SP = np.nan_to_num(values_SM[:, firsts] - values_SM[:, seconds])
    scale = np.abs(differences_SP).max(initial=0.0)
    if scale == 0:
        return p_MM
    differences_SP = np.where(np.abs(differences_SP) > TOLERANCE * max(1.0, scale), differences_SP, 0.0)
    lengths_P = np.linalg.norm(differences_SP, axis=0)
    unit_SP = differences_SP / np.where(lengths_P > 0, lengths_P, 1.0)
    found_P = np.abs(unit_SP.sum(axis=0))
    largest_F = _largest_sums(unit_SP)
    hits_P = (largest_F[:, np.newaxis] >= found_P - TOLERANCE * len(values_SM)).sum(axis=0)
    is_exact = len(values_SM) <= MAX_JOINT
    p_P = hits_P / len(largest_F) if is_exact else (hits_P + 1) / (len(largest_F) + 1)
    p_MM[firsts, seconds] = p_MM[seconds, firsts] = p_P
    return p_MM


def _largest_sums(unit_SP: FloatArray) -> FloatArray:
    """Return the largest |sum| of any column under each vector of signs."""
    signs_FS = _draw_signs(len(unit_SP))
    step = max(1, _CHUNK // unit_SP.shape[1])
    chunks = (signs_FS[start : start + step] for start in range(0, len(signs_FS), step))
    return np.concatenate([np.abs(chunk_FS @ unit_SP).max(axis=1) for chunk_FS in chunks])


def _draw_signs(num_blocks: int) -> FloatArray:
    """Return all vectors of signs up to a common sign, which changes no |sum|; or random vectors."""
    if num_blocks > MAX_JOINT:
        return np.random.default_rng(FLIP_SEED).choice((-1.0, 1.0), size=(NUM_JOINT, num_blocks))
    others = itertools.product((1.0, -1.0), repeat=num_blocks - 1)
    return np.array([(1.0, *signs) for signs in others], dtype=np.float64)


def rank_methods(values_SM: FloatArray, *, is_higher_better: bool = True) -> list[Rank | None]:
    """Return the rank of each column by its mean, with a 95 % interval; all intervals hold together.

    A method ranks below those that `all_pairs_p` finds better and above those that it finds worse; its order
    relative to the others is undecided, and so is its rank (as Al Mohamad et al. 2017, arXiv 1708.02729, use
    Tukey's test). Equal means have one rank, the highest of their places. None for a column without a value.
    """
    signed_SM = values_SM if is_higher_better else -values_SM
    known = np.flatnonzero(~np.isnan(signed_SM).all(axis=0))
    known_SM = signed_SM[:, known]
    is_told_MM = all_pairs_p(known_SM) < ALPHA
    lead_MM = np.array([[_mean_lead(first, second) for second in known_SM.T] for first in known_SM.T])
    means = [float(np.nanmean(column_S)) for column_S in known_SM.T]
    ranks: list[Rank | None] = [None] * values_SM.shape[1]
    for index, mean in enumerate(means):
        place = 1 + sum(other > mean + TOLERANCE * max(1.0, abs(mean)) for other in means)
        num_worse = int((is_told_MM[index] & (lead_MM[index] > 0)).sum())
        num_better = int((is_told_MM[index] & (lead_MM[index] < 0)).sum())
        # Over unequal blocks a mean may stand out of the order of the pairs.
        low, high = 1 + num_better, len(known) - num_worse
        ranks[known[index]] = Rank(place, min(low, place), max(high, place))
    return ranks


def simultaneous_intervals(values_SM: FloatArray) -> list[Interval]:
    """Return Student t intervals of the means of all columns that hold together at 95 % (Bonferroni).

    Columns without a value do not count; nan where one does not vary.
    """
    columns = [column_S[~np.isnan(column_S)] for column_S in values_SM.T]
    num_known = max(1, sum(len(column) > 0 for column in columns))
    return [mean_interval(column, 1 - ALPHA / num_known) for column in columns]


def _mean_lead(first_S: FloatArray, second_S: FloatArray) -> float:
    differences_S = first_S - second_S
    return float(np.nanmean(differences_S)) if not np.isnan(differences_S).all() else 0.0
