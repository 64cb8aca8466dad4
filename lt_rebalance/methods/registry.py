"""Rebalancing methods: from the class counts of a long-tailed set to a plan that evens them out.

Source of all four: Mankikar, Patel, Zhang, section 3.2. Shape suffix: K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from lt_rebalance.ground.own_file import check_sha256, get_own, is_at_hand, is_own
from lt_rebalance.ground.plain import LATER, require_numbers
from lt_rebalance.methods.checking import check_plan
from lt_rebalance.methods.contract import Method, PositionArray, RebalancePlan


def _keep_all(counts_K: Sequence[int]) -> list[PositionArray]:
    return [np.arange(count) for count in counts_K]


def _no_synthesis(positions_by_class: Sequence[PositionArray]) -> RebalancePlan:
    return RebalancePlan(
        positions_by_class=tuple(positions_by_class), num_synthetic_K=(0,) * len(positions_by_class)
    )


def _plan_none(counts_K: Sequence[int], draw: str | None, rng: np.random.Generator) -> RebalancePlan:
    return _no_synthesis(_keep_all(counts_K))


def _plan_undersample(counts_K: Sequence[int], draw: str | None, rng: np.random.Generator) -> RebalancePlan:
    smallest = min(counts_K)
    if draw == "first":
        return _no_synthesis([np.arange(smallest) for _ in counts_K])
    return _no_synthesis([rng.permutation(count)[:smallest] for count in counts_K])


def _plan_oversample(counts_K: Sequence[int], draw: str | None, rng: np.random.Generator) -> RebalancePlan:
    largest = max(counts_K)
    if draw == "cyclic":
        return _no_synthesis([np.arange(largest) % count for count in counts_K])
    return _no_synthesis(
        [np.concatenate([np.arange(count), rng.integers(count, size=largest - count)]) for count in counts_K]
    )


def _plan_cgan(counts_K: Sequence[int], draw: str | None, rng: np.random.Generator) -> RebalancePlan:
    largest = max(counts_K)
    return RebalancePlan(
        positions_by_class=tuple(_keep_all(counts_K)),
        num_synthetic_K=tuple(largest - count for count in counts_K),
    )


def get_method(name: str) -> Method:
    """Return a method by name: one in METHODS, or one in a file of a user's own that is at hand.

    Raises:
        ValueError: unknown name.
    """
    if is_own(name):
        method: Method = get_own(name, Method)
        return method
    if name not in METHODS:
        raise ValueError(f"unknown method {name!r}; known: {', '.join(METHODS)}, or PATH.py:NAME")
    return METHODS[name]


def check_draw(name: str, draw: str | None) -> None:
    """Raise a ValueError unless the method is known and offers the draw (None where it offers none)."""
    draws = get_method(name).draws
    if draw not in (draws or (None,)):
        raise ValueError(f"unknown draw {draw!r} of method {name!r}; known: {', '.join(draws) or 'none'}")


def check_fill_fraction(name: str, fill_fraction: float) -> None:
    """Raise a ValueError unless the fraction is a share, and 1 for a method that makes no images."""
    if not 0 <= fill_fraction <= 1:
        raise ValueError(f"fill_fraction must be at least 0 and at most 1, got {fill_fraction}")
    if fill_fraction < 1 and not get_method(name).needs_generator:
        raise ValueError(f"method {name!r} makes no images: its fill_fraction stays 1, got {fill_fraction}")


def plan_rebalancing(
    name: str,
    draw: str | None,
    counts_K: Sequence[int],
    rng: np.random.Generator,
    fill_fraction: float = 1.0,
) -> RebalancePlan:
    """Plan one method on class counts.

    Args:
        name: a method in `METHODS`.
        draw: one of the method's draws; None for a method without any.
        counts_K: real images of each class, each at least 1.
        rng: the stream "resampling" of the seed.
        fill_fraction: share of the synthetic images to make, rounded to the nearest number in each class.

    Raises:
        ValueError: unknown method or draw, a share that does not go with it, or an empty class.
    """
    check_draw(name, draw)
    check_fill_fraction(name, fill_fraction)
    if min(counts_K) < 1:
        raise ValueError(f"every class needs at least one image, got counts {list(counts_K)}")
    plan = check_plan(name, get_method(name).plan(counts_K, draw, rng), counts_K)
    num_synthetic_K = tuple(round(fill_fraction * count) for count in plan.num_synthetic_K)
    return replace(plan, num_synthetic_K=num_synthetic_K)


METHODS = {
    "none": Method(
        description="train on the long-tailed set as it is",
        draws=(),
        needs_generator=False,
        plan=_plan_none,
    ),
    "undersample": Method(
        description="cut every class to the count of the smallest",
        draws=("first", "random"),
        needs_generator=False,
        plan=_plan_undersample,
    ),
    "oversample": Method(
        description="fill every class to the count of the largest with copies",
        draws=("cyclic", "random"),
        needs_generator=False,
        plan=_plan_oversample,
    ),
    "cgan": Method(
        description="fill every class to the count of the largest with images from a conditional GAN",
        draws=(),
        needs_generator=True,
        plan=_plan_cgan,
    ),
}


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """A rebalancing method and how it chooses images."""

    name: str
    """a name in METHODS, or that of a method in a file of a user's own"""
    draw: str | None
    """one of the method's draws; None for a method without any"""
    fill_fraction: float = field(default=1.0, metadata=LATER)
    """share of each class's gap to the largest that synthetic images fill; 1 for a method that makes none"""
    file_sha256: str | None = field(default=None, metadata=LATER)
    """of the user's own file that the method is in; follows from the name where that file is at hand"""

    def __post_init__(self) -> None:
        require_numbers(self)
        object.__setattr__(self, "file_sha256", check_sha256(self.name, self.file_sha256))
        if not is_at_hand(self.name):
            return  # a description of what was run; to be used, it needs the file
        check_draw(self.name, self.draw)
        check_fill_fraction(self.name, self.fill_fraction)
