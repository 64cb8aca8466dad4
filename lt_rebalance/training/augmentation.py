"""Augment the images of a batch at random on the device, in training only.

The random numbers of an item are a function of its lane's key, the step and its place in the batch, in whole
numbers. They need no state, and do not depend on the device, on other lanes or on how lanes are fused. Every
augmentation has its own random words, so adding one does not change the others.

Shape suffixes: L lanes, B items of a batch, N items of all lanes, C H W image, R random words of an item.
"""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from lt_rebalance.ground.seeding import random_words
from lt_rebalance.training.randaugment import RandAugment

WORDS = 8
"""random words of an item: row and column of the crop, the flip, row and column of the square, the key
of RandAugment; rest unused"""
PAD_SHARE = 8
"""a side is padded by an eighth of it at both ends: 4 pixels of 32"""
BLACK, GREY = -1.0, 0.0


def augment(
    images_LBCHW: Tensor,
    keys_L: Tensor,
    step: Tensor,
    names: Collection[str],
    randaugment: RandAugment,
) -> Tensor:
    """Return the images of a batch as a training sees them, float32 in [-1, 1].

    "crop": padded with black, then cut out at the first size (He et al. 2016, arXiv 1512.03385, section 4.2).
    "flip": left and right exchanged in half of the images (the same). "cutout": a grey square with sides of
    half the image's, its middle anywhere in the image (DeVries, Taylor 2017, arXiv 1708.04552, section 3.2).

    Args:
        keys_L: int64, from `seeding.stream_key`.
        step: int64 without axes, on the same device.
        names: of `recipe.AUGMENTATIONS`.
        randaugment: acts where it is named.
    """
    images_NCHW = images_LBCHW.flatten(0, 1)
    words_NR = draw_words(keys_L, step, images_LBCHW.shape[1]).flatten(0, 1)
    if "crop" in names or "flip" in names:
        images_NCHW = _shift_and_flip(images_NCHW, words_NR, crops="crop" in names, flips="flip" in names)
    if "randaugment" in names:
        images_NCHW = randaugment(images_NCHW, words_NR[:, 5])
    if "cutout" in names:
        images_NCHW = _cut_out(images_NCHW, words_NR)
    changed_LBCHW: Tensor = images_NCHW.unflatten(0, images_LBCHW.shape[:2])
    return changed_LBCHW


def draw_words(keys_L: Tensor, step: Tensor, num_items: int) -> Tensor:
    """Return `words_LBR`, int64 of at least 0 and below 2^62."""
    places = torch.arange(num_items * WORDS, device=keys_L.device)
    words = random_words(keys_L.unsqueeze(1), places + (step << 32)) & (2**62 - 1)
    words_LBR: Tensor = words.view(len(keys_L), num_items, WORDS)
    return words_LBR


def _shift_and_flip(images_NCHW: Tensor, words_NR: Tensor, *, crops: bool, flips: bool) -> Tensor:
    height, width = images_NCHW.shape[2:]
    device = images_NCHW.device
    rows_NH = torch.arange(height, device=device).expand(len(images_NCHW), -1)
    columns_NW = torch.arange(width, device=device).expand(len(images_NCHW), -1)
    if flips:
        columns_NW = torch.where(words_NR[:, 2:3] % 2 == 1, width - 1 - columns_NW, columns_NW)
    if crops:
        pads = [side // PAD_SHARE for side in (height, width)]
        images_NCHW = nn.functional.pad(images_NCHW, (pads[1], pads[1], pads[0], pads[0]), value=BLACK)
        rows_NH = rows_NH + words_NR[:, 0:1] % (2 * pads[0] + 1)
        columns_NW = columns_NW + words_NR[:, 1:2] % (2 * pads[1] + 1)
    items_N = torch.arange(len(images_NCHW), device=device)
    picked_NHWC = images_NCHW[items_N[:, None, None], :, rows_NH[:, :, None], columns_NW[:, None, :]]
    return picked_NHWC.permute(0, 3, 1, 2)


def _cut_out(images_NCHW: Tensor, words_NR: Tensor) -> Tensor:
    inside = []
    for word, side in zip((3, 4), images_NCHW.shape[2:], strict=True):
        middle_N1 = words_NR[:, word : word + 1] % side
        places = torch.arange(side, device=images_NCHW.device)
        inside.append((places >= middle_N1 - side // 4) & (places < middle_N1 + side // 4))
    inside_N1HW = (inside[0][:, :, None] & inside[1][:, None, :]).unsqueeze(1)
    return images_NCHW.masked_fill(inside_N1HW, GREY)
