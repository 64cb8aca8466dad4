"""Logit-adjusted loss: the log prior of the training set is added to the logits in training.

Source: Menon, Jayasumana, Rawat, Jain, Veit, Kumar 2021, Long-Tail Learning via Logit Adjustment, arXiv
2007.07314, equation 10: cross-entropy of z_y + tau log pi_y, pi the classes' shares of the training set;
predictions use z. With tau = 1 it is balanced softmax. Deviation: none is added to pi inside the logarithm,
for every class has an item.

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


@dataclass(frozen=True, kw_only=True)
class LogitAdjustedOptions(Deferred):
    """Options of the logit-adjusted loss."""

    tau: float = searched(1.0, Range(low=0.0, high=2.0, unit="power"))
    """factor of the logarithm of the classes' shares that is added; 0 is cross-entropy"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tau < 0:
            raise ValueError(f"tau must be at least 0, got {self.tau}")


def _loss(
    logits_LBK: Tensor, labels_LB: Tensor, counts_LK: Tensor, progress: Tensor, options: Options
) -> Tensor:
    import torch

    tau = torch.where(progress < options.deferred, 0.0, options.tau)
    offsets_L1K = tau * counts_LK.to(logits_LBK.dtype).log().unsqueeze(1)
    return cross_entropy(logits_LBK + offsets_L1K, labels_LB)


LOGIT_ADJUSTED_LOSS = Method(
    description="learn with the logarithm of the classes' shares added to the logits, predict without it",
    options=LogitAdjustedOptions,
    loss=_loss,
)
