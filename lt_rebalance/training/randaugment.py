"""RandAugment: a few of fourteen operations for every image, drawn at random, all at one magnitude.

Source: Cubuk, Zoph, Shlens, Le 2019, arXiv 1909.13719, section 3; operations and their ranges are those of
torchvision.transforms.v2.RandAugment, on bytes, with nearest pixels and black from outside. Deviations from
it: levels and the threshold of solarize are truncated from exact values, not from sums in float32, so a level
may be one higher; of two pixels at the same distance the other one may be chosen. Synthetic images are
rounded to bytes. On grey images color has no effect.

All operations are computed for all images, and each changes only its own images, so a batch is one program
with fixed shapes. Values are whole numbers in float32, below 2^24, so the order of sums changes no bit.

Shape suffixes: N images, C H W image, P its pixels, V the 256 levels, E entries: operations with a sign.
"""

import math

import torch
from torch import Tensor, nn

from lt_rebalance.ground.seeding import random_words

OPERATIONS = (
    *("identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "color"),
    *("contrast", "sharpness", "posterize", "solarize", "auto_contrast", "equalize"),
)
"""each twice, once for each sign: entry 2 i is the i-th upwards, 2 i + 1 downwards, if it has a sign"""
NUM_LEVELS = 256


class RandAugment:
    """The operations at one magnitude on images of one shape, on a device."""

    def __init__(
        self, num_operations: int, magnitude: int, image_shape: tuple[int, int, int], device: torch.device
    ) -> None:
        """Set the number of operations per image and their magnitude, as `recipe` checks them."""
        self._num_operations = num_operations
        height, width = image_shape[1:]
        entries = [(name, sign * magnitude) for name in OPERATIONS for sign in (1, -1)]
        affine = [_map_back(name, strength, height, width) for name, strength in entries]
        self._affine_E6 = torch.tensor(affine, dtype=torch.float32, device=device)
        names = ("brightness", "color", "contrast", "sharpness")
        weights = [-3.0 * strength * (name in names) for name, strength in entries]
        self._percent_E = torch.tensor(weights, device=device)
        self._levels_EV = torch.stack([_levels(name, magnitude) for name, _ in entries]).to(device)

    def __call__(self, images_NCHW: Tensor, keys_N: Tensor) -> Tensor:
        """Return augmented images, float32 in [-1, 1]; random numbers follow from the keys, int64."""
        levels_NCHW = images_NCHW.add(1).mul_(127.5).round_().clamp_(0, 255)
        counters = torch.arange(self._num_operations, device=keys_N.device)
        words = random_words(keys_N.unsqueeze(1), counters) & (2**62 - 1)
        for entries_N in (words % len(self._percent_E)).unbind(1):
            levels_NCHW = self.apply(levels_NCHW, entries_N)
        return levels_NCHW.div_(127.5).sub_(1)

    def apply(self, levels_NCHW: Tensor, entries_N: Tensor) -> Tensor:
        """Return images after one operation each; both are whole numbers from 0 to 255 in float32."""
        return self._look_up(self._blend(self._move(levels_NCHW, entries_N), entries_N), entries_N)

    def _move(self, levels_NCHW: Tensor, entries_N: Tensor) -> Tensor:
        """Shear, translate and rotate: every pixel is the nearest pixel to its source position, or black."""
        height, width = levels_NCHW.shape[2:]
        xx, xy, x0, yx, yy, y0 = self._affine_E6[entries_N].T[:, :, None, None]
        y_H1 = torch.arange(height, device=xx.device).sub(height / 2 - 0.5).unsqueeze(1)
        x_W = torch.arange(width, device=xx.device).sub(width / 2 - 0.5)
        columns_NHW = (xx * x_W + xy * y_H1 + x0 + (width / 2 - 0.5)).round().long()
        rows_NHW = (yx * x_W + yy * y_H1 + y0 + (height / 2 - 0.5)).round().long()
        is_inside = (columns_NHW >= 0) & (columns_NHW < width) & (rows_NHW >= 0) & (rows_NHW < height)
        places_N1P = torch.where(is_inside, rows_NHW * width + columns_NHW, 0).flatten(1).unsqueeze(1)
        moved_NCP = levels_NCHW.flatten(2).gather(2, places_N1P.expand(-1, levels_NCHW.shape[1], -1))
        moved_NCHW: Tensor = moved_NCP.view_as(levels_NCHW) * is_inside.unsqueeze(1)
        return moved_NCHW

    def _blend(self, levels_NCHW: Tensor, entries_N: Tensor) -> Tensor:
        """Blend an image with, or away from, black, its grey, the mean of its grey or its blurred copy."""
        grey_N1HW = levels_NCHW
        if levels_NCHW.shape[1] == 3:
            red, green, blue = levels_NCHW.split(1, dim=1)
            grey_N1HW = (red * 2989 + green * 5870 + blue * 1140).div_(10_000).floor_()
        blurred_NCHW = levels_NCHW.clone()
        inner = levels_NCHW[:, :, 1:-1, 1:-1]
        sums = nn.functional.avg_pool2d(levels_NCHW, 3, stride=1, divisor_override=1) + inner * 4
        blurred_NCHW[:, :, 1:-1, 1:-1] = (sums / 13).round_()
        target_NCHW = torch.where(_is(entries_N, "color"), grey_N1HW, blurred_NCHW)
        mean_N111 = grey_N1HW.mean(dim=(1, 2, 3), keepdim=True)
        target_NCHW = torch.where(_is(entries_N, "contrast"), mean_N111, target_NCHW)
        target_NCHW = target_NCHW.masked_fill_(_is(entries_N, "brightness"), 0)
        percent_N111 = self._percent_E[entries_N][:, None, None, None]
        blended_NCHW = (target_NCHW - levels_NCHW).mul_(percent_N111).add_(levels_NCHW * 100)
        return blended_NCHW.div_(100).clamp_(0, 255).floor_()

    def _look_up(self, levels_NCHW: Tensor, entries_N: Tensor) -> Tensor:
        """Posterize, solarize, stretch the contrast or equalize, each a map from level to level."""
        places_NCP = levels_NCHW.flatten(2).long()
        num_NCV = places_NCP.new_zeros(*places_NCP.shape[:2], NUM_LEVELS)
        num_NCV.scatter_add_(2, places_NCP, torch.ones_like(places_NCP))
        high_NC1, low_NC1 = places_NCP.amax(2, keepdim=True), places_NCP.amin(2, keepdim=True)
        levels_V = torch.arange(NUM_LEVELS, device=places_NCP.device)
        stretched_NCV = (levels_V - low_NC1) * 255 // (high_NC1 - low_NC1).clamp_(min=1)
        step_NC1 = (places_NCP.shape[2] - num_NCV.gather(2, high_NC1)) // 255
        equal_NCV = (num_NCV.cumsum(2) - num_NCV + step_NC1 // 2) // step_NC1.clamp(min=1)
        table_NCV = self._levels_EV[entries_N].unsqueeze(1).expand_as(num_NCV)
        is_stretched = _is(entries_N, "auto_contrast")[..., 0] & (high_NC1 > low_NC1)
        table_NCV = torch.where(is_stretched, stretched_NCV, table_NCV)
        table_NCV = torch.where(_is(entries_N, "equalize")[..., 0] & (step_NC1 > 0), equal_NCV, table_NCV)
        return table_NCV.clamp_(0, 255).gather(2, places_NCP).view_as(levels_NCHW).float()


def _is(entries_N: Tensor, name: str) -> Tensor:
    return (entries_N // 2 == OPERATIONS.index(name))[:, None, None, None]


def _map_back(name: str, strength: int, height: int, width: int) -> tuple[float, ...]:
    """Return (xx, xy, x0, yx, yy, y0): x, y from the middle comes from xx x + xy y + x0, yx x + yy y + y0."""
    slope, angle = strength / 100, math.radians(strength)
    far_x, far_y = (math.trunc(5 * side * strength / 331) for side in (width, height))
    cos, sin = math.cos(angle), math.sin(angle)
    return {
        "shear_x": (1.0, slope, slope * height / 2, 0.0, 1.0, 0.0),
        "shear_y": (1.0, 0.0, 0.0, slope, 1.0, slope * width / 2),
        "translate_x": (1.0, 0.0, -far_x, 0.0, 1.0, 0.0),
        "translate_y": (1.0, 0.0, 0.0, 0.0, 1.0, -far_y),
        "rotate": (cos, -sin, 0.0, sin, cos, 0.0),
    }.get(name, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0))


def _levels(name: str, magnitude: int) -> Tensor:
    """Return `levels_V`, int64: the new value of every level, for operations on single levels."""
    levels_V = torch.arange(NUM_LEVELS)
    if name == "posterize":
        levels_V &= NUM_LEVELS - 2 ** round(magnitude / 7.5)
    if name == "solarize":
        return torch.where(levels_V * 2 >= 510 - 17 * magnitude, 255 - levels_V, levels_V)
    return levels_V
