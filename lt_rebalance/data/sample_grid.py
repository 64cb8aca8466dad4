"""A grid of samples of every class as PNG. Shape suffixes: N images, C H W image."""

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, PngImagePlugin

from lt_rebalance.data.spec import Dataset
from lt_rebalance.files.archive import require_outside
from lt_rebalance.ground.text import one_line

_MARK = ("Software", "lt-rebalance data")
"""mark that distinguishes such a grid from other pictures"""
_NUM_COLUMNS = 10
_SMALLEST_CELL = 48
_NAME_WIDTH, _GAP = 160, 2
_LETTERS = 24


def require_free(path: str) -> None:
    """Raise a ValueError unless a grid may be written under a name."""
    if not path.endswith(".png") or "://" in path:
        raise ValueError(f"--samples must be a file of this machine that ends in .png, got {path!r}")
    if os.path.lexists(path) and not _is_grid(path):
        raise ValueError(f"--samples {path} is there and was not made by this command; name another file")
    if not Path(path).absolute().parent.is_dir():
        raise ValueError(f"--samples {path} cannot be written: there is no such directory; make it")
    require_outside("--samples", path)


def write_grid(path: str, dataset: Dataset, class_names: Sequence[str], labels: Sequence[int]) -> None:
    """Draw images of each class in one row and write the grid, replacing only an earlier grid.

    Raises:
        ValueError: it cannot be written.
    """
    images_NCHW, labels_N = dataset.train_images_NCHW, dataset.train_labels_N
    side = max(_SMALLEST_CELL, *images_NCHW.shape[2:])
    step = side + _GAP
    grid = Image.new("RGB", (_NAME_WIDTH + _NUM_COLUMNS * step, len(labels) * step), "white")
    draw = ImageDraw.Draw(grid)
    for row, label in enumerate(labels):
        name = one_line(class_names[label])
        shown = name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}~"
        draw.text((4, row * step + side // 2 - 6), shown, fill="black")
        for column, place in enumerate(_spread(np.flatnonzero(labels_N == label))):
            grid.paste(_to_cell(images_NCHW[place], side), (_NAME_WIDTH + column * step, row * step))
    information = PngImagePlugin.PngInfo()
    information.add_text(*_MARK)
    temporary = Path(path).with_name(f".writing-{secrets.token_hex(8)}")  # which nobody can have made a link
    try:
        with temporary.open("xb") as file:
            grid.save(file, format="PNG", pnginfo=information)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ValueError(f"--samples {path} cannot be written ({error.strerror or error})") from None


def _spread(places: NDArray[np.int64]) -> list[int]:
    """Return at most a row of positions, evenly spaced over all."""
    chosen = np.linspace(0, len(places) - 1, min(len(places), _NUM_COLUMNS)).round().astype(int)
    return [int(places[each]) for each in chosen]


def _to_cell(image_CHW: NDArray[np.uint8], side: int) -> Image.Image:
    pixels = np.ascontiguousarray(np.moveaxis(image_CHW, 0, 2))
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.NEAREST)


def _is_grid(path: str) -> bool:
    try:
        with Image.open(path, formats=("PNG",)) as image:
            return image.info.get(_MARK[0]) == _MARK[1]
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
