"""Class-balanced loss: items are weighted by the inverse of the effective number of their class's images.

Source: Cui, Jia, Lin, Song, Belongie 2019, Class-Balanced Loss Based on Effective Number of Samples, arXiv
1901.05555, equation 4 on cross-entropy: weights (1 - b) / (1 - b^n_c), scaled to a sum of K. b = 0 is
cross-entropy, b towards 1 is the inverse count. Deviation: a batch is not divided by its weights.

Shape suffixes: L lanes, B items of a batch, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lt_rebalance.methods.contract import Method, Options
from lt_rebalance.methods.domains import Choice, searched
from lt_rebalance.methods.weighing import Deferred, cross_entropy, effective_number, require_beta, weigh

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ClassBalancedOptions(Deferred):
    """Options of the class-balanced loss."""

    beta: float = searched(0.9999, Choice(values=(0.9, 0.99, 0.999, 0.9999), unit="share"))
    """of effective numbers; with some thousand images per class, 0.9999 is nearly the inverse count"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_beta(self.beta)


def _loss(
    logits_LBK: Tensor, labels_LB: Tensor, counts_LK: Tensor, progress: Tensor, options: Options
) -> Tensor:
    weights_LK = effective_number(counts_LK, options.beta)
    return weigh(cross_entropy(logits_LBK, labels_LB), labels_LB, weights_LK, progress, options.deferred)


CLASS_BALANCED = Method(
    description="weigh an item by the inverse of its class's effective number",
    options=ClassBalancedOptions,
    loss=_loss,
)
