"""Class-balanced focal loss: the focal loss, weighted by the inverse of effective numbers.

Source: Cui, Jia, Lin, Song, Belongie 2019, arXiv 1901.05555, section 4.3 (equation 4 on the focal loss of Lin
et al. 2017, arXiv 1708.02002). Deviations: the softmax form of the focal loss, as in `focal`, instead of one
sigmoid per class; a batch is not divided by its weights.

Shape suffixes: L lanes, B items of a batch, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lt_rebalance.methods.contract import Method, Options
from lt_rebalance.methods.domains import Choice, Range, searched
from lt_rebalance.methods.focal import FocalOptions, focal_losses
from lt_rebalance.methods.weighing import effective_number, require_beta, weigh

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ClassBalancedFocalOptions(FocalOptions):
    """Options of the class-balanced focal loss; while it is deferred, it is the focal loss."""

    gamma: float = searched(1.0, Range(low=0.0, high=5.0, unit="power"))
    """how much less well-classified items count"""
    beta: float = searched(0.9999, Choice(values=(0.9, 0.99, 0.999, 0.9999), unit="share"))
    """of effective numbers"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_beta(self.beta)


def _loss(
    logits_LBK: Tensor, labels_LB: Tensor, counts_LK: Tensor, progress: Tensor, options: Options
) -> Tensor:
    losses_LB = focal_losses(logits_LBK, labels_LB, options.gamma)
    weights_LK = effective_number(counts_LK, options.beta)
    return weigh(losses_LB, labels_LB, weights_LK, progress, options.deferred)


CLASS_BALANCED_FOCAL = Method(
    description="the focal loss, weighted by the inverse of effective numbers",
    options=ClassBalancedFocalOptions,
    loss=_loss,
)
