"""A damaged picture is refused, whatever Pillow would make of it."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lt_rebalance.images.options import OwnOptions
from lt_rebalance.images.pictures import PictureError, decode

SIDE = 16
PIXELS_HW = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), np.uint8)


@pytest.fixture(scope="module")
def content() -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS_HW).save(file, "PNG")
    return file.getvalue()


def test_png_with_any_byte_changed_is_refused_or_has_its_pixels(content: bytes, tmp_path: Path) -> None:
    path, num_refused = tmp_path / "a.png", 0
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 8]) + content[place + 1 :])
        try:
            _, pixels = decode(str(path), OwnOptions(), (SIDE, SIDE))
        except PictureError:
            num_refused += 1
            continue
        assert pixels is not None and np.array_equal(pixels, PIXELS_HW), place
    assert num_refused > 0.95 * len(content)


@pytest.mark.parametrize("num_bytes", [12, 20])
def test_png_that_is_cut_short_is_refused(num_bytes: int, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content[:-num_bytes])
    with pytest.raises(PictureError):
        decode(str(path), OwnOptions(), (SIDE, SIDE))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_whole_picture_of_each_form_is_read(form: str, tmp_path: Path) -> None:
    path = tmp_path / "a.picture"
    options = {"lossless": True} if form == "WEBP" else {}
    Image.fromarray(PIXELS_HW).save(path, form, **options)
    size, pixels = decode(str(path), OwnOptions(), None)
    assert size == (SIDE, SIDE) and pixels is not None and pixels.shape[:2] == (SIDE, SIDE)
