"""Load the image data sets as numpy arrays from files whose content is verified at every load.

Suffixes: N images, C channels, H rows, W columns, K classes. A new data set is one more entry of DATASETS.
"""

import gzip
import hashlib
import io
import math
import os
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DATA_DIR_VARIABLE = "LT_REBALANCE_DATA_DIR"
"""Environment variable: the data directory, where none is given."""
DEBIAN_DIR = Path("/usr/share/datasets/fashion-mnist")
"""Where the Debian package dataset-fashion-mnist installs its .gz files."""
EMBEDDED_DIR = Path(__file__).parent / "data"


class DataError(ValueError):
    """Data that is missing, damaged or cannot be downloaded; one line that says what helps."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Both splits of a data set in memory, in the order of the files."""

    train_images_NCHW: NDArray[np.uint8]
    """Training pixels, 0..255."""
    train_labels_N: NDArray[np.int64]
    """Training classes, 0..K-1."""
    test_images_NCHW: NDArray[np.uint8]
    """Test pixels, 0..255."""
    test_labels_N: NDArray[np.int64]
    """Test classes, 0..K-1."""


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """What is known of a data set before any file is read."""

    name: str
    """Key in DATASETS and in sweeps."""
    num_classes: int
    """K."""
    image_shape: tuple[int, int, int]
    """C, H, W."""
    class_names: tuple[str, ...]
    """Names of classes 0..K-1, as the publisher gives them."""
    train_counts_K: tuple[int, ...]
    """Training images of each class."""
    test_counts_K: tuple[int, ...]
    """Test images of each class."""
    licence: str
    """Licence of the images."""
    torchvision_name: str | None = None
    """Class of torchvision.datasets and folder below the data directory; None: embedded in the package."""
    debian_package: str | None = None
    """Debian package that installs it into DEBIAN_DIR, if any."""
    sha256_by_file: Mapping[str, str] = field(hash=False)
    """File name -> its sha256: train images, train labels, test images, test labels; or one npz. A name
    without .gz means the unpacked file, read from `<name>.gz` where only that exists. A name with .gz,
    read in no other form, is for a publisher whose unpacked files have no known checksum."""

    def __post_init__(self) -> None:
        """Check that every per-class field has K entries and that the files fit the kind of data set."""
        if {len(self.class_names), len(self.train_counts_K), len(self.test_counts_K)} != {self.num_classes}:
            raise ValueError(f"{self.name}: names and counts of a length other than {self.num_classes}")
        if len(self.sha256_by_file) != (1 if self.is_embedded else 4):
            raise ValueError(f"{self.name}: one npz if embedded, four IDX files if not")

    @property
    def is_embedded(self) -> bool:
        """Whether the data ships with the package."""
        return self.torchvision_name is None

    @property
    def identity(self) -> str:
        """Hash that names the content: sha256 over the files' hex digests, sorted, one a line."""
        return hashlib.sha256("\n".join(sorted(self.sha256_by_file.values())).encode()).hexdigest()


def get_dataset_spec(name: str) -> DatasetSpec:
    """Return the entry of a data set; ValueError if there is none."""
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}; known: {', '.join(DATASETS)}")
    return DATASETS[name]


def are_embedded(names: Collection[str]) -> bool:
    """Whether data sets all come with the package, so that no directory of data is read for them."""
    return all(get_dataset_spec(name).is_embedded for name in names)


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
            raise DataError(f"{name}: {path}: {error}; remove it, then {remedies}") from error
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
        content = gzip.decompress(stored) if path.suffix == ".gz" else stored
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
    return ", or ".join([*remedies, "pass --download"])


_FASHION_CLASS_NAMES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)

# The checksums of Fashion-MNIST and MNIST are the ones that public projects pin for the unpacked files; those
# of KMNIST are of the publisher's .gz, as torchvision's prototype data sets list them.
DATASETS: dict[str, DatasetSpec] = {
    "fashion_mnist": DatasetSpec(
        name="fashion_mnist",
        num_classes=10,
        image_shape=(1, 28, 28),
        class_names=_FASHION_CLASS_NAMES,
        train_counts_K=(6000,) * 10,
        test_counts_K=(1000,) * 10,
        licence="MIT",
        torchvision_name="FashionMNIST",
        debian_package="dataset-fashion-mnist",
        sha256_by_file={
            "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
    ),
    "mnist": DatasetSpec(
        name="mnist",
        num_classes=10,
        image_shape=(1, 28, 28),
        class_names=("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"),
        train_counts_K=(5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
        test_counts_K=(980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
        licence="CC BY-SA 3.0, as Keras states it",
        torchvision_name="MNIST",
        sha256_by_file={
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
    ),
    "kmnist": DatasetSpec(
        name="kmnist",
        num_classes=10,
        image_shape=(1, 28, 28),
        class_names=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        train_counts_K=(6000,) * 10,
        test_counts_K=(1000,) * 10,
        licence="CC BY-SA 4.0",
        torchvision_name="KMNIST",
        sha256_by_file={
            "train-images-idx3-ubyte.gz": "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            "train-labels-idx1-ubyte.gz": "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            "t10k-images-idx3-ubyte.gz": "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            "t10k-labels-idx1-ubyte.gz": "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
        },
    ),
    "fashion_mnist_mini": DatasetSpec(
        name="fashion_mnist_mini",
        num_classes=10,
        image_shape=(1, 28, 28),
        class_names=_FASHION_CLASS_NAMES,
        train_counts_K=(600,) * 10,
        test_counts_K=(200,) * 10,
        licence="MIT",
        sha256_by_file={
            "fashion_mnist_mini.npz": "296bb38fd0342482d6f6fbf51db0f3e427f839ef48ca34a25608157289af8038",
        },
    ),
}
