"""Tests of paired differences, rates and associations, effect sizes, and corrections for multiple tests.

Differences are one number per seed. Nothing here raises or warns on degenerate data. What cannot be tested,
because values are too few, do not vary or are not finite, is nan.
"""

import functools
import itertools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats
from statsmodels.stats.multitest import multipletests

from analysis.estimates import NOT_ESTIMABLE, TOLERANCE, Interval, Values, rate_interval, sample_sd

MAX_EXACT = 20
"""pairs up to which all sign vectors are enumerated"""
NUM_FLIPS = 99_999
"""random sign vectors above that"""
EXACT = f"exact up to {MAX_EXACT} pairs, random signs above"
"""how exact the sign-flip test is, in words"""
MAX_PERMUTED = 7
"""seeds up to which all permutations are enumerated"""
NUM_PERMUTATIONS = 9_999
"""random permutations above that"""
FLIP_SEED = 20_261_124


def say_p(value: float, form: str = "f") -> str:
    """Return a p value with three digits, and more where these would move it to 0.05 or across it."""
    if math.isnan(value):
        return "nan"
    side = 0.0 if abs(value - 0.05) < TOLERANCE else np.sign(value - 0.05)
    texts = (f"{value:.{digits}{form}}" for digits in itertools.count(3))
    return next(text for text in texts if side == 0 or np.sign(float(text) - 0.05) == side)


def sign_flip_p(differences: Values) -> float:
    """Return the two-sided p value of the sign-flip test on the mean.

    Exact over all 2^n sign vectors up to `MAX_EXACT` pairs, then Monte Carlo with `NUM_FLIPS` fixed draws and
    the + 1 correction. It assumes only that differences are symmetric about 0 under the null hypothesis.
    Below 6 pairs it cannot reach .05; differences that are all 0 give 1.
    """
    values = np.asarray(differences, dtype=np.float64)
    if len(values) == 0 or not np.isfinite(values).all():
        return math.nan
    magnitudes = np.sort(np.abs(values))  # so that neither order nor overall sign moves a draw
    bound = abs(values.sum()) - TOLERANCE * magnitudes.sum()
    if len(values) <= MAX_EXACT:
        mirrored_sums = magnitudes[0] + _signed_sums(magnitudes[1:])
        return float((np.abs(mirrored_sums) >= bound).mean())
    hits = int((np.abs(_random_signed_sums(magnitudes)) >= bound).sum())
    return (hits + 1) / (NUM_FLIPS + 1)


def _signed_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the 2^n sums under all sign vectors."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def _random_signed_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sums under `NUM_FLIPS` random sign vectors, the same for equally many values.

    A random byte looks up the signed sum of eight values.
    """
    octets = np.pad(values, (0, -len(values) % 8)).reshape(-1, 8)
    sums = np.zeros(NUM_FLIPS)
    for octet, picks in zip(octets, _random_bytes(len(octets)), strict=True):
        sums += _signed_sums(octet)[picks]
    return sums


@functools.lru_cache(maxsize=4)
def _random_bytes(num_octets: int) -> NDArray[np.uint8]:
    return np.random.default_rng(FLIP_SEED).integers(256, size=(num_octets, NUM_FLIPS), dtype=np.uint8)


def paired_t_p(differences: Values) -> float:
    """Return the two-sided p value of the paired t test; nan below two pairs or without variance."""
    if not sample_sd(differences) > 0:
        return math.nan
    values = np.asarray(differences, dtype=np.float64)
    n, mean = len(values), values.mean()
    # As `scipy.stats.ttest_1samp` computes it, to the bit, without the fifty times of its own.
    variance = np.mean((values - mean) ** 2) * (n / (n - 1))
    return float(2 * special.stdtr(n - 1, -abs(mean / math.sqrt(variance / n))))


def wilcoxon_p(differences: Values) -> float:
    """Return the two-sided p value of Wilcoxon's signed-rank test, as exact as `sign_flip_p`, also with ties.

    It is that test on signed ranks. Zeros are dropped; nan where nothing is left.
    """
    values = np.asarray(differences, dtype=np.float64)
    scale = np.abs(values).max(initial=0.0)
    if scale == 0 or not np.isfinite(scale):
        return math.nan
    values = np.round(values / scale, 12)  # rounding errors break no tie and make no difference of a zero
    values = values[values != 0]
    return sign_flip_p(np.sign(values) * stats.rankdata(np.abs(values)))


def hedges_g_av(first: Values, second: Values) -> float:
    """Return the mean difference over the average standard deviation, corrected for small n (Hedges).

    Nan where neither varies.
    """
    spread = (sample_sd(first) + sample_sd(second)) / 2
    if not spread > 0:
        return math.nan
    return float(np.mean(first) - np.mean(second)) / spread * (1 - 3 / (8 * len(first) - 9))


def d_z(differences: Values) -> float:
    """Return the mean difference over the standard deviation of the differences."""
    sd = sample_sd(differences)
    return float(np.mean(differences)) / sd if sd > 0 else math.nan


def correlation(first: Values, second: Values) -> float:
    """Return Pearson's correlation; nan without variance or below three pairs."""
    if len(first) < 3 or not (sample_sd(first) > 0 and sample_sd(second) > 0):
        return math.nan
    return float(np.corrcoef(first, second)[0, 1])


class Share(NamedTuple):
    """A share with its Clopper-Pearson interval at 95 %."""

    value: float
    interval: Interval


def better_share(differences: Values) -> Share:
    """Return the share of pairs with a positive difference, ties half; the interval is over untied pairs."""
    values = np.asarray(differences, dtype=np.float64)
    if len(values) == 0 or np.isnan(values).any():
        return Share(math.nan, NOT_ESTIMABLE)
    won, lost = int((values > 0).sum()), int((values < 0).sum())
    return Share((1 + (won - lost) / len(values)) / 2, rate_interval(won, won + lost))


class RopeProbabilities(NamedTuple):
    """Posterior probabilities that the mean difference is below, inside and above a region around 0."""

    below: float
    inside: float
    above: float


def rope_probabilities(differences: Values, margin: float) -> RopeProbabilities:
    """Return the probabilities that the mean difference is below -margin, inside ±margin, above margin.

    The posterior under a flat prior: Student t at the mean with scale s / sqrt(n) and n - 1 degrees of
    freedom. Without variance all of it is at the mean: inside if the mean is, and otherwise nan.
    """
    sd = sample_sd(differences)
    if sd == 0 and abs(np.mean(differences)) < margin - TOLERANCE:
        return RopeProbabilities(0.0, 1.0, 0.0)
    if not sd > 0:
        return RopeProbabilities(math.nan, math.nan, math.nan)
    mean, error, degrees = float(np.mean(differences)), sd / math.sqrt(len(differences)), len(differences) - 1
    below, not_above = special.stdtr(degrees, (np.array([-margin, margin]) - mean) / error)
    above = special.stdtr(degrees, (mean - margin) / error)
    return RopeProbabilities(float(below), float(not_above - below), float(above))


def tost_p(differences: Values, margin: float) -> float:
    """Return the p value of equivalence within ±margin: the larger of two one-sided t tests.

    Each equals the posterior probability of the side that it rejects.
    """
    below, _, above = rope_probabilities(differences, margin)
    return max(below, above)


def fisher_p(num_events: int, n: int, num_events_other: int, n_other: int) -> float:
    """Return the two-sided p value of Fisher's exact test of two rates; nan where one has no run."""
    if n == 0 or n_other == 0:
        return math.nan
    table = [[num_events, n - num_events], [num_events_other, n_other - num_events_other]]
    return float(stats.fisher_exact(table).pvalue)


def least_fisher_p(n: int, n_other: int | None = None) -> float:
    """Return the smallest p value of `fisher_p` for these n: all of the one against none of the other."""
    return fisher_p(n, n, 0, n if n_other is None else n_other)


def binomial_p(num_events: int, n: int, rate: float, alternative: str = "two-sided") -> float:
    """Return the p value of the exact binomial test against a rate."""
    return float(stats.binomtest(num_events, n, rate, alternative).pvalue) if n else math.nan


def welch_p(first: Values, second: Values) -> float:
    """Return the two-sided p value of Welch's t test; nan below two values each or where neither varies."""
    sds = sample_sd(first), sample_sd(second)
    if not sum(sds) > 0:
        return math.nan
    means = float(np.mean(first)), float(np.mean(second))
    sides = means[0], sds[0], len(first), means[1], sds[1], len(second)
    return float(stats.ttest_ind_from_stats(*sides, equal_var=False).pvalue)


def least_welch_p(n: int) -> float:
    """Return the smallest p value of `welch_p` for n values of the smaller side: from two on, any."""
    return 0.0 if n >= 2 else math.nan


class Association(NamedTuple):
    """The association of two sets of columns."""

    correlation: float
    """mean rank correlation of matching columns"""
    p_value: float


def association(first_SF: NDArray[np.float64], second_SF: NDArray[np.float64]) -> Association:
    """Return the mean rank correlation of matching columns over seeds, and its two-sided permutation p value.

    Whole rows (seeds) are permuted, so the dependence between the columns of a seed is kept. Each column is
    ranked separately, so differences between columns have no effect. The test assumes only that seeds are
    independent. Exact up to `MAX_PERMUTED` seeds, then Monte Carlo with `NUM_PERMUTATIONS` fixed draws and
    the + 1 correction. Columns without spread are ignored. The result is nan if no column has spread, below
    three seeds, and if a value is not finite.
    """
    n = len(first_SF)
    if n < 3 or not (np.isfinite(first_SF).all() and np.isfinite(second_SF).all()):
        return Association(math.nan, math.nan)
    ranks_SF, other_ranks_SF = _standard_ranks(first_SF), _standard_ranks(second_SF)
    num_telling = int((ranks_SF.any(axis=0) & other_ranks_SF.any(axis=0)).sum())
    if num_telling == 0:
        return Association(math.nan, math.nan)
    products_SS = ranks_SF @ other_ranks_SF.T / num_telling
    found = float(np.trace(products_SS))
    permuted = products_SS[np.arange(n), _permutations(n)].sum(axis=1)
    hits = int((np.abs(permuted) >= abs(found) - TOLERANCE).sum())
    is_exact = n <= MAX_PERMUTED
    return Association(found, hits / len(permuted) if is_exact else (hits + 1) / (len(permuted) + 1))


def least_association_p(n: int, num_columns: int = 2) -> float:
    """Return the smallest p value of `association` for n seeds; nan where it has none.

    One column has its correlation again, with the other sign, under the permutation that reverses it. Several
    columns may have none in common that reverses them all.
    """
    if n < 3 or num_columns == 0:
        return math.nan
    if n > MAX_PERMUTED:
        return 1 / (NUM_PERMUTATIONS + 1)
    return (2 if num_columns == 1 else 1) / math.factorial(n)


def _standard_ranks(values_SF: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ranks of each column with mean 0 and length 1; 0 where a column does not vary."""
    ranks_SF = stats.rankdata(values_SF, axis=0)
    ranks_SF -= ranks_SF.mean(axis=0)
    lengths_F = np.linalg.norm(ranks_SF, axis=0)
    standard_SF: NDArray[np.float64] = ranks_SF / np.where(lengths_F > 0, lengths_F, 1.0)
    return standard_SF


@functools.lru_cache(maxsize=4)
def _permutations(n: int) -> NDArray[np.int64]:
    if n <= MAX_PERMUTED:
        return np.array(list(itertools.permutations(range(n))))
    rows = np.broadcast_to(np.arange(n), (NUM_PERMUTATIONS, n))
    return np.random.default_rng(FLIP_SEED).permuted(rows, axis=1)


def holm(p_values: Values, num_declared: int | None = None) -> NDArray[np.float64]:
    """Return p values adjusted by Holm's method.

    Args:
        p_values: nan where a test could not be made; it counts as 1 and stays nan.
        num_declared: size of the declared family; its missing contrasts count as 1. It never counts as
            smaller than the number of p values.
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values)  # nan last, as a p value of 1 would be
    steps = max(len(values), num_declared or 0) - np.arange(len(values))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps * values[order]))
    return adjusted


def benjamini_hochberg(p_values: Values) -> NDArray[np.float64]:
    """Return the q values of Benjamini and Hochberg; nan where a test could not be made, and not counted."""
    values = np.asarray(p_values, dtype=np.float64)
    adjusted = values.copy()
    is_known = ~np.isnan(values)
    if is_known.any():
        adjusted[is_known] = multipletests(values[is_known], method="fdr_bh")[1]
    return adjusted
