"""Fixtures that several test modules on Ray share."""

from collections.abc import Iterator

import pytest

from lt_rebalance.cluster.session import ray_cluster


@pytest.fixture(scope="module")
def shared_ray() -> Iterator[None]:
    """Start one Ray for all tests of a module that leave nothing on it."""
    with ray_cluster(None):
        yield
