"""Load the image data sets as numpy arrays from files whose content is verified at every load.

Suffixes: N images, C channels, H rows, W columns, K classes. A new data set is one more entry of DATASETS.
"""

import gzip
import hashlib
import io
import math
import os
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.data.spec import DATA_DIR_VARIABLE, Dataset, DatasetSpec
from lt_rebalance.ground.errors import DataError

DEBIAN_DIR = Path("/usr/share/datasets/fashion-mnist")
"""Where the Debian package dataset-fashion-mnist installs its .gz files."""
EMBEDDED_DIR = Path(__file__).parent / "sample"


def locate_data_dir(data_dir: str | Path | None) -> Path:
    """Return the absolute data directory: the one given, else the environment's, else "data" here."""
    named = Path(data_dir if data_dir is not None else os.environ.get(DATA_DIR_VARIABLE) or "data")
    try:
        return named.expanduser().absolute()
    except RuntimeError:
        raise DataError(f"{named}: no home is known of this user; write the path in full") from None


def load_dataset(name: str, data_dir: str | Path | None = None, *, download: bool = False) -> Dataset:
    """Load and verify a data set.

    Each file comes from the first place that has it: `<data_dir>/<torchvision_name>/raw`, unpacked or else as
    .gz, then DEBIAN_DIR. Without `data_dir`, the variable LT_REBALANCE_DATA_DIR or else ./data stands for it.
    An embedded data set needs no directory. With `download`, torchvision fetches what is in none of them.
    A damaged file is an error and is never passed over for another copy. Raises DataError.
    """
    spec = get_dataset_spec(name)
    root = locate_data_dir(data_dir)
    remedies = _describe_remedies(spec, root)
    paths = _find_files(spec, root)
    if download and not spec.is_embedded and len(paths) < len(spec.sha256_by_file):
        if not spec.can_download:
            raise DataError(f"{name}: --download needs a set that torchvision fetches; {remedies}")
        try:
            import torchvision.datasets  # here, not above: it takes seconds, and only a download needs it

            getattr(torchvision.datasets, str(spec.torchvision_name))(root=str(root), download=True)
        except Exception as error:  # urllib, ssl, zlib and torchvision raise many kinds; each means: no data
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise DataError(f"{name}: download failed ({reason}); {remedies}") from error
        paths = _find_files(spec, root)
    missing = [file for file in spec.sha256_by_file if file not in paths]
    if missing:
        places = " and ".join(map(str, _list_places(spec, root)))
        note = " (an unpacked copy alone is refused: only the .gz has a published checksum)"
        places += note if missing[0].endswith(".gz") else ""
        raise DataError(f"{name}: {', '.join(missing)} missing in {places}; {remedies}")
    arrays: list[NDArray[np.generic]] = []
    for (file, path), num_bytes in zip(paths.items(), _list_num_bytes(spec), strict=True):
        try:
            content = _read_verified(file, path, spec.sha256_by_file[file], num_bytes)
            arrays += _unpack_npz(content) if spec.is_embedded else [parse_idx(content)]
        except ValueError as error:
            raise DataError(f"{name}: {path}: {error}; {_describe_mending(spec, remedies)}") from error
    train, test = _shape_split(spec, "train", *arrays[:2]), _shape_split(spec, "test", *arrays[2:])
    return Dataset(
        train_images_NCHW=train[0], train_labels_N=train[1], test_images_NCHW=test[0], test_labels_N=test[1]
    )


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


def _list_places(spec: DatasetSpec, root: Path) -> list[Path]:
    if spec.torchvision_name is None:
        return [EMBEDDED_DIR]
    return [root / spec.torchvision_name / "raw"] + ([DEBIAN_DIR] if spec.debian_package else [])


def _find_files(spec: DatasetSpec, root: Path) -> dict[str, Path]:
    """Return where the files lie: each in the first place that has it, unpacked or else .gz."""
    found: dict[str, Path] = {}
    for file in spec.sha256_by_file:
        forms = [file] if spec.is_embedded or file.endswith(".gz") else [file, f"{file}.gz"]
        candidates = [place / form for place in _list_places(spec, root) for form in forms]
        existing = [path for path in candidates if os.path.isfile(path)]
        if existing:
            found[file] = existing[0]
    return found


def _list_num_bytes(spec: DatasetSpec) -> list[int | None]:
    """Return the unpacked size of each file: IDX header plus one byte a pixel or label; None: not known."""
    if spec.is_embedded:
        return [None]
    num_train, num_test, num_pixels = (
        sum(spec.train_counts_K),
        sum(spec.test_counts_K),
        math.prod(spec.image_shape),
    )
    return [16 + num_train * num_pixels, 8 + num_train, 16 + num_test * num_pixels, 8 + num_test]


def _read_verified(file: str, path: Path, sha256: str, num_bytes: int | None) -> bytes:
    """Return the unpacked content; ValueError says what is wrong with it, the size before the sha256."""
    try:
        stored = path.read_bytes()
        content = _unpack_gzip(stored, num_bytes) if path.suffix == ".gz" else stored
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"corrupt gzip ({error})") from error
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error
    if num_bytes is not None and len(content) != num_bytes:
        raise ValueError(f"{len(content)} bytes instead of {num_bytes}")
    found = hashlib.sha256(stored if path.name == file else content).hexdigest()
    if found != sha256:
        raise ValueError(f"sha256 differs ({found} instead of {sha256})")
    return content


def _unpack_gzip(stored: bytes, num_bytes: int | None) -> bytes:
    """Return the content of a gzip file; ValueError, before it fills the memory, where it is too much."""
    assert num_bytes is not None  # as of all that are packed
    with gzip.GzipFile(fileobj=io.BytesIO(stored)) as file:
        content = file.read(num_bytes + 1)
    if len(content) > num_bytes:
        raise ValueError(f"at least {len(content)} bytes instead of {num_bytes}")
    return content


def _unpack_npz(content: bytes) -> list[NDArray[np.generic]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return [archive[key] for key in ("train_images", "train_labels", "test_images", "test_labels")]


def _shape_split(
    spec: DatasetSpec, split: str, images: NDArray[np.generic], labels: NDArray[np.generic]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images (N, C, H, W) and labels of one split, checked against the registry's shape and counts."""
    counts_K = spec.train_counts_K if split == "train" else spec.test_counts_K
    num_images = sum(counts_K)
    if images.shape != (num_images, *spec.image_shape[1:]) or labels.shape != (num_images,):
        raise DataError(f"{spec.name}: {split} arrays have shapes {images.shape} and {labels.shape}")
    labels_N = labels.astype(np.int64)
    found_K = tuple(np.bincount(labels_N, minlength=spec.num_classes).tolist())
    if found_K != counts_K:
        raise DataError(f"{spec.name}: {split} split has {found_K} images a class, not {counts_K}")
    # A copy, because an array over bytes is read-only and torch.from_numpy warns of those.
    return images.astype(np.uint8).reshape(num_images, *spec.image_shape), labels_N


def _describe_remedies(spec: DatasetSpec, root: Path) -> str:
    if spec.torchvision_name is None:
        return "reinstall lt_rebalance"
    folder = f"{spec.torchvision_name}/raw"
    remedies = [f"place the files in {root / folder} or set {DATA_DIR_VARIABLE} to a directory with {folder}"]
    if spec.debian_package:
        remedies.append(f"apt install {spec.debian_package}")
    return ", or ".join([*remedies, "pass --download"] if spec.can_download else remedies)


def _describe_mending(spec: DatasetSpec, remedies: str) -> str:
    """Return what to do about a file that is not as its entry says; only what can be had again is removed."""
    if spec.can_download or spec.is_embedded:
        return f"remove it, then {remedies}"
    return f"keep it and mend the entry of {spec.name} in DATASETS if the file is right; if not, {remedies}"
