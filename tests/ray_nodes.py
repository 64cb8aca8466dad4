"""A Ray of several nodes on this machine, made by Ray's own utility for tests."""

import contextlib
from collections.abc import Iterator

import pytest
from ray.cluster_utils import Cluster

from lt_rebalance.cluster.session import RAYS_OWN_LIMITS


@contextlib.contextmanager
def started_head() -> Iterator[Cluster]:
    """Start a head with one CPU, waiting for it and for further nodes as long as a sweep does for its Ray.

    Beside other tests Ray's own limit of 30 s has been too short.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, value in RAYS_OWN_LIMITS.items():
            patch.setenv(name, value)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            yield cluster
        finally:
            cluster.shutdown()
