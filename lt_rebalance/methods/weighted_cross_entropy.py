"""Weighted cross-entropy: items are weighted by the inverse of the images of their class.

Source: cost-sensitive learning, in the forms that Zhang, Wei, Zhou, Wu 2021, Bag of Tricks for Long-Tailed
Visual Recognition with Deep Convolutional Neural Networks (AAAI 35), compare: weights in proportion to 1 /
n_c (exponent 1), or to its square root (exponent 1/2). Deviations: weights have mean 1 over the classes, and
a batch is not divided by its weights.

Shape suffixes: L lanes, B items of a batch, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lt_rebalance.methods.contract import Method, Options
from lt_rebalance.methods.domains import Range, searched
from lt_rebalance.methods.weighing import Deferred, cross_entropy, inverse_frequency, weigh

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class WeightedOptions(Deferred):
    """Options of weighted cross-entropy."""

    exponent: float = searched(1.0, Range(low=0.0, high=1.0, unit="power"))
    """of the inverse count; 0.5 is the square-root form, 0 is cross-entropy"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.exponent < 0:
            raise ValueError(f"exponent must be at least 0, got {self.exponent}")


def _loss(
    logits_LBK: Tensor, labels_LB: Tensor, counts_LK: Tensor, progress: Tensor, options: Options
) -> Tensor:
    weights_LK = inverse_frequency(counts_LK, options.exponent)
    return weigh(cross_entropy(logits_LBK, labels_LB), labels_LB, weights_LK, progress, options.deferred)


WEIGHTED_CROSS_ENTROPY = Method(
    description="weigh an item by the inverse of its class's count", options=WeightedOptions, loss=_loss
)
