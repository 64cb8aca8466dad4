"""Fill every class to the size of the largest: the plan of all methods that make images.

Shape suffix: K classes.
"""

from collections.abc import Sequence

import numpy as np

from lt_rebalance.methods.contract import Options, RebalancePlan, keep_all


def fill_up(
    counts_K: Sequence[int], draw: str | None, rng: np.random.Generator, options: Options
) -> RebalancePlan:
    """Plan every image once, and synthetic images up to the size of the largest class."""
    largest = max(counts_K)
    return RebalancePlan(
        positions_by_class=tuple(keep_all(counts_K)),
        num_synthetic_K=tuple(largest - count for count in counts_K),
    )
