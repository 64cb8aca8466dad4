"""Draw the embedded mini set from the full Fashion-MNIST and write it reproducibly, byte for byte.

Run `python -m lt_rebalance.data.sample.make_mini --data-dir DIR`; DIR holds FashionMNIST/raw. The sha256
that it prints belongs in DATASETS of `lt_rebalance/data/catalog.py`.
"""

import argparse
import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.data.files import load_dataset
from lt_rebalance.data.places import EMBEDDED_DIR

MINI_NAME = "fashion_mnist_mini"
MINI_SEED = 20170825
NUM_TRAIN_PER_CLASS = 600
NUM_TEST_PER_CLASS = 200


def draw_indices(
    labels_N: NDArray[np.int64], num_per_class: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw `num_per_class` indices of each class without replacement; return them all, ascending."""
    draws = [
        rng.choice(np.flatnonzero(labels_N == label), size=num_per_class, replace=False)
        for label in np.unique(labels_N)
    ]
    return np.sort(np.concatenate(draws)).astype(np.int64)


def build_mini(data_dir: str | Path | None, seed: int = MINI_SEED) -> bytes:
    """Return the content of the mini set's npz: images (N, H, W), labels, indices into the full files.

    One generator draws the train split first, then the test split.
    """
    full = load_dataset("fashion_mnist", data_dir)
    rng = np.random.default_rng(seed)
    train_indices = draw_indices(full.train_labels_N, NUM_TRAIN_PER_CLASS, rng)
    test_indices = draw_indices(full.test_labels_N, NUM_TEST_PER_CLASS, rng)
    return pack_npz(
        {
            "train_images": full.train_images_NCHW[train_indices, 0],
            "train_labels": full.train_labels_N[train_indices].astype(np.uint8),
            "train_indices": train_indices.astype("<i4"),
            "test_images": full.test_images_NCHW[test_indices, 0],
            "test_labels": full.test_labels_N[test_indices].astype(np.uint8),
            "test_indices": test_indices.astype("<i4"),
        }
    )


def pack_npz(arrays: dict[str, NDArray[np.generic]]) -> bytes:
    """Return an npz of the arrays only: fixed timestamps, fixed attributes, given order.

    bzip2 is used because it has one implementation; deflate's output differs between zlib and zlib-ng.
    """
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, member.getvalue(), zipfile.ZIP_BZIP2, compresslevel=9)
    return stream.getvalue()


def main() -> None:
    """Write the mini set and print its size and sha256."""
    parser = argparse.ArgumentParser(description="Draw the embedded mini set from the full Fashion-MNIST.")
    parser.add_argument("--data-dir", required=True, help="directory that holds FashionMNIST/raw")
    default_path = EMBEDDED_DIR / next(iter(get_dataset_spec(MINI_NAME).sha256_by_file))
    parser.add_argument("--output-path", type=Path, default=default_path, help="npz to write")
    options = parser.parse_args()
    content = build_mini(options.data_dir)
    options.output_path.write_bytes(content)
    print(f"{options.output_path}: {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
