"""Plan a study: the power at n seeds, and the seeds that a question needs."""

import bisect
import functools
import math
from collections.abc import Callable

import numpy as np
from scipy import optimize, stats
from statsmodels.stats.power import TTestPower

from analysis.significance import MAX_EXACT, NUM_FLIPS, fisher_p

ALPHA = 0.05
POWER = 0.8
MAX_SEEDS = 100_000
NUM_QUANTILES = 10_000
MAX_SETS = 10
"""largest number of differences whose sets are all enumerated"""
MANY_SETS = 25
"""number of sign vectors in the rejection region above which the sign-flip test has the power of the t
test"""
NUM_SAMPLES = 4_000
NUM_CHUNKS = 8
_POWER_SEED = 20_261_128


def minimum_detectable_difference(
    n: int, sd: float, alpha: float = ALPHA, power: float = POWER, family_size: int = 1
) -> float:
    """Return the true mean difference that a paired test of n seeds finds with this power.

    Args:
        sd: standard deviation of the differences; the result is in its unit.
        family_size: contrasts corrected together; Holm's first step tests at alpha / family_size.
    """
    if n < 2 or not sd >= 0:
        return math.nan
    found = optimize.brentq(lambda effect: _paired_power(effect, n, alpha / family_size) - power, 0, 1e6)
    return sd * float(found)


def _paired_power(effect: float, n: int, alpha: float) -> float:
    """Return the power of a two-sided paired t test at a positive effect, in standard deviations."""
    return _or_one(TTestPower().power(effect, n, alpha / 2, alternative="larger"))


def _or_one(power: float) -> float:
    """Return the power on the side of the effect, where nan stands for 1 to machine precision.

    The chance of significance with the wrong sign is left out: it is negligible at any power of interest, and
    where it is smallest, scipy returns nan for it.
    """
    return 1.0 if math.isnan(power) else float(power)


def seeds_needed(
    difference: float, sd: float, alpha: float = ALPHA, power: float = POWER, family_size: int = 1
) -> float:
    """Return the pairs at which a true mean difference is found with this power; arguments as above.

    A whole number from 2; infinite for a difference of 0 or beyond `MAX_SEEDS`; nan where an argument is.
    """
    return _first_enough(
        lambda effect, n: _paired_power(effect, n, alpha / family_size) >= power, difference, sd
    )


def _first_enough(is_enough: Callable[[float, int], bool], difference: float, sd: float) -> float:
    if math.isnan(difference) or not sd >= 0:
        return math.nan
    if difference == 0:
        return math.inf
    if sd == 0:
        return 2
    candidates = range(2, MAX_SEEDS + 1)
    found = bisect.bisect_left(candidates, True, key=lambda n: is_enough(abs(difference) / sd, n))
    return candidates[found] if found < len(candidates) else math.inf


@functools.lru_cache(maxsize=256)
def sign_flip_effect(n: int, family_size: int = 1, alpha: float = ALPHA, power: float = POWER) -> float:
    """Return the true mean difference, in sds, that the sign-flip test finds with this power.

    Of n normal differences, at Holm's first step in a family: at alpha / family_size. Infinite where so few
    pairs cannot reach that level at all, nan below two pairs.

    A sample is significant when at most k sign vectors give as large a sum, that is when the sum over fewer
    than k non-empty sets of its differences is 0 or less. Adding d to every difference raises the mean of
    every set by d: the smallest d that makes a sample significant is the k-th largest mean over its sets,
    mirrored, and the answer is a quantile of that over samples. Where k is large the test has the power of
    the paired t test, whose number is returned.
    """
    if n < 2:
        return math.nan
    level = alpha / family_size
    if smallest_exact_p(n) >= level:
        return math.inf
    k = math.ceil(level * 2.0 ** (n - 1)) - 1
    if n > MAX_EXACT or (n > MAX_SETS and k >= MANY_SETS):
        return minimum_detectable_difference(n, 1.0, alpha, power, family_size)
    samples = np.random.default_rng(_POWER_SEED).standard_normal((NUM_SAMPLES, n))
    largest = -np.sort(-samples, axis=1)[:, :MAX_SETS]  # the sets of largest mean are among these
    members = (np.arange(1, 2 ** largest.shape[1])[:, None] >> np.arange(largest.shape[1])) & 1
    weights = (members / members.sum(axis=1, keepdims=True)).T
    needed = [
        np.partition(chunk @ weights, -k, axis=1)[:, -k] for chunk in np.array_split(largest, NUM_CHUNKS)
    ]
    return float(np.quantile(np.concatenate(needed), power))


def find_seeds(difference: float, sd: float, family_size: int = 1) -> float:
    """Return the fewest pairs at which the sign-flip test finds a true mean difference with power .8.

    At Holm's first step in a family; infinite beyond `MAX_SEEDS`, nan where an argument is.
    """
    if not (sd > 0 and difference > 0):
        return math.nan
    for n in range(fewest_seeds(family_size=family_size), MAX_EXACT + 1):
        if sign_flip_effect(n, family_size) * sd <= difference:
            return n
    return max(MAX_EXACT + 1, seeds_needed(difference, sd, family_size=family_size))


def smallest_exact_p(n: int) -> float:
    """Return the smallest two-sided p value of the sign-flip test at n pairs: 2 / 2^n while it is exact."""
    if n < 1:
        return math.nan
    return 2.0 ** (1 - n) if n <= MAX_EXACT else 1 / (NUM_FLIPS + 1)


def largest_holm_family(n: int, alpha: float = ALPHA) -> int:
    """Return the largest family in which the sign-flip test at n pairs can still reach alpha."""
    return math.floor(alpha / smallest_exact_p(n)) if n > 0 else 0


def tost_power(n: int, margin: float, sd: float, alpha: float = ALPHA) -> float:
    """Return the power of the TOST of n pairs to show equivalence within ±margin at a true difference of 0.

    The probability that the mean stays within margin less the critical value times the standard error,
    averaged over quantiles of the sample's standard deviation.
    """
    if n < 2 or not sd >= 0:
        return math.nan
    if sd == 0:
        return 1.0
    shares = (np.arange(NUM_QUANTILES) + 0.5) / NUM_QUANTILES
    sds = sd * np.sqrt(stats.chi2.ppf(shares, n - 1) / (n - 1))
    rooms = margin - stats.t.isf(alpha, n - 1) * sds / math.sqrt(n)
    return float(np.maximum(0.0, 2 * stats.norm.cdf(rooms * math.sqrt(n) / sd) - 1).mean())


def first_significant_count(n: int, alpha: float = ALPHA) -> int | None:
    """Return the smallest k at which 0 of n and k of n differ by Fisher's exact test; None if none does."""
    return next((k for k in range(1, n + 1) if fisher_p(0, n, k, n) < alpha), None)


def fewest_seeds(alpha: float = ALPHA, family_size: int = 1) -> int:
    """Return the pairs below which the sign-flip test cannot reach alpha at Holm's first step."""
    n = 1
    while smallest_exact_p(n) > alpha / family_size:
        n += 1
    return n
