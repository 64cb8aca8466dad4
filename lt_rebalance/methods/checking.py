"""What a plan has to be, whoever wrote the method that made it. Shape suffix: K classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lt_rebalance.methods.contract import RebalancePlan


def check_plan(
    name: str, plan: Any, counts_K: Sequence[int]
) -> RebalancePlan:  # Any: what a user's code returns
    """Return the plan that a method made of these class counts.

    Raises:
        ValueError: it is none, or names items that there are not.
    """
    if not isinstance(plan, RebalancePlan):
        raise ValueError(f"method {name!r} must plan a RebalancePlan, got one of type {type(plan).__name__}")
    if not len(plan.positions_by_class) == len(plan.num_synthetic_K) == len(counts_K):
        raise ValueError(
            f"method {name!r} must plan for each of {len(counts_K)} classes, got positions for "
            f"{len(plan.positions_by_class)} and synthetic images for {len(plan.num_synthetic_K)}"
        )
    for label, (positions, count) in enumerate(zip(plan.positions_by_class, counts_K, strict=True)):
        array = np.asarray(positions)
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise ValueError(f"method {name!r}: positions of class {label} must be an array of whole numbers")
        if array.size and not 0 <= array.min() <= array.max() < count:
            raise ValueError(
                f"method {name!r}: positions of class {label} must be at least 0 and below {count}, "
                f"got {array.min()} to {array.max()}"
            )
    if any(not isinstance(count, int | np.integer) or count < 0 for count in plan.num_synthetic_K):
        raise ValueError(
            f"method {name!r} must plan whole numbers of synthetic images, got {plan.num_synthetic_K}"
        )
    if not sum(plan.counts_K):
        raise ValueError(f"method {name!r} must leave something to learn from, got no item of any class")
    return plan
