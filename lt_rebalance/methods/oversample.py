"""Oversampling: fill every class to the size of the largest with copies.

Source: Mankikar, Patel, Zhang, section 3.2. Shape suffix: K classes.
"""

from collections.abc import Sequence

import numpy as np

from lt_rebalance.methods.contract import Method, Options, RebalancePlan, without_synthesis


def _plan(
    counts_K: Sequence[int], draw: str | None, rng: np.random.Generator, options: Options
) -> RebalancePlan:
    largest = max(counts_K)
    if draw == "cyclic":
        return without_synthesis([np.arange(largest) % count for count in counts_K])
    return without_synthesis(
        [np.concatenate([np.arange(count), rng.integers(count, size=largest - count)]) for count in counts_K]
    )


OVERSAMPLE = Method(
    description="fill every class to the count of the largest with copies",
    draws=("cyclic", "random"),
    plan=_plan,
)
