"""Parameters of tests of which a few stand for the others in the default suite."""

from collections.abc import Iterable
from typing import Any

import pytest


def mostly_slow(values: Iterable[Any], num_quick: int) -> list[Any]:
    """Return the values as parameters; all after the first `num_quick` run with the slow tests."""
    return [
        pytest.param(value, marks=() if index < num_quick else pytest.mark.slow)
        for index, value in enumerate(values)
    ]
