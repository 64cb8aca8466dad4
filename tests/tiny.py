"""A data set for tests that train: the training images of the embedded one, and a hundred of its test images.

A test of two thousand images takes a core a second, twenty times as long as the steps before it.
"""

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from lt_rebalance.data.catalog import DATASETS
from lt_rebalance.data.files import EMBEDDED_DIR

TINY = "fashion_mnist_tiny"
TEST_IMAGES_PER_CLASS = 10
_MINI = DATASETS["fashion_mnist_mini"]
_FILE_VARIABLE = "LT_REBALANCE_TEST_TINY"
"""Environment variable: where the file is; processes that a test starts inherit it."""


@contextmanager
def tiny_dataset(directory: Path) -> Iterator[None]:
    """Make the data set in a directory, and know it by its name in this process."""
    with np.load(EMBEDDED_DIR / next(iter(_MINI.sha256_by_file)), allow_pickle=False) as arrays:
        by_name = dict(arrays)
    labels_N = by_name["test_labels"]
    kept = np.concatenate([np.flatnonzero(labels_N == label)[:TEST_IMAGES_PER_CLASS] for label in range(10)])
    for name in ("test_images", "test_labels"):
        by_name[name] = by_name[name][np.sort(kept)]
    path = directory / f"{TINY}.npz"
    np.savez(path, **by_name)
    os.environ[_FILE_VARIABLE] = str(path)
    know_tiny()
    yield
    del DATASETS[TINY], os.environ[_FILE_VARIABLE]


def know_tiny() -> None:
    """Know the data set by its name in a process that a test has started, too."""
    path = Path(os.environ[_FILE_VARIABLE])
    DATASETS[TINY] = dataclasses.replace(
        _MINI,
        name=TINY,
        test_counts_K=(TEST_IMAGES_PER_CLASS,) * _MINI.num_classes,
        # A path in full leads there from wherever embedded files lie.
        sha256_by_file={str(path): hashlib.sha256(path.read_bytes()).hexdigest()},
    )
