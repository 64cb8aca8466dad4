"""Undersampling: cut every class to the size of the smallest.

Source: Mankikar, Patel, Zhang, section 3.2. Shape suffix: K classes.
"""

from collections.abc import Sequence

import numpy as np

from lt_rebalance.methods.contract import Method, Options, RebalancePlan, without_synthesis


def _plan(
    counts_K: Sequence[int], draw: str | None, rng: np.random.Generator, options: Options
) -> RebalancePlan:
    smallest = min(counts_K)
    if draw == "first":
        return without_synthesis([np.arange(smallest) for _ in counts_K])
    return without_synthesis([rng.permutation(count)[:smallest] for count in counts_K])


UNDERSAMPLE = Method(
    description="cut every class to the count of the smallest",
    draws=("first", "random"),
    may_train_less=True,
    plan=_plan,
)
