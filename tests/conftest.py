"""Fixtures that several test modules share."""

import os
from pathlib import Path

import pytest

from lt_rebalance.datasets import DATA_DIR_VARIABLE


@pytest.fixture(scope="session")
def full_data_dir() -> Path:
    """Return the data directory with the full Fashion-MNIST; skip where the variable names none."""
    data_dir = Path(os.environ.get(DATA_DIR_VARIABLE) or "data").absolute()
    if not any((data_dir / "FashionMNIST" / "raw").glob("train-images-idx3-ubyte*")):
        pytest.skip(
            f"full Fashion-MNIST not found: set {DATA_DIR_VARIABLE} to a directory with FashionMNIST/raw"
        )
    return data_dir
