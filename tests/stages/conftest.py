"""The toy data set on disk, and a new store."""

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from lt_rebalance.data.catalog import DATASETS
from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.store import Store
from tests.stages.toy import TOY_TEST, TOY_TRAIN, make_store, make_toy_images


@pytest.fixture(scope="session")
def toy_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data directory with the toy data set as IDX files."""
    rng = np.random.default_rng(0)
    raw_dir = tmp_path_factory.mktemp("toy") / "Toy" / "raw"
    raw_dir.mkdir(parents=True)
    for split, images_per_class in [("train", TOY_TRAIN), ("t10k", TOY_TEST)]:
        images_NHW, labels_N = make_toy_images(images_per_class, rng)
        for name, array in [
            (f"{split}-images-idx3-ubyte", images_NHW),
            (f"{split}-labels-idx1-ubyte", labels_N),
        ]:
            header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            (raw_dir / name).write_bytes(header + array.tobytes())
    return raw_dir.parents[1]


@pytest.fixture
def data_dir(toy_dir: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Register the toy data set and return its data directory."""
    names = ["train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"]
    files = [toy_dir / "Toy" / "raw" / f"{name}-ubyte" for name in names]
    spec = DatasetSpec(
        name="toy",
        num_classes=4,
        image_shape=(1, 8, 8),
        class_names=("a", "b", "c", "d"),
        train_counts_K=(TOY_TRAIN,) * 4,
        test_counts_K=(TOY_TEST,) * 4,
        licence="none",
        torchvision_name="Toy",
        sha256_by_file={file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files},
    )
    monkeypatch.setitem(DATASETS, "toy", spec)
    return str(toy_dir)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return a new store."""
    return make_store(tmp_path / "store")
