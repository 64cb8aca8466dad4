"""Null data sets, and whether a simulated share agrees with a probability: bands at 99.9 %."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.999


def is_share_of(hits: Sequence[bool] | NDArray[np.bool_], probability: float) -> bool:
    """Whether the number of hits is inside the band of a binomial count with this probability."""
    low, high = stats.binom.interval(LEVEL, len(hits), probability)
    return bool(low <= np.sum(hits) <= high)


def is_share_at_most(hits: Sequence[bool] | NDArray[np.bool_], probability: float) -> bool:
    """Whether the number of hits is at most what a binomial count with this probability reaches by chance."""
    return bool(np.sum(hits) <= stats.binom.ppf(LEVEL, len(hits), probability))


def null_differences(kind: str, num_sets: int, n: int, seed: int) -> NDArray[np.float64]:
    """Return paired differences that are symmetric about 0, one data set a row.

    `skewed`: of two skewed samples; `ties`: whole numbers from -2 to 2; `collapse`: a run in ten fails.
    """
    rng = np.random.default_rng(seed)
    shape = (num_sets, n)
    match kind:
        case "normal":
            return rng.normal(size=shape)
        case "t3":
            return rng.standard_t(3, size=shape)
        case "skewed":
            return rng.exponential(size=shape) - rng.exponential(size=shape)
        case "ties":
            return rng.integers(-1, 2, size=shape) + rng.integers(-1, 2, size=shape) * 1.0
        case "collapse":
            lead = rng.binomial(1, 0.1, size=shape) - rng.binomial(1, 0.1, size=shape)
            return rng.normal(0, 0.01, size=shape) + 0.65 * lead
    raise AssertionError(kind)
