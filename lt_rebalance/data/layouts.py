"""Read the files of a data set, in its publisher's format, as arrays.

Every reader gets the entry and the verified content of its files, by name and in the entry's order, and
returns both splits. `DatasetSpec.layout` names a layout; a new layout is a function here and its name in
READERS. Suffixes: N images, C channels, H rows, W columns, K classes.
"""

import bz2
import csv
import gzip
import io
import math
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.data.array_pickles import read_arrays
from lt_rebalance.data.spec import DatasetSpec

Contents = Mapping[str, bytes]


class Arrays(NamedTuple):
    """Both splits as in the files."""

    train_images_NCHW: NDArray[Any]
    train_labels_N: NDArray[Any]
    test_images_NCHW: NDArray[Any]
    test_labels_N: NDArray[Any]
    train_groups_N: NDArray[np.int64] | None = None


def parse_idx(content: bytes) -> NDArray[np.uint8]:
    """Return the array in an IDX file of unsigned bytes; ValueError if the content is not exactly that.

    Layout: bytes 0, 0, 8 (unsigned byte), number of dimensions, one big-endian uint32 a dimension, items.
    """
    if content[:3] != b"\0\0\x08" or len(content) < 8:
        raise ValueError(f"not an IDX file of unsigned bytes (starts {content[:4].hex() or 'empty'})")
    num_dims = content[3]
    num_header_bytes = 4 + 4 * num_dims
    shape = tuple(map(int, np.frombuffer(content[4:num_header_bytes].ljust(4 * num_dims, b"\0"), ">u4")))
    if num_dims == 0 or len(content) - num_header_bytes != math.prod(shape):
        raise ValueError(f"IDX header says shape {shape}, {len(content) - num_header_bytes} bytes follow it")
    return np.frombuffer(content[num_header_bytes:], np.uint8).reshape(shape)


def unpack_gzip(stored: bytes, num_bytes: int) -> bytes:
    """Return the content of a gzip file; ValueError, before it fills the memory, if it is too large."""
    with gzip.GzipFile(fileobj=io.BytesIO(stored)) as file:
        content = file.read(num_bytes + 1)
    if len(content) > num_bytes:
        raise ValueError(f"at least {len(content)} bytes instead of {num_bytes}")
    return content


def list_idx_sizes(spec: DatasetSpec) -> list[int]:
    """Return the size of each of four IDX files: the header, and one byte per pixel or label."""
    num_train, num_test = sum(spec.train_counts_K), sum(spec.test_counts_K)
    num_pixels = math.prod(spec.image_shape)
    return [16 + num_train * num_pixels, 8 + num_train, 16 + num_test * num_pixels, 8 + num_test]


def read_npz(spec: DatasetSpec, contents: Contents) -> Arrays:
    """Read the one npz that comes with the package."""
    (content,) = contents.values()
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        names = ("train_images", "train_labels", "test_images", "test_labels")
        return Arrays(*(archive[name] for name in names))


def _read_idx(spec: DatasetSpec, contents: Contents) -> Arrays:
    """Read four IDX files: images (N, H, W) and labels (N,) of the training split, then of the test split."""
    train_images, train_labels, test_images, test_labels = map(parse_idx, contents.values())
    return Arrays(train_images, train_labels, test_images, test_labels)


def _read_emnist(spec: DatasetSpec, contents: Contents) -> Arrays:
    """Read the four IDX files of one of EMNIST's sets in the archive of all; its images are transposed."""
    (content,) = contents.values()
    kinds = ("train-images-idx3", "train-labels-idx1", "test-images-idx3", "test-labels-idx1")
    sizes = list_idx_sizes(spec)
    arrays = _unpack_emnist(spec, io.BytesIO(content), dict(zip(kinds, sizes, strict=True)))
    return Arrays(arrays[0].transpose(0, 2, 1), arrays[1], arrays[2].transpose(0, 2, 1), arrays[3])


def read_emnist_labels(
    spec: DatasetSpec, path: Path, num_images: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read only the training and test labels of one of EMNIST's sets, which is fast.

    Their CRC-32 is compared, as for every member that is read from a zip; the checksum of the archive is not.
    """
    kinds = ("train-labels-idx1", "test-labels-idx1")
    sizes = {kind: 8 + num for kind, num in zip(kinds, num_images, strict=True)}
    with path.open("rb") as file:
        train, test = _unpack_emnist(spec, file, sizes)
    return train, test


def _unpack_emnist(spec: DatasetSpec, file: IO[bytes], sizes: Mapping[str, int]) -> list[NDArray[np.uint8]]:
    """Return arrays of one of EMNIST's sets from the archive of all, by kind with their unpacked sizes."""
    stem = f"gzip/emnist-{spec.name.rpartition('_')[2]}"
    with zipfile.ZipFile(file) as archive:
        packed = {kind: archive.read(f"{stem}-{kind}-ubyte.gz") for kind in sizes}
    return [parse_idx(unpack_gzip(packed[kind], size)) for kind, size in sizes.items()]


def _read_cifar(spec: DatasetSpec, contents: Contents) -> Arrays:
    """Read the batches of CIFAR's python version; those of the test split have names that begin with test."""
    splits: dict[bool, list[tuple[NDArray[Any], NDArray[Any]]]] = {False: [], True: []}
    for file, content in contents.items():
        batch = read_arrays(content)
        labels = batch["fine_labels"] if "fine_labels" in batch else batch["labels"]
        images_NCHW = np.asarray(batch["data"]).reshape(-1, *spec.image_shape)
        splits[file.startswith("test")].append((images_NCHW, np.asarray(labels)))
    (train_images, train_labels), (test_images, test_labels) = (
        map(np.concatenate, zip(*splits[is_test], strict=True)) for is_test in (False, True)
    )
    return Arrays(train_images, train_labels, test_images, test_labels)


def _read_svhn(spec: DatasetSpec, contents: Contents) -> Arrays:
    """Read SVHN's cropped digits, train and test; the digit 0 is labelled 10 there."""
    import scipy.io

    arrays: list[NDArray[Any]] = []
    for content in contents.values():
        found = scipy.io.loadmat(io.BytesIO(content))
        arrays += [found["X"].transpose(3, 2, 0, 1), found["y"].reshape(-1) % 10]
    return Arrays(*arrays)


def _read_usps(spec: DatasetSpec, contents: Contents) -> Arrays:
    """Read LIBSVM's USPS, train and test: labels 1 to 10, pixels from -1 to 1, of which 8 bits are kept."""
    from sklearn.datasets import load_svmlight_file

    arrays: list[NDArray[Any]] = []
    for content in contents.values():
        file = io.BytesIO(bz2.decompress(content))
        pixels, labels = load_svmlight_file(file, n_features=math.prod(spec.image_shape), dtype=np.float32)
        bytes_NP = ((pixels.toarray() + 1) / 2 * 255).astype(np.uint8)
        arrays += [bytes_NP.reshape(-1, *spec.image_shape), labels.astype(np.int64) - 1]
    return Arrays(*arrays)


_SIGN = re.compile(r"(?:.*/)?(\d{5})/(\d{5})_\d{5}\.ppm")


def _read_gtsrb(spec: DatasetSpec, contents: Contents) -> Arrays:
    """Read GTSRB's archives: training images, test images, classes of the test images.

    Images are resized to the entry's size, with antialiasing, ignoring their aspect ratio. Groups are tracks:
    frames of one physical sign.
    """
    train, test, truth = (zipfile.ZipFile(io.BytesIO(content)) for content in contents.values())
    found = {name: match for name in sorted(train.namelist()) if (match := _SIGN.fullmatch(name))}
    tracks = {track: number for number, track in enumerate(dict.fromkeys(map(_track_of, found.values())))}
    (table,) = (name for name in truth.namelist() if name.endswith(".csv"))
    rows = csv.DictReader(io.StringIO(truth.read(table).decode()), delimiter=";")
    classes = {row["Filename"]: int(row["ClassId"]) for row in rows}
    tested = {name.rpartition("/")[2]: name for name in test.namelist() if name.endswith(".ppm")}
    return Arrays(
        _decode(train, list(found), spec),
        np.array([int(match[1]) for match in found.values()]),
        _decode(test, [tested[name] for name in classes], spec),
        np.array(list(classes.values())),
        np.array([tracks[_track_of(match)] for match in found.values()], dtype=np.int64),
    )


def _track_of(match: re.Match[str]) -> tuple[str, str]:
    return match[1], match[2]


def _decode(archive: zipfile.ZipFile, names: list[str], spec: DatasetSpec) -> NDArray[np.uint8]:
    from PIL import Image

    channels, height, width = spec.image_shape
    images_NHWC = np.empty((len(names), height, width, channels), np.uint8)
    for place, name in enumerate(names):
        with Image.open(io.BytesIO(archive.read(name))) as image:
            resized = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
            images_NHWC[place] = np.asarray(resized)
    return images_NHWC.transpose(0, 3, 1, 2)


READERS: dict[str, Callable[[DatasetSpec, Contents], Arrays]] = {
    "idx": _read_idx,
    "emnist": _read_emnist,
    "cifar": _read_cifar,
    "svhn": _read_svhn,
    "usps": _read_usps,
    "gtsrb": _read_gtsrb,
}
