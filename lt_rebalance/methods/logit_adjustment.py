"""Post-hoc logit adjustment: subtract the log prior of the training set from the logits when predicting.

Source: Menon, Jayasumana, Rawat, Jain, Veit, Kumar 2021, Long-Tail Learning via Logit Adjustment, arXiv
2007.07314, equation 9: argmax_y z_y - tau log pi_y, pi the classes' shares of the training set. Deviations:
none is added to pi inside the logarithm, for every class has an item; probabilities and the loss that is
measured are those of the adjusted logits.

Shape suffixes: L lanes, N images, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lt_rebalance.methods.contract import Method, Options
from lt_rebalance.methods.domains import Range, searched

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class LogitAdjustmentOptions:
    """Options of logit adjustment."""

    tau: float = searched(1.0, Range(low=0.0, high=2.0, unit="power"))
    """factor of the logarithm of the classes' shares that is subtracted"""

    def __post_init__(self) -> None:
        if self.tau < 0:
            raise ValueError(f"tau must be at least 0, got {self.tau}")


def _adjust(logits_LNK: Tensor, counts_LK: Tensor, options: Options) -> Tensor:
    counts = counts_LK.to(logits_LNK.dtype)
    shares_LK = counts / counts.sum(dim=1, keepdim=True)
    offsets_L1K: Tensor = options.tau * shares_LK.log().unsqueeze(1)
    return logits_LNK - offsets_L1K


LOGIT_ADJUSTMENT = Method(
    description="predict with the logarithm of the classes' shares taken off the logits",
    options=LogitAdjustmentOptions,
    adjust=_adjust,
)
