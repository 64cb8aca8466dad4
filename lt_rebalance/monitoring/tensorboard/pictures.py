"""Small pictures for TensorBoard: a confusion matrix, a grid of generated images; a few kilobytes each.

Shape suffixes: K classes, S samples of a class, C H W image.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lt_rebalance.monitoring.tensorboard.protos import Picture

CELL_PX = 34
FONT_PX = 12
MAX_WRITTEN = 20
"""up to this many classes, a matrix has room for numbers and names"""
SMALL_CELL_PX = 6
_DARK, _LIGHT = (22, 60, 120), (255, 255, 255)
_MARGIN_PX = 6
_COLOURS = 16
JPEG_QUALITY = 40


def draw_confusion(confusion_KK: NDArray[np.integer], class_names: Sequence[str]) -> Picture:
    """Draw counts of test images by true class (rows) and prediction (columns).

    The darker a cell, the larger its share of its row.
    """
    if len(class_names) > MAX_WRITTEN:
        return _encode(_reduce(Image.fromarray(_shade(confusion_KK)).resize(_square(confusion_KK), 0)), "png")
    font = ImageFont.load_default(FONT_PX)
    rows = [f"{label} {name}" for label, name in enumerate(class_names)]
    left = _MARGIN_PX + round(max(font.getlength(row) for row in rows)) + _MARGIN_PX
    top = FONT_PX + 2 * _MARGIN_PX
    size = CELL_PX * len(rows)
    canvas = Image.new("RGB", (left + size + _MARGIN_PX, top + size + _MARGIN_PX), _LIGHT)
    cells = Image.fromarray(_shade(confusion_KK)).resize((size, size), Image.Resampling.NEAREST)
    canvas.paste(cells, (left, top))
    draw = ImageDraw.Draw(canvas)
    for label, row in enumerate(rows):
        middle = label * CELL_PX + CELL_PX // 2
        draw.text((left - _MARGIN_PX, top + middle), row, "black", font, anchor="rm")
        draw.text((left + middle, top - _MARGIN_PX), str(label), "black", font, anchor="mb")
    shares_KK = _row_shares(confusion_KK)
    for (row_label, column), count in np.ndenumerate(confusion_KK):
        if count:
            place = (left + column * CELL_PX + CELL_PX // 2, top + row_label * CELL_PX + CELL_PX // 2)
            ink = "white" if shares_KK[row_label, column] > 0.5 else "black"
            draw.text(place, str(count), ink, font, anchor="mm")
    return _encode(_reduce(canvas), "png")


def _reduce(drawing: Image.Image) -> Image.Image:
    return drawing.quantize(_COLOURS, dither=Image.Dither.NONE)


def _square(confusion_KK: NDArray[np.integer]) -> tuple[int, int]:
    size = SMALL_CELL_PX * len(confusion_KK)
    return size, size


def _row_shares(confusion_KK: NDArray[np.integer]) -> NDArray[np.float64]:
    shares_KK: NDArray[np.float64] = confusion_KK / np.maximum(confusion_KK.sum(axis=1, keepdims=True), 1)
    return shares_KK


def _shade(confusion_KK: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Return colours (K, K, 3) from white, for a share of 0, to dark, for a whole row."""
    shares_KK1 = np.sqrt(_row_shares(confusion_KK))[..., None]
    colours_KK3 = np.array(_LIGHT) * (1 - shares_KK1) + np.array(_DARK) * shares_KK1
    rounded: NDArray[np.uint8] = colours_KK3.round().astype(np.uint8)
    return rounded


def draw_samples(samples_KSCHW: NDArray[np.uint8]) -> Picture:
    """Arrange generated images, one row per class, as JPEG, the smallest format for noisy images."""
    num_classes, num_samples, channels, height, width = samples_KSCHW.shape
    grid = samples_KSCHW.transpose(0, 3, 1, 4, 2).reshape(num_classes * height, num_samples * width, channels)
    drawing = Image.fromarray(grid[..., 0] if channels == 1 else grid)
    return _encode(drawing, "jpeg", quality=JPEG_QUALITY)


def _encode(drawing: Image.Image, file_format: str, **options: Any) -> Picture:  # Any: options of the format
    file = io.BytesIO()
    drawing.save(file, file_format, optimize=True, **options)
    return Picture(content=file.getvalue(), width=drawing.width, height=drawing.height)
