"""LDAM and LDAM-DRW: a margin for every class, wider for rarer ones, with a cosine classifier.

Source: Cao, Wei, Gaidon, Arechiga, Ma 2019, Learning Imbalanced Datasets with Label-Distribution-Aware Margin
Loss, arXiv 1906.07413, equations 12 and 13: a margin proportional to n_c^(-1/4), at most `max_margin`, is
subtracted from the cosine of an item's class; then all are scaled by `scale` (their code: 0.5 and 30) for
cross-entropy. DRW, algorithm 1: after `deferred` of the budget, items are weighted by the inverse of the
effective numbers of their classes, beta 0.9999. LDAM is the same without weights, and `cosine` is its
control: the head alone, with cross-entropy. Deviations: the head's first weights are those of the linear
layer that it replaces, at length 1; a batch is not divided by its weights; their code lowers the learning
rate where DRW begins, which is part of the schedule here.

Shape suffixes: L lanes, B items of a batch, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lt_rebalance.ground.plain import require_positive
from lt_rebalance.methods.contract import Method, Options
from lt_rebalance.methods.domains import Range, searched
from lt_rebalance.methods.weighing import LateWeights, cross_entropy, weigh_late

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class CosineOptions:
    """Options of a cosine classifier."""

    scale: float = searched(30.0, Range(low=5.0, high=60.0, is_log=True, unit="factor"))
    """factor from cosines to logits"""

    def __post_init__(self) -> None:
        require_positive(scale=self.scale)


@dataclass(frozen=True, kw_only=True)
class LdamOptions(CosineOptions):
    """Options of LDAM."""

    max_margin: float = searched(0.5, Range(low=0.0, high=1.0, unit="cosine"))
    """of the smallest class, in units of the cosine"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_margin < 0:
            raise ValueError(f"max_margin must be at least 0, got {self.max_margin}")


@dataclass(frozen=True, kw_only=True)
class LdamDrwOptions(LdamOptions, LateWeights):
    """Options of LDAM-DRW."""

    def __post_init__(self) -> None:
        LdamOptions.__post_init__(self)
        LateWeights.__post_init__(self)


def _head(linear: nn.Linear, options: Options) -> nn.Module:
    from lt_rebalance.networks.heads import CosineLinear

    return CosineLinear(linear, options.scale)


def _ldam(
    logits_LBK: Tensor, labels_LB: Tensor, counts_LK: Tensor, progress: Tensor, options: Options
) -> Tensor:
    from torch.nn import functional

    rarity_LK = counts_LK.to(logits_LBK.dtype).pow(-0.25)
    margins_LK = options.max_margin * rarity_LK / rarity_LK.amax(dim=1, keepdim=True)
    is_own_LBK = functional.one_hot(labels_LB, logits_LBK.shape[-1])
    return cross_entropy(logits_LBK - options.scale * margins_LK.unsqueeze(1) * is_own_LBK, labels_LB)


def _ldam_drw(
    logits_LBK: Tensor, labels_LB: Tensor, counts_LK: Tensor, progress: Tensor, options: Options
) -> Tensor:
    losses_LB = _ldam(logits_LBK, labels_LB, counts_LK, progress, options)
    return weigh_late(losses_LB, labels_LB, counts_LK, progress, options)


COSINE = Method(
    description="answer with scaled cosines in place of a linear layer", options=CosineOptions, head=_head
)
LDAM = Method(
    description="learn with margins that are wider for rarer classes",
    options=LdamOptions,
    head=_head,
    loss=_ldam,
)
LDAM_DRW = Method(
    description="learn with margins that are wider for rarer classes, late also with weights",
    options=LdamDrwOptions,
    head=_head,
    loss=_ldam_drw,
)
