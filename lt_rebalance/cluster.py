"""The Ray that a command uses: one of this machine, closed to others, or a cluster that runs already."""

import contextlib
import logging
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants

from lt_rebalance.interrupts import InterruptWatch
from lt_rebalance.lease import Lease
from lt_rebalance.ray_watch import RayWatch, check_ray, watch_ray

ClusterSize = Mapping[str, float]
"""how much a cluster has of each resource, "CPU" and "GPU" among them"""

LOCAL_OBJECT_STORE_BYTES = 200_000_000


class RaySession:
    """Ray, started when it is first needed, and a watch for reasons to stop; both until the command ends."""

    def __init__(self, address: str | None, lease: Lease | None) -> None:
        """Start Ray on this machine unless an address says where it runs, and is connected to already.

        Args:
            lease: on the store; None where nothing will be run.
        """
        self._address = address
        self._lease = lease
        self._stack = contextlib.ExitStack()
        self._interrupts: InterruptWatch | None = None

    def __enter__(self) -> "RaySession":
        return self

    def __exit__(self, *_: object) -> None:
        if RayWatch.active is not None:
            RayWatch.active.note_leaving()
        self._stack.close()

    def start(self) -> None:
        """Return once Ray can be used."""
        if self._interrupts is None:
            interrupts = self._stack.enter_context(InterruptWatch())
            if self._address is None:
                self._stack.enter_context(ray_cluster(None))
            interrupts.install()  # Ray has put its own handlers in place
            if RayWatch.active is not None and self._lease is not None:
                RayWatch.active.guard(self._lease.release)
            self._interrupts = interrupts

    def check(self) -> None:
        """Raise `Interrupted` if a signal has come, LeaseLostError if another driver has taken over.

        Raises:
            ClusterError: Ray was lost.
        """
        if self._interrupts is not None:
            self._interrupts.check()
        if self._lease is not None:
            self._lease.check()
        check_ray()


@contextlib.contextmanager
def ray_cluster(address: str | None) -> Iterator[ClusterSize]:
    """Connect to a running cluster and yield what it has of "CPU" and "GPU", or start Ray on this machine.

    A Ray that is started here listens on loopback only and asks for a token that nobody else can read.

    Raises:
        ValueError: no cluster answers at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is None:
            size: dict[str, Any] = {"num_cpus": count_cpus(), "object_store_memory": LOCAL_OBJECT_STORE_BYTES}
            with _loopback_only():
                keep_token_private()
                ray.init(address="local", include_dashboard=False, **size, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"no Ray cluster could be reached or started ({error})") from None
    with watch_ray(is_local=address is None) as watch:
        try:
            yield ray.cluster_resources() if address is not None else {}
        finally:
            watch.note_leaving()
            ray.shutdown()


@contextlib.contextmanager
def _loopback_only() -> Iterator[None]:
    """Let a Ray that is started meanwhile, and all its processes, take 127.0.0.1 for their address.

    Else it takes the one that other machines see, and listens on every interface. `ray.init` replaces a
    loopback address that it is given; its switch for macOS and Windows does what is wanted everywhere.
    """
    name = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR  # inherited by the processes
    variable, constant = os.environ.get(name), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[name], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = constant
        if variable is None:
            del os.environ[name]
        else:
            os.environ[name] = variable


def keep_token_private() -> None:
    """Make Ray's token readable by its owner only, and make one where there is none.

    Ray itself would write it readable by everyone.
    """
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    path = Path.home() / ".ray" / "auth_token"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        with tempfile.NamedTemporaryFile("w", dir=path.parent) as file:  # made with mode 0600
            file.write(secrets.token_hex(32))
            file.flush()
            # A second driver that starts at the same time finds a whole token or none.
            with contextlib.suppress(FileExistsError):
                os.link(file.name, path)
    path.chmod(0o600)


def count_cpus() -> int:
    """Return the CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_room() -> str:
    """Return what the cluster has, and how much of it is free."""
    try:
        has, free = ray.cluster_resources(), ray.available_resources()
    except Exception as error:  # it is only told of
        return f"what the cluster has cannot be told ({error})"
    parts = [f"{has.get(name, 0):g} {name} ({free.get(name, 0):g} free)" for name in ("CPU", "GPU")]
    return f"the cluster has {' and '.join(parts)} now"
