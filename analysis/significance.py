"""Tests of paired differences, rates and trends, effect sizes, and corrections for many tests.

Differences are one number a seed. What cannot be tested is nan; nothing here raises or warns on degenerate
data.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests

from analysis.estimates import Interval, Values, rate_interval

MAX_EXACT = 20
"""pairs up to which all sign vectors are enumerated"""
NUM_FLIPS = 19_999
FLIP_SEED = 20_261_124
TOLERANCE = 1e-12


def sign_flip_p(differences: Values) -> float:
    """Return the two-sided p value of the sign-flip test on the mean.

    Exact over all 2^n sign vectors up to `MAX_EXACT` pairs, then Monte Carlo with `NUM_FLIPS` fixed draws and
    the + 1 correction. It assumes that differences are symmetric about 0 under the null, nothing else; below
    6 pairs it cannot reach .05.
    """
    values = np.asarray(differences, dtype=np.float64)
    n = len(values)
    if n == 0:
        return math.nan
    observed = abs(values.sum())
    bound = observed - TOLERANCE * np.abs(values).sum()
    if n <= MAX_EXACT:
        return float((np.abs(_all_signed_sums(values)) >= bound).mean())
    hits = int((np.abs(_random_signs(n) @ values) >= bound).sum())
    return (hits + 1) / (NUM_FLIPS + 1)


def _all_signed_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums under all sign vectors with a first sign of plus; the others mirror them."""
    sums = values[:1]
    for value in values[1:]:
        sums = np.concatenate([sums + value, sums - value])
    return sums


@functools.lru_cache(maxsize=4)
def _random_signs(n: int) -> NDArray[np.float64]:
    rng = np.random.default_rng((FLIP_SEED, n))
    return rng.choice(np.array([-1.0, 1.0]), size=(NUM_FLIPS, n))


def paired_t_p(differences: Values) -> float:
    """Return the two-sided p value of the paired t test; nan below two pairs or without variance."""
    if len(differences) < 2 or _is_constant(differences):
        return math.nan
    return float(stats.ttest_1samp(differences, 0).pvalue)


def wilcoxon_p(differences: Values) -> float:
    """Return the two-sided p value of Wilcoxon's signed-rank test, as exact as `sign_flip_p`, also with ties.

    It is that test on signed ranks. Zeros are dropped; nan where nothing is left.
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[values != 0]
    return sign_flip_p(np.sign(values) * stats.rankdata(np.abs(values)))


def _is_constant(values: Values) -> bool:
    array = np.asarray(values, dtype=np.float64)
    return bool(np.ptp(array) <= TOLERANCE * max(1.0, float(np.abs(array).max())))


def hedges_g_av(first: Values, second: Values) -> float:
    """Return the mean difference over the average standard deviation, corrected for small n (Hedges)."""
    n = len(first)
    if n < 2:
        return math.nan
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    spread = float(a.std(ddof=1) + b.std(ddof=1)) / 2
    return float((a - b).mean()) / spread * (1 - 3 / (8 * n - 9)) if spread > 0 else math.nan


def d_z(differences: Values) -> float:
    """Return the mean difference over the standard deviation of the differences."""
    if len(differences) < 2 or _is_constant(differences):
        return math.nan
    return float(np.mean(differences) / np.std(differences, ddof=1))


def correlation(first: Values, second: Values) -> float:
    """Return Pearson's correlation; nan below three pairs or without variance."""
    if len(first) < 3 or _is_constant(first) or _is_constant(second):
        return math.nan
    return float(np.corrcoef(first, second)[0, 1])


class Share(NamedTuple):
    """A share with its Clopper-Pearson interval at 95 %."""

    value: float
    interval: Interval


def better_share(differences: Values) -> Share:
    """Return the share of pairs with a positive difference, ties half; the interval is over untied pairs."""
    values = np.asarray(differences, dtype=np.float64)
    won, lost = int((values > 0).sum()), int((values < 0).sum())
    share = float(((values > 0) + 0.5 * (values == 0)).mean()) if len(values) else math.nan
    return Share(share, rate_interval(won, won + lost))


class RopeProbabilities(NamedTuple):
    """Posterior probabilities that the mean difference lies below, inside and above a region around 0."""

    below: float
    inside: float
    above: float


def rope_probabilities(differences: Values, margin: float) -> RopeProbabilities:
    """Return how probable it is that the mean difference is below -margin, inside ±margin, above it.

    The posterior under a flat prior: Student t at the mean with scale s / sqrt(n) and n - 1 degrees of
    freedom.
    """
    n = len(differences)
    if n < 2 or _is_constant(differences):
        return RopeProbabilities(math.nan, math.nan, math.nan)
    scale = np.std(differences, ddof=1) / math.sqrt(n)
    posterior = stats.t(n - 1, loc=np.mean(differences), scale=scale)
    below, above = float(posterior.cdf(-margin)), float(posterior.sf(margin))
    return RopeProbabilities(below, 1 - below - above, above)


def tost_p(differences: Values, margin: float) -> float:
    """Return the p value of equivalence within ±margin: the larger of two one-sided t tests."""
    if len(differences) < 2 or _is_constant(differences):
        return math.nan
    above_low = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
    below_high = stats.ttest_1samp(differences, margin, alternative="less").pvalue
    return float(max(above_low, below_high))


def fisher_p(num_events: int, n: int, num_events_other: int, n_other: int) -> float:
    """Return the two-sided p value of Fisher's exact test of two rates; nan where one has no run."""
    if n == 0 or n_other == 0:
        return math.nan
    table = [[num_events, n - num_events], [num_events_other, n_other - num_events_other]]
    return float(stats.fisher_exact(table).pvalue)


def binomial_p(num_events: int, n: int, rate: float, alternative: str = "two-sided") -> float:
    """Return the p value of the exact binomial test against a rate."""
    return float(stats.binomtest(num_events, n, rate, alternative).pvalue) if n else math.nan


def page_trend_p(blocks: NDArray[np.float64]) -> float:
    """Return the p value of Page's trend test; rows are blocks, columns in the order expected to rise."""
    if len(blocks) < 2 or blocks.shape[1] < 3:
        return math.nan
    return float(stats.page_trend_test(blocks).pvalue)


def brown_forsythe_p(first: Values, second: Values) -> float:
    """Return the p value of the Brown-Forsythe test that two samples have equal spread."""
    if min(len(first), len(second)) < 2 or (_is_constant(first) and _is_constant(second)):
        return math.nan
    return float(stats.levene(first, second, center="median").pvalue)


def holm(p_values: Values, num_declared: int | None = None) -> NDArray[np.float64]:
    """Return p values adjusted by Holm's method.

    Args:
        p_values: nan where a test could not be made; it counts as 1 and stays nan.
        num_declared: size of the declared family; contrasts of it that are not at hand count as 1.
    """
    values = np.asarray(p_values, dtype=np.float64)
    num_absent = max(0, (num_declared or 0) - len(values))
    if len(values) == 0:
        return values
    padded = np.concatenate([np.nan_to_num(values, nan=1.0), np.ones(num_absent)])
    adjusted = multipletests(padded, method="holm")[1][: len(values)]
    return np.where(np.isnan(values), np.nan, adjusted)


def benjamini_hochberg(p_values: Values) -> NDArray[np.float64]:
    """Return the q values of Benjamini and Hochberg; nan where a test could not be made, and not counted."""
    values = np.asarray(p_values, dtype=np.float64)
    adjusted = values.copy()
    is_known = ~np.isnan(values)
    if is_known.any():
        adjusted[is_known] = multipletests(values[is_known], method="fdr_bh")[1]
    return adjusted
