"""A data set for tests that train: a third of the embedded training images, and a hundred of its test images.

A test on two thousand images takes a core one second, twenty times as long as the steps before it. To fill
classes up to six hundred images takes as long. The set is registered as a user's set, so workers know it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from lt_rebalance.data import at_hand
from lt_rebalance.data.catalog import DATASETS
from lt_rebalance.data.places import EMBEDDED_DIR
from lt_rebalance.images.cache import CACHE_DIR_VARIABLE
from lt_rebalance.images.load import bring
from lt_rebalance.images.options import OwnOptions

TINY = "images@e9845c90"
TRAIN_IMAGES_PER_CLASS, TEST_IMAGES_PER_CLASS = 200, 10
_FILE_VARIABLE = "LT_REBALANCE_TEST_TINY"
"""Environment variable: where the file is; processes that a test starts inherit it."""


@contextmanager
def tiny_dataset(directory: Path) -> Iterator[None]:
    """Make the data set in a directory, prepare it there, and register it in this process."""
    (file,) = DATASETS["fashion_mnist_mini"].sha256_by_file
    with np.load(EMBEDDED_DIR / file, allow_pickle=False) as arrays:
        by_name = dict(arrays)
    for part, most in (("train", TRAIN_IMAGES_PER_CLASS), ("test", TEST_IMAGES_PER_CLASS)):
        labels_N = by_name[f"{part}_labels"]
        kept = np.concatenate([np.flatnonzero(labels_N == label)[:most] for label in range(10)])
        for name in (f"{part}_images", f"{part}_labels"):
            by_name[name] = by_name[name][kept]
    np.savez(directory / "tiny.npz", **by_name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(_FILE_VARIABLE, str(directory / "tiny.npz"))
        patch.setenv(CACHE_DIR_VARIABLE, str(directory / "cache"))
        patch.setattr(at_hand, "_AT_HAND", {})
        know_tiny()
        yield


def know_tiny() -> None:
    """Register the data set in a process that a test has started, too."""
    name, _ = bring(os.environ[_FILE_VARIABLE], OwnOptions())
    assert name == TINY
