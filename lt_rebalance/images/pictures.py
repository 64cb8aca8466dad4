"""Decode one picture with Pillow; a picture that cannot be used unchanged is refused with a remedy.

A picture with an EXIF rotation is refused, not rotated: programs used for labelling differ in whether they
apply it, and an npz of the same pixels would contain another image.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from lt_rebalance.images.options import OwnOptions

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
MOST_PIXELS = 50_000_000
"""pixels of one picture, before it is resized"""
_FORMATS = ("PNG", "JPEG", "WEBP")
_TARGETS = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB"}
"""the target mode of a picture, by Pillow's mode"""
_REMEDIES = {
    **dict.fromkeys(("CMYK", "YCbCr", "LAB", "HSV"), "convert it to RGB"),
    **dict.fromkeys(("RGBA", "LA", "PA", "La", "RGBa"), "put it on a background of one colour"),
}


class PictureError(ValueError):
    """A picture cannot be used; `say` returns rule, what arrived and remedy."""

    def __init__(self, rule: str, got: str, remedy: str) -> None:
        super().__init__(f"{rule}, got {got}")
        self.rule, self.got, self.remedy = rule, got, remedy

    def say(self, name: str) -> str:
        """Return the error in a line."""
        return f"{self.rule}, got {name} with {self.got}; {self.remedy}"


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Suppress Pillow's warnings of what is refused here; it affects all threads, so only one may enter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def decode(
    path: str, options: OwnOptions, expected: tuple[int, int] | None
) -> tuple[tuple[int, int], NDArray[np.uint8] | None]:
    """Read a picture.

    Args:
        expected: required width and height; None if it is resized.

    Returns:
        Width and height as found; and pixels (H, W) or (H, W, 3), or None if the size is not the expected
        one.

    Raises:
        PictureError: it cannot be used.
    """
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise _unreadable("no content")
            head = file.read(26)
            file.seek(0)
            with Image.open(file, formats=_FORMATS) as image:
                image.verify()  # the checksums of PNG, which no picture is loaded by
            with Image.open(file, formats=_FORMATS) as image:
                target = _check_header(image, head)
                if expected is not None and image.size != expected:
                    return image.size, None
                image.load()
                _check_turned(image)
                return image.size, fit(image.convert(target), options)
    except PictureError:
        raise
    except Image.DecompressionBombError:
        raise _too_large("more") from None
    except UnidentifiedImageError:
        raise _unreadable("content that is not PNG, JPEG or WebP") from None
    except OSError as error:
        raise _unreadable(error.strerror or str(error) or type(error).__name__) from None
    except Exception as error:  # of damaged files Pillow raises SyntaxError, struct.error and others
        raise _unreadable(f"{type(error).__name__}: {error}") from None


def fit(image: Image.Image, options: OwnOptions) -> NDArray[np.uint8]:
    """Return the pixels of a grey or an RGB image, made grey and resized as requested."""
    if options.grey and image.mode != "L":
        image = image.convert("L")
    if options.image_size is not None and image.size != (options.image_size,) * 2:
        # Where it shrinks, Pillow widens the filter, which is what antialiasing is.
        image = image.resize((options.image_size,) * 2, Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.uint8)


def _check_header(image: Image.Image, head: bytes) -> str:
    """Return the target mode of a picture."""
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise _too_large(f"{width:,} x {height:,}")
    is_deep = image.mode.startswith(("I", "F")) or (head[:4] == b"\x89PNG" and head[24:25] == b"\x10")
    if is_deep:
        raise PictureError(
            "a picture must have 8 bits per channel", "16 bits or more", "convert it to 8 bits"
        )
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        raise PictureError(
            "a picture must have no alpha channel", "transparency", "put it on a background of one colour"
        )
    if image.mode not in _TARGETS:
        raise PictureError(
            "a picture must be grey or RGB",
            f"{image.mode} colours",
            _REMEDIES.get(image.mode, "convert it to RGB"),
        )
    if getattr(image, "n_frames", 1) > 1:
        num_frames = getattr(image, "n_frames", 1)
        raise PictureError(
            "a file must hold one picture, not animated", f"{num_frames} of them", "save one of them alone"
        )
    return _TARGETS[image.mode]


def _check_turned(image: Image.Image) -> None:
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    if orientation not in (0, 1):
        raise PictureError(
            "a picture must be stored upright",
            f"an EXIF rotation ({orientation})",
            "rotate its pixels, as `mogrify -auto-orient` does",
        )


def _too_large(size: str) -> PictureError:
    return PictureError(
        f"a picture may have up to {MOST_PIXELS:,} pixels", f"{size} pixels", "make it smaller, or remove it"
    )


def _unreadable(reason: str) -> PictureError:
    return PictureError("a picture must be readable to its end", reason, "repair or remove it")
