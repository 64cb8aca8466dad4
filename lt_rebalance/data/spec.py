"""What a data set is: its arrays, and what is known of it before any is read."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

DATA_DIR_VARIABLE = "LT_REBALANCE_DATA_DIR"
"""Environment variable: the data directory, where none is given."""


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
    may_flip: bool = False
    """Whether an image stays one of its class when left and right are exchanged."""
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

    @cached_property
    def identity(self) -> str:
        """Hash that names the content: sha256 over the files' hex digests, sorted, one a line."""
        return hashlib.sha256("\n".join(sorted(self.sha256_by_file.values())).encode()).hexdigest()
