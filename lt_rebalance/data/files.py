"""Load image data sets as numpy arrays from files that are verified at every load.

Suffixes: N images, C channels, H rows, W columns, K classes. A new data set is one more entry of DATASETS.
"""

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.data.layouts import READERS, list_idx_sizes, read_npz, unpack_gzip
from lt_rebalance.data.places import describe_mending, have_files, locate_data_dir, misfit
from lt_rebalance.data.spec import MD5_DIGITS, Dataset, DatasetSpec
from lt_rebalance.ground.errors import DataError


def load_dataset(name: str, data_dir: str | Path | None = None, *, download: bool = False) -> Dataset:
    """Load and verify a data set.

    Each file comes from the first place that has it: the entry's folder below `data_dir`, IDX files unpacked
    or else as .gz, then DEBIAN_DIR. Without `data_dir`, the variable LT_REBALANCE_DATA_DIR or else ./data is
    used. An embedded data set needs no directory. With `download`, torchvision fetches files that are in none
    of them. A damaged file is an error; another copy is never used instead. Raises DataError.
    """
    spec = get_dataset_spec(name, data_dir, download=download)
    root = locate_data_dir(data_dir)
    paths = have_files(spec, root, download=download)
    contents = {}
    for (file, path), num_bytes in zip(paths.items(), _list_num_bytes(spec), strict=True):
        try:
            contents[file] = _read_verified(file, path, spec.checksum_by_file[file], num_bytes)
        except ValueError as error:
            raise DataError(f"{name}: {path}: {error}; {describe_mending(spec, root)}") from error
    try:
        arrays = (read_npz if spec.is_embedded else READERS[spec.layout])(spec, contents)
    except Exception as error:  # a verified file that is not as its layout has it: an entry that is wrong
        raise misfit(spec, root, paths.values(), error) from error
    train, test = _shape_split(spec, "train", *arrays[:2]), _shape_split(spec, "test", *arrays[2:4])
    return Dataset(
        train_images_NCHW=train[0],
        train_labels_N=train[1],
        test_images_NCHW=test[0],
        test_labels_N=test[1],
        train_groups_N=arrays.train_groups_N,
    )


def _list_num_bytes(spec: DatasetSpec) -> list[int | None]:
    """Return the unpacked size of each file; None if it is not known."""
    is_idx = spec.layout == "idx" and not spec.is_embedded
    return [*list_idx_sizes(spec)] if is_idx else [None] * len(spec.checksum_by_file)


def _read_verified(file: str, path: Path, checksum: str, num_bytes: int | None) -> bytes:
    """Return the unpacked content; ValueError if it is wrong; the size is checked before the checksum."""
    try:
        stored = path.read_bytes()
        content = unpack_gzip(stored, num_bytes) if num_bytes is not None and path.suffix == ".gz" else stored
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"corrupt gzip ({error})") from error
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error
    if num_bytes is not None and len(content) != num_bytes:
        raise ValueError(f"{len(content)} bytes instead of {num_bytes}")
    kind = "md5" if len(checksum) == MD5_DIGITS else "sha256"
    hashed = hashlib.new(kind, stored if path.name == file else content, usedforsecurity=kind == "sha256")
    if hashed.hexdigest() != checksum:
        raise ValueError(f"{kind} differs ({hashed.hexdigest()} instead of {checksum})")
    return content


def _shape_split(
    spec: DatasetSpec, split: str, images: NDArray[np.generic], labels: NDArray[np.generic]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images (N, C, H, W) and labels of one split, checked against the registry's shape and counts."""
    counts_K = spec.train_counts_K if split == "train" else spec.test_counts_K
    num_images = sum(counts_K)
    shapes: list[tuple[int, ...]] = [(num_images, *spec.image_shape)]
    if spec.image_shape[0] == 1:  # grey images may come without an axis for channels
        shapes.append((num_images, *spec.image_shape[1:]))
    if images.shape not in shapes or labels.shape != (num_images,):
        raise DataError(f"{spec.name}: {split} arrays have shapes {images.shape} and {labels.shape}")
    labels_N = labels.astype(np.int64)
    found_K = tuple(np.bincount(labels_N, minlength=spec.num_classes).tolist())
    if found_K != counts_K:
        raise DataError(f"{spec.name}: {split} split has {found_K} images per class, not {counts_K}")
    # A copy, because an array over bytes is read-only and torch.from_numpy warns of those.
    return np.array(images, dtype=np.uint8, order="C").reshape(num_images, *spec.image_shape), labels_N
