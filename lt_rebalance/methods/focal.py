"""Focal loss: well-classified items count less.

Source: Lin, Goyal, Girshick, He, Dollar 2017, Focal Loss for Dense Object Detection, arXiv 1708.02002,
equation 4, (1 - p)^gamma times the cross-entropy, with p the softmax of the item's class. Deviation: the
softmax of K classes instead of one sigmoid per class, and no alpha.

Shape suffixes: L lanes, B items of a batch, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lt_rebalance.methods.contract import Method, Options
from lt_rebalance.methods.domains import Range, searched
from lt_rebalance.methods.weighing import Deferred, cross_entropy

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST_MISS = 1e-7
"""lower bound of 1 - p: a gamma below 1 has no finite slope at 0"""


@dataclass(frozen=True, kw_only=True)
class FocalOptions(Deferred):
    """Options of the focal loss."""

    gamma: float = searched(2.0, Range(low=0.0, high=5.0, unit="power"))
    """how much less well-classified items count; 0 is cross-entropy"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gamma < 0:
            raise ValueError(f"gamma must be at least 0, got {self.gamma}")


def focal_losses(logits_LBK: Tensor, labels_LB: Tensor, gamma: float) -> Tensor:
    """Return `losses_LB`, the focal loss of every item."""
    import torch

    losses_LB = cross_entropy(logits_LBK, labels_LB)
    missed_LB = -torch.expm1(-losses_LB)  # 1 - p
    return missed_LB.clamp(min=SMALLEST_MISS).pow(gamma) * losses_LB


def _loss(
    logits_LBK: Tensor, labels_LB: Tensor, counts_LK: Tensor, progress: Tensor, options: Options
) -> Tensor:
    import torch

    focal_LB = focal_losses(logits_LBK, labels_LB, options.gamma)
    return torch.where(progress < options.deferred, cross_entropy(logits_LBK, labels_LB), focal_LB)


FOCAL = Method(description="let items that are answered well count less", options=FocalOptions, loss=_loss)
