"""Fixtures that several test modules share."""

import dataclasses
import os
from pathlib import Path

import pytest

from lt_rebalance.configs import Budget, Execution
from lt_rebalance.datasets import DATA_DIR_VARIABLE
from lt_rebalance.machine import resolve_execution
from lt_rebalance.protocols import PROTOCOLS, Protocol


@pytest.fixture(scope="session")
def full_data_dir() -> Path:
    """Return the data directory with the full Fashion-MNIST; skip where the variable names none."""
    data_dir = Path(os.environ.get(DATA_DIR_VARIABLE) or "data").absolute()
    if not any((data_dir / "FashionMNIST" / "raw").glob("train-images-idx3-ubyte*")):
        pytest.skip(
            f"full Fashion-MNIST not found: set {DATA_DIR_VARIABLE} to a directory with FashionMNIST/raw"
        )
    return data_dir


@pytest.fixture(scope="session")
def small_protocol() -> Protocol:
    """Return a protocol that trains everything in seconds: six steps in three rounds, batches of eight."""
    budget = Budget(steps=6, rounds=3)
    return dataclasses.replace(
        PROTOCOLS["sound"],
        name="small",
        classifier_budget=budget,
        classifier_batch_size=8,
        generator_budget=budget,
        generator_batch_size=8,
    )


@pytest.fixture(scope="session")
def cpu_execution() -> Execution:
    """Return plain float32 on one thread."""
    return resolve_execution("cpu", "float32", 1, has_cuda=False)
