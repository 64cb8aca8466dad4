"""Augmentation without rebalancing: a baseline for methods with synthetic images.

Sources: random erasing of Zhong, Zheng, Kang, Li, Yang 2017, Random Erasing Data Augmentation, arXiv
1708.04896, algorithm 1 (a rectangle of 2 to 40 % of the area and an aspect ratio of 0.3 to 1/0.3); shifts by
a few pixels with an empty border are older than any paper. Deviations: the rectangle is grey (0 in [-1, 1])
instead of noise, and is clipped at the border instead of drawn again. Mirroring is off by default, because a
mirrored digit or traffic sign is another one. Every image of a batch has its own draws.
`classifier.augmentation` is similar, but part of the setting of all methods.

Shape suffixes: L lanes, B items of a batch, C H W image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.methods.contract import Method, Mix, Mixed, Options
from lt_rebalance.methods.domains import Choice, Range, searched

if TYPE_CHECKING:
    from torch import Tensor

ERASED_AREAS = (0.02, 0.4)
ERASED_RATIO = 0.3


@dataclass(frozen=True, kw_only=True)
class AugmentationOptions:
    """Options of augmentation."""

    shift: int = searched(2, Choice(values=(0, 1, 2, 4), unit="pixels"))
    """largest shift of an image in each direction, in pixels"""
    erasing: float = searched(0.5, Range(low=0.0, high=1.0, unit="chance"))
    """probability that a rectangle is erased"""
    flip: bool = False
    """whether half of the images are mirrored left to right"""

    def __post_init__(self) -> None:
        if self.shift < 0:
            raise ValueError(f"shift must be at least 0, got {self.shift}")
        if not 0 <= self.erasing <= 1:
            raise ValueError(f"erasing must be at least 0 and at most 1, got {self.erasing}")


def _draw(rng: np.random.Generator, num_items: int, options: Options) -> tuple[NDArray[Any], ...]:
    shifts_B2 = rng.integers(-options.shift, options.shift + 1, size=(num_items, 2))
    is_mirrored_B = (rng.random(num_items) < 0.5) & options.flip
    is_erased_B = rng.random(num_items) < options.erasing
    areas_B = np.where(is_erased_B, rng.uniform(*ERASED_AREAS, num_items), 0.0)
    ratios_B = rng.uniform(ERASED_RATIO, 1 / ERASED_RATIO, num_items)
    sides_B2 = np.stack([np.sqrt(areas_B * ratios_B), np.sqrt(areas_B / ratios_B)], axis=1)
    return shifts_B2, is_mirrored_B, sides_B2, rng.random((num_items, 2))


def _apply(
    images_LBCHW: Tensor,
    labels_LB: Tensor,
    shifts_LB2: Tensor,
    is_mirrored_LB: Tensor,
    sides_LB2: Tensor,
    middles_LB2: Tensor,
) -> Mixed:
    import torch

    is_mirrored = is_mirrored_LB[..., None, None, None]
    images_LBCHW = torch.where(is_mirrored, images_LBCHW.flip(-1), images_LBCHW)
    is_empty, is_erased = [], []
    for axis, dimension in ((0, -2), (1, -1)):
        size = images_LBCHW.shape[dimension]
        places = torch.arange(size, device=images_LBCHW.device)
        from_LBS = places - shifts_LB2[..., axis, None]
        is_empty.append((from_LBS < 0) | (from_LBS >= size))
        shape = [*from_LBS.shape[:2], 1, 1, 1]
        shape[dimension] = size
        index = from_LBS.clamp(0, size - 1).view(shape).expand_as(images_LBCHW)
        images_LBCHW = images_LBCHW.gather(dimension, index)
        middle_LB1 = (middles_LB2[..., axis, None] * size).floor()
        length_LB1 = (sides_LB2[..., axis, None] * size).round()
        first_LB1 = middle_LB1 - (length_LB1 / 2).floor()
        is_erased.append((places >= first_LB1) & (places < first_LB1 + length_LB1))
    is_border = (is_empty[0].unsqueeze(-1) | is_empty[1].unsqueeze(-2)).unsqueeze(2)
    is_grey = (is_erased[0].unsqueeze(-1) & is_erased[1].unsqueeze(-2)).unsqueeze(2)
    images_LBCHW = images_LBCHW.masked_fill(is_border, -1).masked_fill(is_grey, 0)
    labels_LBP = labels_LB.unsqueeze(-1)
    return Mixed(images_LBCHW, labels_LBP, torch.ones_like(labels_LBP, dtype=images_LBCHW.dtype))


AUGMENTATION = Method(
    description="the set as it is, with shifted and partly erased images",
    options=AugmentationOptions,
    mix=Mix(stream="augmentation/draws", draw=_draw, apply=_apply),
)
