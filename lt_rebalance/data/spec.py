"""Data sets: their arrays, and their description, which is known before any file is read."""

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.ground.plain import LATER, config_from_dict

DATA_DIR_VARIABLE = "LT_REBALANCE_DATA_DIR"
"""Environment variable: the data directory, if none is given."""
MD5_DIGITS = 32
DOWNLOADED_BY_TORCHVISION = frozenset({"FashionMNIST", "KMNIST", "MNIST"})
"""Classes of torchvision.datasets that fetch four IDX files into `<name>/raw`."""


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
    train_groups_N: NDArray[np.int64] | None = None
    """Groups that must not be split when something is set aside; None if there are none."""
    validation_images_NCHW: NDArray[np.uint8] | None = None
    """Pixels of a validation split, if the set has one."""
    validation_labels_N: NDArray[np.int64] | None = None
    """Its classes."""


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """The description of a data set, known before any file is read."""

    name: str
    """Key in DATASETS and in sweeps."""
    num_classes: int
    """K."""
    image_shape: tuple[int, int, int]
    """C, H, W."""
    class_names: tuple[str, ...]
    """Names of classes 0..K-1, as the publisher gives them."""
    train_counts_K: tuple[int, ...]
    """Training images of each class; empty in an entry of the catalogue if no source gives them, so they are
    read from the labels (`counting`)."""
    test_counts_K: tuple[int, ...]
    """Test images of each class, as above."""
    licence: str
    """Licence of the images."""
    may_flip: bool = False
    """Whether an image keeps its class when left and right are exchanged."""
    torchvision_name: str | None = None
    """Folder below the data directory, and the class of torchvision.datasets if it has one; None without
    `place`: embedded in the package."""
    place: str | None = field(default=None, metadata=LATER)
    """Folder of the files below the data directory, "" for itself; None: `<torchvision_name>/raw`."""
    layout: str = field(default="idx", metadata=LATER)
    """How the files are read, a name in `layouts.READERS`."""
    urls: Mapping[str, str] = field(default_factory=dict, hash=False, metadata=LATER)
    """Where the files come from, or an archive of them -> its MD5; empty if torchvision's class knows."""
    citation: str = field(default="", metadata=LATER)
    """Who to cite."""
    num_images: tuple[int, int] | None = field(default=None, metadata=LATER)
    """Training and test images in all, if no source gives the counts of the classes."""
    debian_package: str | None = None
    """Debian package that installs it into DEBIAN_DIR, if any."""
    md5_by_file: Mapping[str, str] = field(default_factory=dict, hash=False, metadata=LATER)
    """As `sha256_by_file`, for publishers whose files have no other known checksum."""
    sha256_by_file: Mapping[str, str] = field(default_factory=dict, hash=False)
    """File name -> its sha256: train images, train labels, test images, test labels; or one npz. A name
    without .gz means the unpacked file, read from `<name>.gz` where only that exists. A name with .gz, read
    in no other form, is for a publisher whose unpacked files have no known checksum. Empty for a user's
    set."""
    content_sha256: str | None = None
    """Identity of a user's set, over its decoded content; None for a set of the catalogue."""
    validation_counts_K: tuple[int, ...] | None = None
    """Images of each class in a validation split, if the set has one."""
    has_groups: bool = False
    """Whether training images come in groups that must not be split."""

    def __post_init__(self) -> None:
        """Check that every per-class field has K entries and that the files fit the kind of data set."""
        lengths = {len(self.train_counts_K), len(self.test_counts_K)}
        is_counted = lengths != {0} or self.num_images is None
        if {len(self.class_names)} | (lengths if is_counted else set()) != {self.num_classes}:
            raise ValueError(f"{self.name}: names and counts of a length other than {self.num_classes}")
        if is_counted and self.num_images not in (None, found := tuple(map(sum, self.counts.values()))):
            raise ValueError(f"{self.name}: {found} training and test images instead of {self.num_images}")
        if self.is_own:
            if len(self.validation_counts_K or self.class_names) != self.num_classes or self.sha256_by_file:
                raise ValueError(f"{self.name}: validation counts of a length other than {self.num_classes}")
        elif self.layout == "idx" and len(self.checksum_by_file) != (1 if self.is_embedded else 4):
            raise ValueError(f"{self.name}: one npz if embedded, four IDX files if not")
        for file, md5 in self.md5_by_file.items():
            if re.fullmatch(f"[0-9a-f]{{{MD5_DIGITS}}}", md5) is None:
                raise ValueError(
                    f"{self.name}: an MD5 must be {MD5_DIGITS} hex digits, got {md5!r} of {file}"
                )
        for file, sha256 in self.sha256_by_file.items():
            if re.fullmatch("[0-9a-f]{64}", sha256) is None:
                raise ValueError(
                    f"{self.name}: a sha256 must be 64 lower-case hex digits, got {sha256!r} of {file}; "
                    "take that of the file (sha256sum FILE)"
                )

    @property
    def is_embedded(self) -> bool:
        """Whether the data ships with the package."""
        return self.torchvision_name is None and self.place is None and not self.is_own

    @property
    def folder(self) -> str:
        """The folder of the files in the data directory."""
        return f"{self.torchvision_name}/raw" if self.place is None else self.place

    @property
    def checksum_by_file(self) -> Mapping[str, str]:
        """File name -> its checksum, SHA-256 or MD5, in the order in which files are read."""
        return {**self.sha256_by_file, **self.md5_by_file}

    @property
    def can_download(self) -> bool:
        """Whether torchvision fetches it."""
        return bool(self.urls) or self.torchvision_name in DOWNLOADED_BY_TORCHVISION

    @property
    def is_own(self) -> bool:
        """Whether it is a user's set, which is not in the catalogue."""
        return self.content_sha256 is not None

    @property
    def counts(self) -> dict[str, tuple[int, ...]]:
        """Images of each class, by split."""
        counts = {"train": self.train_counts_K, "test": self.test_counts_K}
        return (
            counts if self.validation_counts_K is None else {**counts, "validation": self.validation_counts_K}
        )

    @cached_property
    def identity(self) -> str:
        """Hash of the content: sha256 over the files' hex digests, sorted, one per line.

        For a user's set it is the hash of the decoded content. A set with `num_images` adds its name, because
        its files contain other sets, too.
        """
        if self.content_sha256 is not None:
            return self.content_sha256
        names = [*sorted(self.checksum_by_file.values()), *([] if self.num_images is None else [self.name])]
        return hashlib.sha256("\n".join(names).encode()).hexdigest()

    def to_plain(self) -> dict[str, Any]:
        """Return it as JSON values, so that a worker needs no catalogue."""
        plain = {
            each.name: getattr(self, each.name)
            for each in dataclasses.fields(self)
            if each.metadata != LATER or ((value := getattr(self, each.name)) and value != each.default)
        }
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Self:
        """Return what `to_plain` described.

        Raises:
            ValueError: unknown or missing keys.
        """
        as_tuples = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return config_from_dict(cls, as_tuples)
