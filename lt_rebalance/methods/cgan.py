"""Every class is filled to the largest with images from a conditional GAN.

Source: Mankikar, Patel, Zhang, section 3.2. Shape suffix: K classes.
"""

from collections.abc import Sequence

import numpy as np

from lt_rebalance.methods.contract import Method, Options, RebalancePlan, keep_all


def _plan(
    counts_K: Sequence[int], draw: str | None, rng: np.random.Generator, options: Options
) -> RebalancePlan:
    largest = max(counts_K)
    return RebalancePlan(
        positions_by_class=tuple(keep_all(counts_K)),
        num_synthetic_K=tuple(largest - count for count in counts_K),
    )


CGAN = Method(
    description="fill every class to the count of the largest with images from a conditional GAN",
    needs_generator=True,
    plan=_plan,
)
