"""Remix: mixup that gives the label to the rarer class if the counts of two classes differ much.

Source: Chou, Chang, Pan, Wei, Juan 2020, Remix: Rebalanced Mixup, arXiv 2007.03943, equation 6: with w the
share of image i, the label is that of j alone if n_i / n_j >= kappa and w < tau, that of i alone if n_i / n_j
<= 1 / kappa and 1 - w < tau, and mixed as in mixup otherwise. Their kappa and tau are 3 and 0.5. Deviation:
each pair has its own weight, as in `mixup` here.

Shape suffixes: L lanes, B items of a batch, P labels of a mixed item, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lt_rebalance.methods.contract import Method, Mix, Options
from lt_rebalance.methods.domains import Range, searched
from lt_rebalance.methods.mixup import MixupOptions, apply_mixup, draw_mixup, weighted_late
from lt_rebalance.methods.weighing import LateWeights, require_share

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class RemixOptions(MixupOptions):
    """Options of Remix."""

    kappa: float = searched(3.0, Range(low=1.0, high=10.0, is_log=True, unit="ratio of counts"))
    """smallest ratio of the counts of the two classes"""
    tau: float = searched(0.5, Range(low=0.0, high=1.0, unit="share"))
    """share of the image of the larger class below which the rarer class gets the label"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kappa < 1:
            raise ValueError(f"kappa must be at least 1, got {self.kappa}")
        require_share(tau=self.tau)


@dataclass(frozen=True, kw_only=True)
class RemixDrwOptions(RemixOptions, LateWeights):
    """Options of Remix with weights late in training."""

    def __post_init__(self) -> None:
        RemixOptions.__post_init__(self)
        LateWeights.__post_init__(self)


def _reweigh(weights_LBP: Tensor, labels_LBP: Tensor, counts_LK: Tensor, options: Options) -> Tensor:
    import torch

    counts_LBP = counts_LK.gather(1, labels_LBP.flatten(1)).view(labels_LBP.shape)
    share_LB, count_LB, other_LB = weights_LBP[..., 0], counts_LBP[..., 0], counts_LBP[..., 1]
    is_other = (count_LB >= options.kappa * other_LB) & (share_LB < options.tau)
    is_own = (options.kappa * count_LB <= other_LB) & (1 - share_LB < options.tau)
    share_LB = torch.where(is_other, 0.0, torch.where(is_own, 1.0, share_LB))
    return torch.stack([share_LB, 1 - share_LB], dim=-1)


REMIX = Method(
    description="mixup whose label goes to the rarer class where the counts are far apart",
    options=RemixOptions,
    mix=Mix(stream="remix/pairs", draw=draw_mixup, apply=apply_mixup, reweigh=_reweigh),
)
REMIX_DRW = Method(
    description="Remix, late also with weights of classes",
    options=RemixDrwOptions,
    mix=Mix(stream="remix_drw/pairs", draw=draw_mixup, apply=apply_mixup, reweigh=_reweigh),
    loss=weighted_late,
)
