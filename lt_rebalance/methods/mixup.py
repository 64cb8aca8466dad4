"""mixup: learn from weighted means of two images, with both labels.

Source: Zhang, Cisse, Dauphin, Lopez-Paz 2018, mixup: Beyond Empirical Risk Minimization, arXiv 1710.09412,
equations in section 1 and figure 1: x = w x_i + (1 - w) x_j, y = w y_i + (1 - w) y_j, w from Beta(alpha,
alpha), partners from a permutation of the batch. The loss is linear in y, so it is the weighted mean of the
losses under both labels. Deviation: each pair has its own weight, as in the paper's text; its code draws one
for the batch. `mixup_drw` weights classes late in training, as in DRW (Cao et al. 2019, arXiv 1906.07413).

Shape suffixes: L lanes, B items of a batch, C H W image, P labels of a mixed item.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.ground.plain import require_positive
from lt_rebalance.methods.contract import Method, Mix, Mixed, Options
from lt_rebalance.methods.domains import Range, searched
from lt_rebalance.methods.weighing import LateWeights, cross_entropy, weigh_late

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class MixupOptions:
    """Options of mixup."""

    alpha: float = searched(1.0, Range(low=0.1, high=2.0, is_log=True, unit="of a Beta distribution"))
    """of the Beta distribution; the smaller, the closer a mean is to one of its images"""

    def __post_init__(self) -> None:
        require_positive(alpha=self.alpha)


@dataclass(frozen=True, kw_only=True)
class MixupDrwOptions(MixupOptions, LateWeights):
    """Options of mixup with weights late in training."""

    def __post_init__(self) -> None:
        MixupOptions.__post_init__(self)
        LateWeights.__post_init__(self)


def draw_mixup(rng: np.random.Generator, num_items: int, options: Options) -> tuple[NDArray[Any], ...]:
    """Draw the weight and the partner of each item."""
    return rng.beta(options.alpha, options.alpha, size=num_items), rng.permutation(num_items)


def take_partners(images_LBCHW: Tensor, partners_LB: Tensor) -> Tensor:
    """Return the images of the items with these numbers, in the same lane."""
    import torch

    lanes_L1 = torch.arange(len(partners_LB), device=partners_LB.device).unsqueeze(1)
    return images_LBCHW[lanes_L1, partners_LB]


def apply_mixup(images_LBCHW: Tensor, labels_LB: Tensor, weights_LB: Tensor, partners_LB: Tensor) -> Mixed:
    """Return the weighted means of images and their partners."""
    import torch

    weights_LB111 = weights_LB[..., None, None, None]
    others_LBCHW = take_partners(images_LBCHW, partners_LB)
    return Mixed(
        images_LBCHW=weights_LB111 * images_LBCHW + (1 - weights_LB111) * others_LBCHW,
        labels_LBP=torch.stack([labels_LB, labels_LB.gather(1, partners_LB)], dim=-1),
        weights_LBP=torch.stack([weights_LB, 1 - weights_LB], dim=-1),
    )


def weighted_late(
    logits_LBK: Tensor, labels_LB: Tensor, counts_LK: Tensor, progress: Tensor, options: Options
) -> Tensor:
    """Return `losses_LB`, late in training weighted by the inverse of effective numbers."""
    return weigh_late(cross_entropy(logits_LBK, labels_LB), labels_LB, counts_LK, progress, options)


MIXUP = Method(
    description="learn from weighted means of two images, with both labels",
    options=MixupOptions,
    mix=Mix(stream="mixup/pairs", draw=draw_mixup, apply=apply_mixup),
)
MIXUP_DRW = Method(
    description="mixup, late also with weights of classes",
    options=MixupDrwOptions,
    mix=Mix(stream="mixup_drw/pairs", draw=draw_mixup, apply=apply_mixup),
    loss=weighted_late,
)
