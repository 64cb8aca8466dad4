"""Load the image data sets as numpy arrays from files whose content is verified at every load.

Suffixes: N images, C channels, H rows, W columns, K classes. A new data set is one more entry of DATASETS.
"""

import gzip
import hashlib
import os
import tarfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.data.layouts import READERS, list_idx_sizes, read_npz, unpack_gzip
from lt_rebalance.data.spec import DATA_DIR_VARIABLE, MD5_DIGITS, Dataset, DatasetSpec
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

    Each file comes from the first place that has it: the entry's folder below `data_dir`, IDX files unpacked
    or else as .gz, then DEBIAN_DIR. Without `data_dir`, the variable LT_REBALANCE_DATA_DIR or else ./data
    stands for it. An embedded data set needs no directory. With `download`, torchvision fetches what is in
    none of them. A damaged file is an error and is never passed over for another copy. Raises DataError.
    """
    spec = get_dataset_spec(name)
    root = locate_data_dir(data_dir)
    remedies = _describe_remedies(spec, root)
    paths = _find_files(spec, root)
    if download and not spec.is_embedded and len(paths) < len(spec.checksum_by_file):
        if not spec.can_download:
            raise DataError(f"{name}: --download needs a set that torchvision fetches; {remedies}")
        try:
            _download(spec, root)
        except Exception as error:  # urllib, ssl, zlib and torchvision raise many kinds; each means: no data
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise DataError(f"{name}: download failed ({reason}); {remedies}") from error
        paths = _find_files(spec, root)
    missing = [file for file in spec.checksum_by_file if file not in paths]
    if missing:
        places = " and ".join(map(str, _list_places(spec, root)))
        note = " (an unpacked copy alone is refused: only the .gz has a published checksum)"
        places += note if missing[0].endswith(".gz") else ""
        raise DataError(f"{name}: {', '.join(missing)} missing in {places}; {remedies}")
    contents = {}
    for (file, path), num_bytes in zip(paths.items(), _list_num_bytes(spec), strict=True):
        try:
            contents[file] = _read_verified(file, path, spec.checksum_by_file[file], num_bytes)
        except ValueError as error:
            raise DataError(f"{name}: {path}: {error}; {_describe_mending(spec, remedies)}") from error
    try:
        arrays = (read_npz if spec.is_embedded else READERS[spec.layout])(spec, contents)
    except Exception as error:  # a verified file that is not as its layout has it: an entry that is wrong
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        places = " and ".join(map(str, paths.values()))
        mending = _describe_mending(spec, remedies)
        raise DataError(f"{name}: {places}: not in layout {spec.layout!r} ({reason}); {mending}") from error
    train, test = _shape_split(spec, "train", *arrays[:2]), _shape_split(spec, "test", *arrays[2:4])
    return Dataset(
        train_images_NCHW=train[0],
        train_labels_N=train[1],
        test_images_NCHW=test[0],
        test_labels_N=test[1],
        train_groups_N=arrays.train_groups_N,
    )


def _download(spec: DatasetSpec, root: Path) -> None:
    """Have torchvision fetch what a data set is made of, into its data directory."""
    import torchvision.datasets  # here, not above: it takes seconds, and only a download needs it
    from torchvision.datasets.utils import download_url

    if not spec.urls:
        getattr(torchvision.datasets, str(spec.torchvision_name))(root=str(root), download=True)
    for url, md5 in spec.urls.items():
        if spec.layout != "cifar":
            download_url(url, str(root / spec.folder), md5=md5)
        else:
            download_url(url, str(root), md5=md5)
            _unpack_tar(root / url.rpartition("/")[2], spec, root / spec.folder)


def _unpack_tar(archive: Path, spec: DatasetSpec, place: Path) -> None:
    """Write those files of an entry that are missing, from its archive; no other member of it is touched."""
    place.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar:
        for file in spec.checksum_by_file:
            member = tar.getmember(f"{spec.folder}/{file}")
            content = tar.extractfile(member) if member.isreg() else None
            if content is None:
                raise ValueError(f"{member.name} in {archive} is no regular file")
            if not (place / file).exists():
                (place / file).write_bytes(content.read())


def _list_places(spec: DatasetSpec, root: Path) -> list[Path]:
    if spec.is_embedded:
        return [EMBEDDED_DIR]
    return [root / spec.folder] + ([DEBIAN_DIR] if spec.debian_package else [])


def _find_files(spec: DatasetSpec, root: Path) -> dict[str, Path]:
    """Return where the files lie: each in the first place that has it, unpacked or else .gz."""
    found: dict[str, Path] = {}
    for file in spec.checksum_by_file:
        is_packed_only = spec.is_embedded or spec.layout != "idx" or file.endswith(".gz")
        forms = [file] if is_packed_only else [file, f"{file}.gz"]
        candidates = [place / form for place in _list_places(spec, root) for form in forms]
        existing = [path for path in candidates if os.path.isfile(path)]
        if existing:
            found[file] = existing[0]
    return found


def _list_num_bytes(spec: DatasetSpec) -> list[int | None]:
    """Return the unpacked size of each file; None where it is not known."""
    is_idx = spec.layout == "idx" and not spec.is_embedded
    return [*list_idx_sizes(spec)] if is_idx else [None] * len(spec.checksum_by_file)


def _read_verified(file: str, path: Path, checksum: str, num_bytes: int | None) -> bytes:
    """Return the unpacked content; ValueError says what is wrong with it, the size before the checksum."""
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
        raise DataError(f"{spec.name}: {split} split has {found_K} images a class, not {counts_K}")
    # A copy, because an array over bytes is read-only and torch.from_numpy warns of those.
    return np.array(images, dtype=np.uint8, order="C").reshape(num_images, *spec.image_shape), labels_N


def _describe_remedies(spec: DatasetSpec, root: Path) -> str:
    if spec.is_embedded:
        return "reinstall lt_rebalance"
    what = f"the files of {' and '.join(spec.urls)}" if spec.urls else "the files"
    has = f"with {spec.folder}" if spec.folder else "with them"
    remedies = [f"place {what} in {root / spec.folder} or set {DATA_DIR_VARIABLE} to a directory {has}"]
    if spec.debian_package:
        remedies.append(f"apt install {spec.debian_package}")
    return ", or ".join([*remedies, "pass --download"] if spec.can_download else remedies)


def _describe_mending(spec: DatasetSpec, remedies: str) -> str:
    """Return what to do about a file that is not as its entry says; only what can be had again is removed."""
    if spec.can_download or spec.is_embedded:
        return f"remove it, then {remedies}"
    return f"keep it and mend the entry of {spec.name} in DATASETS if the file is right; if not, {remedies}"
