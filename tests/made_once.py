"""What one process of the tests makes for all of them."""

import os
from collections.abc import Callable
from pathlib import Path

import filelock
import pytest


def make_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a directory that the first process to ask for it has filled, by calling `make` with it."""
    base = factory.getbasetemp()
    directory = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"once-{name}"
    made = directory.with_suffix(".made")
    with filelock.FileLock(directory.with_suffix(".lock")):
        if not made.exists():
            directory.mkdir()
            make(directory)
            made.touch()
    return directory
