"""Plan a study: what n can show, and how many seeds a question needs."""

import math

from scipy import optimize, stats
from statsmodels.stats.power import TTestIndPower, TTestPower

from analysis.significance import fisher_p

ALPHA = 0.05
POWER = 0.8
MAX_SEEDS = 100_000


def minimum_detectable_difference(
    n: int, sd: float, alpha: float = ALPHA, power: float = POWER, family_size: int = 1
) -> float:
    """Return the true mean difference that a paired test of n seeds finds with this power.

    Args:
        sd: standard deviation of the differences; the result is in its unit. family_size: contrasts corrected
        together; the first step of Holm's method tests at alpha / family_size.
    """
    if n < 2 or not sd >= 0:
        return math.nan
    found = optimize.brentq(lambda effect: _power(effect, n, alpha / family_size) - power, 1e-6, 1e3)
    return sd * float(found)


def _power(effect: float, n: int, alpha: float) -> float:
    """Return the power of a two-sided paired t test, without the chance of the wrong sign.

    That chance is negligible at any power of interest, and where it is, scipy returns nan for it. A nan of
    the rest stands for a power of 1 to machine precision.
    """
    found = float(TTestPower().power(effect, n, alpha / 2, alternative="larger"))
    return 1.0 if math.isnan(found) else found


def seeds_needed(
    difference: float, sd: float, alpha: float = ALPHA, power: float = POWER, family_size: int = 1
) -> float:
    """Return the pairs at which a true mean difference is found with this power; arguments as above.

    A whole number; nan where the standard deviation is not known.
    """
    if not sd >= 0:
        return math.nan

    def is_enough(n: int) -> bool:
        return sd == 0 or _power(difference / sd, n, alpha / family_size) >= power

    low, high = 1, 2
    while not is_enough(high):
        low, high = high, 2 * high
        if high > MAX_SEEDS:
            return math.inf
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def unpaired_seeds_needed(difference: float, sd: float, alpha: float = ALPHA, power: float = POWER) -> int:
    """Return the runs of each of two independent arms, of standard deviation sd, for the same question."""
    n: float = TTestIndPower().solve_power(difference / sd, power=power, alpha=alpha)
    return math.ceil(n)


def smallest_exact_p(n: int) -> float:
    """Return the smallest two-sided p value of the sign-flip test at n pairs: 2 / 2^n."""
    return 2.0 ** (1 - n)


def largest_holm_family(n: int, alpha: float = ALPHA) -> int:
    """Return the largest family in which the sign-flip test at n pairs can still reach alpha."""
    return math.floor(alpha / smallest_exact_p(n))


def tost_power(n: int, margin: float, sd: float, alpha: float = ALPHA) -> float:
    """Return the power of the TOST of n pairs to show equivalence within ±margin at a true difference of 0.

    Exact: the probability, over the spread of the sample, that the mean stays within margin less the critical
    value times the standard error.
    """
    critical = float(stats.t.ppf(1 - alpha, n - 1))
    degrees = n - 1

    def covered(variance_ratio: float) -> float:
        room = margin * math.sqrt(n) / sd - critical * math.sqrt(variance_ratio)
        return max(0.0, 2 * float(stats.norm.cdf(room)) - 1)

    return float(stats.chi2(degrees, scale=1 / degrees).expect(covered))


def first_significant_count(n: int, alpha: float = ALPHA) -> int | None:
    """Return the smallest k at which 0 of n and k of n differ by Fisher's exact test; None if none does."""
    return next((k for k in range(1, n + 1) if fisher_p(0, n, k, n) < alpha), None)


def noether_n(probability_better: float, alpha: float = ALPHA, beta: float = ALPHA) -> float:
    """Return the pairs that a one-sided sign test needs to find P(A > B); Noether 1987."""
    quantiles = float(stats.norm.ppf(1 - alpha) + stats.norm.ppf(1 - beta))
    return (quantiles / (math.sqrt(6) * (probability_better - 0.5))) ** 2
