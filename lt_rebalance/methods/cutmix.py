"""CutMix: learn from images with a rectangle of another, with both labels by their areas.

Source: Yun, Han, Oh, Chun, Choe, Yoo 2019, CutMix: Regularization Strategy to Train Strong Classifiers with
Localizable Features, arXiv 1905.04899, equations 1 and 2: the rectangle has a share 1 - w of the area, w from
Beta(alpha, alpha), its middle anywhere in the image; labels share the loss by what the images have of the
area. Deviations: each pair has its own rectangle, while their code draws one for the batch; every batch is
mixed. With weights from `deferred` of the budget on (`cutmix_drw`) the loss is weighted as in DRW (Cao et al.
2019, arXiv 1906.07413).

Shape suffixes: L lanes, B items of a batch, C H W image, P labels of a mixed item.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.methods.contract import Method, Mix, Mixed, Options
from lt_rebalance.methods.mixup import MixupDrwOptions, MixupOptions, take_partners, weighted_late

if TYPE_CHECKING:
    from torch import Tensor


class CutmixOptions(MixupOptions):
    """Options of CutMix: alpha of the Beta distribution."""


class CutmixDrwOptions(MixupDrwOptions):
    """Options of CutMix with weights late in training."""


def _draw(rng: np.random.Generator, num_items: int, options: Options) -> tuple[NDArray[Any], ...]:
    weights_B = rng.beta(options.alpha, options.alpha, size=num_items)
    return weights_B, rng.permutation(num_items), rng.random(num_items), rng.random(num_items)


def _apply(
    images_LBCHW: Tensor,
    labels_LB: Tensor,
    weights_LB: Tensor,
    partners_LB: Tensor,
    rows_LB: Tensor,
    columns_LB: Tensor,
) -> Mixed:
    import torch

    share_LB = (1 - weights_LB).clamp(min=0).sqrt()
    is_inside = []
    for middles_LB, side in ((rows_LB, images_LBCHW.shape[-2]), (columns_LB, images_LBCHW.shape[-1])):
        middle_LB1 = (middles_LB * side).floor().unsqueeze(-1)
        length_LB1 = (share_LB * side).floor().unsqueeze(-1)
        places = torch.arange(side, device=images_LBCHW.device)
        first_LB1 = middle_LB1 - (length_LB1 / 2).floor()
        is_inside.append((places >= first_LB1) & (places < first_LB1 + length_LB1))
    is_other_LB1HW = (is_inside[0].unsqueeze(-1) & is_inside[1].unsqueeze(-2)).unsqueeze(2)
    kept_LB = 1 - is_other_LB1HW.float().mean(dim=(2, 3, 4))
    return Mixed(
        images_LBCHW=torch.where(is_other_LB1HW, take_partners(images_LBCHW, partners_LB), images_LBCHW),
        labels_LBP=torch.stack([labels_LB, labels_LB.gather(1, partners_LB)], dim=-1),
        weights_LBP=torch.stack([kept_LB, 1 - kept_LB], dim=-1),
    )


CUTMIX = Method(
    description="learn from images with a rectangle of another, with both labels",
    options=CutmixOptions,
    mix=Mix(stream="cutmix/rectangles", draw=_draw, apply=_apply),
)
CUTMIX_DRW = Method(
    description="CutMix, late also with weights of classes",
    options=CutmixDrwOptions,
    mix=Mix(stream="cutmix_drw/rectangles", draw=_draw, apply=_apply),
    loss=weighted_late,
)
