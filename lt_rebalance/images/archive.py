"""Read an npz in MedMNIST's layout; sizes are checked before anything is read, and pickles are refused.

Shape suffixes: N images, H rows, W columns, C channels.
"""

import lzma
import math
import tokenize
import zipfile
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lt_rebalance.ground.errors import DataError
from lt_rebalance.ground.memory import count_cpus
from lt_rebalance.ground.text import count, one_line
from lt_rebalance.images.labels import read_labels, settle_labels
from lt_rebalance.images.options import OwnOptions
from lt_rebalance.images.pictures import MOST_PIXELS, fit
from lt_rebalance.images.pool import Pool, RawSplit
from lt_rebalance.images.progress import Progress
from lt_rebalance.images.room import require_room, require_sides

_PREFIXES = {"train": "train", "validation": "val", "test": "test"}
_PARTS = ("images", "labels", "groups")
CLASS_NAMES = "class_names"
LAYOUT = "train_images, train_labels, test_images and test_labels, as MedMNIST has them"
_PIECE = 2**22
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError),
    *(ValueError, RuntimeError, SyntaxError, tokenize.TokenError, TypeError),
)
"""what damaged bytes raise: in the archive, in a packed member, in the header of an array"""


@dataclass(frozen=True, kw_only=True)
class _Header:
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran: bool

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_archive(path: Path, options: OwnOptions) -> Pool:
    """Return the images of an npz.

    Raises:
        DataError: it is damaged or incomplete, or has content that cannot be used.
    """
    try:
        with zipfile.ZipFile(path) as file:
            return _Reader(file, path, options).read()
    except DataError:
        raise
    except _DAMAGED as error:
        raise DataError(say_damaged(path, one_line(error))) from None


def say_damaged(path: Path, reason: str) -> str:
    """Return the error of an npz that cannot be read."""
    return f"{path} must be a whole npz, got a damaged one ({reason}); make it again"


class _Reader:
    def __init__(self, file: zipfile.ZipFile, path: Path, options: OwnOptions) -> None:
        self._file, self._path, self._options = file, path, options
        self._warnings: list[str] = []
        self._sizes: Counter[tuple[int, int]] = Counter()

    def read(self) -> Pool:
        self._members = self._list_members()
        self._headers = {name: self._read_header(member) for name, member in self._members.items()}
        splits = [split for split, prefix in _PREFIXES.items() if f"{prefix}_images" in self._headers]
        for split in splits:
            self._check_images(f"{_PREFIXES[split]}_images")
        found_bytes = sum(header.num_bytes for header in self._headers.values())
        kept_bytes = sum(self._count_kept(f"{_PREFIXES[split]}_images") for split in splits)
        remedy = "save them smaller, or fewer of them"
        if kept_bytes > found_bytes:
            remedy = "give a smaller --image-size, or save fewer of them"
        require_room(max(found_bytes, kept_bytes), str(self._path), remedy)
        found = {split: self._read_labels(_PREFIXES[split]) for split in splits}
        names = self._read_texts(CLASS_NAMES) if CLASS_NAMES in self._headers else None
        labels, class_names = settle_labels(found, names, may_renumber=self._options.relabel)
        return Pool(
            class_names=class_names,
            are_named=names is not None,
            splits={split: self._read_split(_PREFIXES[split], labels[split]) for split in splits},
            sizes=self._sizes,
            warnings=self._warnings,
        )

    def _list_members(self) -> dict[str, zipfile.ZipInfo]:
        """Return the arrays that are known, by name."""
        members = [(each.filename.removesuffix(".npy"), each) for each in self._file.infolist()]
        names = [name for name, _ in members]
        for prefix in _PREFIXES.values():
            pair = [f"{prefix}_{part}" for part in ("images", "labels")]
            missing = [name for name in pair if name not in names]
            if len(missing) == 1 or (missing and prefix == "train"):
                others = ", ".join(map(one_line, names[:6])) or "nothing"
                raise DataError(f"{self._path} must hold {LAYOUT}, got {others}; add {' and '.join(missing)}")
        known = {f"{prefix}_{part}" for prefix in _PREFIXES.values() for part in _PARTS} | {CLASS_NAMES}
        if twice := [name for name, uses in Counter(names).items() if uses > 1 and name in known]:
            raise DataError(f"{self._path} must hold every array once, got {twice[0]} twice; make it again")
        if left_out := [one_line(name) for name in names if name not in known]:
            self._warnings.append(f"left out of {self._path.name}: {', '.join(left_out[:5])}")
        return {name: member for name, member in members if name in known}

    def _read_header(self, member: zipfile.ZipInfo) -> _Header:
        with self._file.open(member) as stream:
            # A header of a later version may be as long as it likes, and only tables need one.
            if (version := np.lib.format.read_magic(stream)) != (1, 0):
                raise ValueError(f"{member.filename} is of npy version {version}")
            shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
            num_header_bytes = stream.tell()
        header = _Header(shape=shape, dtype=dtype, is_fortran=is_fortran)
        if dtype.hasobject:
            raise DataError(
                f"an array must hold plain numbers or texts, got objects in {member.filename} of "
                f"{self._path}, a pickle, which could run code; save it with a dtype of its own"
            )
        if num_header_bytes + header.num_bytes != member.file_size:
            raise DataError(
                f"an array must be as long as its header says ({header.num_bytes:,} bytes), got "
                f"{member.file_size - num_header_bytes:,} in {member.filename} of {self._path}; make it again"
            )
        return header

    def _read(self, name: str) -> NDArray[Any]:
        """Return an array; no more is unpacked than its header says."""
        header, member = self._headers[name], self._members[name]
        content = np.empty(header.num_bytes, np.uint8)
        start = 0
        with self._file.open(member) as stream:
            stream.read(member.file_size - header.num_bytes)
            while start < header.num_bytes:
                piece = stream.read(min(_PIECE, header.num_bytes - start))
                if not piece:
                    raise ValueError(f"{member.filename} ends after {start:,} bytes")
                content[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
                start += len(piece)
            if stream.read(1):  # reading on to the end also compares the checksum
                raise ValueError(f"{member.filename} is longer than it says")
        return content.view(header.dtype).reshape(header.shape, order="F" if header.is_fortran else "C")

    def _read_labels(self, prefix: str) -> NDArray[np.int64]:
        name, num_images = f"{prefix}_labels", self._headers[f"{prefix}_images"].shape[0]
        return read_labels(name, self._read(name), num_images)

    def _read_texts(self, name: str) -> NDArray[np.str_]:
        """Return an array of texts, or of numbers written out."""
        found = self._read(name)
        if found.ndim == 2 and found.shape[1] == 1:
            found = found[:, 0]
        if found.ndim != 1 or found.dtype.kind not in "USiu":
            raise DataError(
                f"{name} must be a row of texts or whole numbers, got {found.dtype} of shape {found.shape}; "
                "save it as such"
            )
        try:
            return np.char.decode(found, "utf-8") if found.dtype.kind == "S" else found.astype(np.str_)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{name} must be text, got bytes that are not UTF-8 ({one_line(error)}); save it as text, of "
                "dtype U"
            ) from None

    def _check_images(self, name: str) -> None:
        header = self._headers[name]
        shape = header.shape
        if header.dtype != np.uint8:
            raise DataError(
                f"{name} must be uint8 from 0 to 255, got {header.dtype} in {self._path}; where they run "
                "from 0 to 1, save (255 * images).round().astype('uint8')"
            )
        is_image = len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))
        if not is_image or 0 in shape:
            raise DataError(
                f"{name} must have shape (N, H, W), (N, H, W, 1) or (N, H, W, 3), got {shape} in "
                f"{self._path}; save them with the channels last, without an alpha channel, and none empty"
            )
        if self._options.image_size is None:
            require_sides(shape[2], shape[1], f"{name} of {self._path}")
        elif shape[1] * shape[2] > MOST_PIXELS:
            raise DataError(
                f"an image may have up to {MOST_PIXELS:,} pixels, got {shape[2]} x {shape[1]} in {name}"
            )
        others = {self._headers[each].shape[1:] for each in self._headers if each.endswith("_images")}
        sizes = {each if len(each) == 3 else (*each, 1) for each in others}
        remedies = []
        if len({each[:2] for each in sizes}) > 1 and self._options.image_size is None:
            remedies.append("--image-size N")
        if len({each[2] for each in sizes}) > 1 and not self._options.grey:
            remedies.append("--grey")
        if remedies:
            raise DataError(
                f"images of all splits must have one shape, got {' and '.join(map(str, sorted(sizes)))} in "
                f"{self._path}; give {' and '.join(remedies)}, or save them alike"
            )

    def _count_kept(self, name: str) -> int:
        """Return the bytes of images that are made grey and resized as requested."""
        num_images, height, width, channels = (*self._headers[name].shape, 1)[:4]
        side = self._options.image_size
        num_pixels = height * width if side is None else side**2
        return int(num_images * num_pixels * (1 if self._options.grey else channels))

    def _read_split(self, prefix: str, labels_N: NDArray[np.int64]) -> RawSplit:
        name = f"{prefix}_groups"
        groups_N = self._read_texts(name) if name in self._headers else None
        if groups_N is not None and len(groups_N) != len(labels_N):
            raise DataError(
                f"{name} must have one entry per image, got {len(groups_N)} for "
                f"{count(len(labels_N), 'image')}"
            )
        images = self._read(f"{prefix}_images")
        self._sizes[images.shape[2], images.shape[1]] += len(images)
        images_NHWC = images[..., np.newaxis] if images.ndim == 3 else images
        return RawSplit(
            images_NHWC=fit_all(images_NHWC, self._options),
            labels_N=labels_N,
            groups_N=groups_N,
            name_of=lambda place: f"{prefix}_images[{place}]",
        )


def fit_all(images_NHWC: NDArray[np.uint8], options: OwnOptions) -> NDArray[np.uint8]:
    """Return images made grey and resized as requested, by the same rule as single pictures."""
    becomes_grey = options.grey and images_NHWC.shape[3] == 3
    side = options.image_size
    if not becomes_grey and (side is None or images_NHWC.shape[1:3] == (side, side)):
        return images_NHWC

    def fit_one(image_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        pixels = fit(Image.fromarray(image_HWC[..., 0] if image_HWC.shape[2] == 1 else image_HWC), options)
        return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels

    progress = Progress("resizing images", len(images_NHWC))
    with ThreadPoolExecutor(count_cpus()) as executor, progress:
        first = fit_one(images_NHWC[0])
        fitted = np.empty((len(images_NHWC), *first.shape), np.uint8)
        for place, image in enumerate(executor.map(fit_one, images_NHWC)):
            fitted[place] = image
            progress.add(1)
    return fitted
