"""What a rebalancing method is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PositionArray = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class RebalancePlan:
    """Which training items a classifier sees, class by class."""

    positions_by_class: tuple[PositionArray, ...]
    """K arrays of positions into the class's drawn images; a repeated position is a repeated image."""
    num_synthetic_K: tuple[int, ...]
    """Generated images to add to each class."""

    @property
    def counts_K(self) -> list[int]:
        """Training items of each class, real and synthetic."""
        return [
            len(positions) + synthetic
            for positions, synthetic in zip(self.positions_by_class, self.num_synthetic_K, strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class Method:
    """A rebalancing method: what it is, the draws it offers, and the plan it makes."""

    description: str
    draws: tuple[str, ...]
    """named ways of choosing images, of which a configuration names one; empty when there is no choice"""
    needs_generator: bool
    plan: Callable[[Sequence[int], str | None, np.random.Generator], RebalancePlan]
    """from counts_K, the draw and the stream "resampling" to a plan"""
