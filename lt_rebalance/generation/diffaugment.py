"""DiffAugment: real and fake images are augmented alike before a discriminator sees them.

Source: Zhao et al. 2020, arXiv 2006.10738, and its code (DiffAugment_pytorch.py): colour, translation and
cutout in this order, with a separate draw per image, in the updates of discriminator and generator; gradients
pass. Deviation: colour is omitted for grey images; of it only brightness and contrast would change them.

Shape suffixes: L lanes, B images of a batch, N images of all lanes, C H W image, U draws of an image.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lt_rebalance.ground.seeding import random_words

TRANSLATED_SHARE = 1 / 8
"""largest shift as a share of a side, in both directions"""
CUT_SHARE = 1 / 2
"""of both sides"""
NUM_DRAWS = 8
"""draws per image; the last is not used"""


@dataclass(frozen=True, kw_only=True)
class DiffAugment:
    """Augment images of several lanes with counter-based draws, which need no state.

    A draw depends only on its lane's key, the step and its place in the step.
    """

    keys_L: Tensor
    """int64, from `seeding.stream_key`"""

    def __call__(self, images_LBCHW: Tensor, step: Tensor, first: int) -> Tensor:
        """Return augmented images.

        Args:
            step: int64 without axes, on the same device.
            first: the place of the first image among all that are augmented in the step.
        """
        num_lanes, num_images = images_LBCHW.shape[:2]
        draws_LBU = draw_uniform(self.keys_L, step, first, num_images)
        changed_NCHW = augment(images_LBCHW.flatten(0, 1), draws_LBU.flatten(0, 1))
        return changed_NCHW.view(num_lanes, num_images, *changed_NCHW.shape[1:])


def draw_uniform(keys_L: Tensor, step: Tensor, first: int, num_images: int) -> Tensor:
    """Return `draws_LBU`, float32, from 0 to below 1 by 2^-24; arguments as for `DiffAugment`."""
    places_P = torch.arange(NUM_DRAWS * num_images, device=keys_L.device) + NUM_DRAWS * first
    words_LP = random_words(keys_L.unsqueeze(1), places_P + (step << 32))
    draws_LP = (words_LP & (2**24 - 1)).float() * 2**-24
    return draws_LP.view(len(keys_L), num_images, NUM_DRAWS)


def augment(images_NCHW: Tensor, draws_NU: Tensor) -> Tensor:
    """Return images with changed colours (if they have three), translated, and with a region set to 0."""
    brightness, saturation, contrast, down, right, top, left, _ = draws_NU.unbind(1)
    if images_NCHW.shape[1] > 1:
        images_NCHW = recolour(images_NCHW, brightness, saturation, contrast)
    height, width = images_NCHW.shape[2:]
    most = [int(side * TRANSLATED_SHARE + 0.5) for side in (height, width)]
    moves = [_whole(draw_N, 2 * far + 1) - far for draw_N, far in zip((down, right), most, strict=True)]
    moved_NCHW = translate(images_NCHW, *moves)
    sizes = [int(side * CUT_SHARE + 0.5) for side in (height, width)]
    # As in the code: a centre anywhere, one place more where the part has an even side.
    centres = [
        _whole(draw_N, side + 1 - size % 2)
        for draw_N, side, size in zip((top, left), (height, width), sizes, strict=True)
    ]
    return cut_out(moved_NCHW, *(centre_N - size // 2 for centre_N, size in zip(centres, sizes, strict=True)))


def _whole(draw_N: Tensor, number: int) -> Tensor:
    """Return whole numbers from 0 to one less than a number."""
    return (draw_N * number).long()


def recolour(images_NCHW: Tensor, brightness_N: Tensor, saturation_N: Tensor, contrast_N: Tensor) -> Tensor:
    """Return images with changed brightness, saturation and contrast, by draws from 0 to 1.

    Brightness adds -0.5 to 0.5; saturation multiplies the difference of a pixel from its mean over the
    colours by 0 to 2; contrast multiplies its difference from the mean of the image by 0.5 to 1.5.
    """
    brightness, saturation, contrast = (
        each[:, None, None, None] for each in (brightness_N, saturation_N, contrast_N)
    )
    images_NCHW = images_NCHW + (brightness - 0.5)
    grey = images_NCHW.mean(dim=1, keepdim=True)
    images_NCHW = (images_NCHW - grey) * (2 * saturation) + grey
    mean = images_NCHW.mean(dim=(1, 2, 3), keepdim=True)
    return (images_NCHW - mean) * (contrast + 0.5) + mean


def translate(images_NCHW: Tensor, down_N: Tensor, right_N: Tensor) -> Tensor:
    """Return images translated by whole numbers of pixels; new pixels are 0, between black and white."""
    for axis, move_N in ((2, down_N), (3, right_N)):
        side = images_NCHW.shape[axis]
        sources_NS = torch.arange(side, device=move_N.device) - move_N[:, None]
        is_inside_NS = (sources_NS >= 0) & (sources_NS < side)
        shape = [len(move_N), 1, 1, 1]
        shape[axis] = side
        index = sources_NS.clamp(0, side - 1).view(shape).expand(images_NCHW.shape)
        images_NCHW = images_NCHW.gather(axis, index) * is_inside_NS.view(shape)
    return images_NCHW


def cut_out(images_NCHW: Tensor, top_N: Tensor, left_N: Tensor) -> Tensor:
    """Return images with a region set to 0, with half their sides, clipped at the border."""
    is_cut = torch.ones((), dtype=torch.bool, device=top_N.device)
    for axis, first_N in ((2, top_N), (3, left_N)):
        side = images_NCHW.shape[axis]
        places_NS = torch.arange(side, device=first_N.device) - first_N[:, None]
        shape = [len(first_N), 1, 1, 1]
        shape[axis] = side
        is_cut = is_cut & ((places_NS >= 0) & (places_NS < int(side * CUT_SHARE + 0.5))).view(shape)
    return images_NCHW * ~is_cut
