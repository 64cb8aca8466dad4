"""The Ray of a command: a private one on this machine, or a running cluster."""

import contextlib
import functools
import logging
import os
import resource
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
from ray._private import parameter, ray_constants, services
from ray._private import utils as ray_utils
from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]
from ray.experimental.internal_kv import _internal_kv_put
from ray.train.constants import RAY_CHDIR_TO_TRIAL_DIR
from ray.tune.execution import class_cache

from lt_rebalance.cluster.ray_watch import RayWatch, check_ray, watch_ray
from lt_rebalance.cluster.resources import ClusterSize
from lt_rebalance.files.left_processes import ended_with_this_process
from lt_rebalance.files.private_directory import find_parent, private_directory
from lt_rebalance.ground.errors import ClusterError
from lt_rebalance.ground.interrupts import InterruptWatch, pause
from lt_rebalance.ground.memory import count_cpus
from lt_rebalance.stages.installation import ROOT
from lt_rebalance.store.lease import Lease

LOCAL_OBJECT_STORE_BYTES = 200_000_000
MIN_OPEN_FILES = 1024
START_S = 120.0
"""time limit for a local Ray until its node is known; Ray's own limit is a quarter of it"""

_KV_OF_DASHBOARD = ray_constants.KV_NAMESPACE_DASHBOARD

# On a busy machine Ray's own limits are too short. A process reads them once, for every Ray that it starts,
# so they never change.
RAYS_OWN_LIMITS = {
    "RAY_gcs_server_port_wait_time_s": f"{START_S:.0f}",
    "RAY_gcs_rpc_server_connect_timeout_s": f"{START_S:.0f}",
    "RAY_worker_register_timeout_seconds": f"{START_S:.0f}",
    # A worker without a CPU for 2 min would count as lost. On one machine a dead one closes its connections.
    "RAY_grpc_client_keepalive_timeout_ms": "3600000",
}
CONNECT_S = 10.0
SLOW_S = 20.0
"""when a slow start is reported"""

# The path of a Unix socket has at most 107 bytes; this is Ray's longest one below the private directory.
MAX_DIRECTORY_BYTES = 107 - len("/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")

_log = logging.getLogger(__name__)


class RaySession:
    """Ray, started when it is first needed, and a watch for reasons to stop; both until the command ends."""

    def __init__(self, address: str | None, lease: Lease | None) -> None:
        """Start Ray on this machine unless an address names one, to which this is connected already.

        Args:
            lease: on the store; None if nothing will be run or written.

        Raises:
            ValueError: something will be run, and Ray cannot be started here.
        """
        if address is None and lease is not None:
            check_machine()
        self._address = address
        self.lease = lease
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
            if RayWatch.active is not None and self.lease is not None:
                RayWatch.active.guard(self.lease.release)
            self._interrupts = interrupts

    def check(self) -> None:
        """Raise `Interrupted` if a signal has come, LeaseLostError if another process has taken over.

        Raises:
            ClusterError: Ray was lost.
        """
        if self._interrupts is not None:
            self._interrupts.check()
        if self.lease is not None:
            self.lease.check()
        check_ray()


@contextlib.contextmanager
def ray_cluster(address: str | None) -> Iterator[ClusterSize]:
    """Connect to a running cluster and yield the resources of its nodes, or start Ray on this machine.

    A local Ray listens on loopback only, requires its own token, and has all its files in a directory that no
    other user can enter. No other machine gets this process's environment.

    Raises:
        ValueError: no cluster answers at the address, or Ray cannot be started on this machine.
        ClusterError: Ray does not start.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Tune would send credentials to its actors, which Ray logs, and whatever is sent costs a new process.
    # Workers have the environment of their node; another one is sent only the switch.
    os.environ[RAY_CHDIR_TO_TRIAL_DIR] = "0"
    sent = set() if address is None else {RAY_CHDIR_TO_TRIAL_DIR}
    with (
        replaced(class_cache, "DEFAULT_ENV_VARS", {}),
        replaced(class_cache, "ENV_VARS_TO_PROPAGATE", sent),
        # Under `uv run` Ray would copy the working directory and the command line of uv to all nodes.
        replaced(ray_constants, "RAY_ENABLE_UV_RUN_RUNTIME_ENV", False),
    ):
        if address is None:
            with _local_ray():
                yield []
        else:
            with _connection(address):
                yield [node["Resources"] for node in ray.nodes() if node["Alive"]]


_QUIET: Mapping[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}


@contextlib.contextmanager
def _connection(address: str) -> Iterator[None]:
    if address == "auto" and not os.environ.get(ray_constants.RAY_ADDRESS_ENVIRONMENT_VARIABLE):
        address = find_own_cluster()
    waiting = threading.Timer(
        SLOW_S, _log.warning, (f"the Ray cluster at {address} does not answer yet; waiting for it",)
    )
    try:
        _require_listener(address)
        waiting.start()
        with _import_path():
            ray.init(address=address, **_QUIET)
    except Exception as error:  # Ray raises many types, including the plain base class
        said = " ".join(str(error).split())
        raise ValueError(f"no Ray cluster could be reached at {address} ({said})") from None
    finally:
        waiting.cancel()
    with _watched(is_local=False):
        yield


def _require_listener(address: str) -> None:
    """Raise an OSError if HOST:PORT refuses connections, which Ray would retry for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()


@contextlib.contextmanager
def _watched(*, is_local: bool) -> Iterator[None]:
    """Watch the Ray of this process, and leave it at the end."""
    with watch_ray(is_local=is_local) as watch:
        try:
            yield
        finally:
            watch.note_leaving()
            ray.shutdown()


def _import_path() -> contextlib.AbstractContextManager[None]:
    """Let workers import from the directory of the main process's package, before all others.

    Ray puts the current directory there, which may hold another lt_rebalance.
    """
    return contextlib.chdir(ROOT)


def find_own_cluster() -> str:
    """Return the address of the Ray of this user, or of root, on this machine.

    Ray itself would use the Ray of any user, and give it the token: it looks at all processes, and into a
    file in a world-writable directory.

    Raises:
        ValueError: none is running, or several are.
    """
    addresses = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if process.stat().st_uid in (0, os.geteuid()):
                words = (process / "cmdline").read_bytes().split(b"\0")
                addresses |= {
                    word.partition(b"=")[2].decode() for word in words if word.startswith(b"--gcs-address=")
                }
    if len(addresses) > 1 and (newest := services.find_bootstrap_address(None)) in addresses:
        return str(newest)
    if len(addresses) != 1:
        found = (
            f"several run here: {', '.join(sorted(addresses))}" if addresses else "none of yours runs here"
        )
        raise ValueError(f"no Ray cluster could be found by --address auto ({found}); name its address")
    return addresses.pop()


def check_machine() -> None:
    """Check known obstacles to starting Ray on this machine.

    Raises:
        ValueError: the limit of open files is too low, or no directory is suitable for Ray's files.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)  # Ray uses whatever exists
    if most != resource.RLIM_INFINITY and most < MIN_OPEN_FILES:
        raise ValueError(
            f"Ray needs at least {MIN_OPEN_FILES} open files, and this process is allowed {most}; raise the "
            f"limit: ulimit -n {MIN_OPEN_FILES}"
        )
    find_parent(MAX_DIRECTORY_BYTES)


@contextlib.contextmanager
def _local_ray() -> Iterator[None]:
    check_machine()
    with contextlib.ExitStack() as stack:
        try:
            directory = stack.enter_context(private_directory(MAX_DIRECTORY_BYTES))
            token = directory / "token"
            token.touch(mode=0o600)
            token.write_text(secrets.token_hex(32))
            # Otherwise Ray's agents outlive a killed main process by more than a minute.
            stack.enter_context(ended_with_this_process("RAY_AUTH_TOKEN_PATH", str(token)))
        except OSError as error:
            raise ClusterError(
                f"no directory is suitable for the files of Ray: {error}",
                remedy="free space, or set TMPDIR to another directory",
            ) from None
        # All processes of this Ray inherit these.
        stack.enter_context(
            _environment(
                RAY_TMPDIR=str(directory),
                RAY_AUTH_TOKEN=None,
                RAY_AUTH_TOKEN_PATH=str(token),
                **RAYS_OWN_LIMITS,
            )
        )
        stack.callback(AuthenticationTokenLoader.instance().reset_cache)
        AuthenticationTokenLoader.instance().reset_cache()
        _start(directory / "ray")
        with _watched(is_local=True):
            yield


def _start(directory: Path) -> None:
    """Start Ray, with a second attempt if the first one fails."""
    # Any: Ray's own signature takes anything
    size: dict[str, Any] = {"num_cpus": count_cpus(), "object_store_memory": LOCAL_OBJECT_STORE_BYTES}
    place = {"address": "local", "include_dashboard": False, "_temp_dir": str(directory)}
    for attempt in (1, 2):
        try:
            _try_to_start(**place, **size)
        except Exception as error:  # Ray raises many types, including the plain base class
            said = " ".join(str(error).split())
        else:
            return
        if attempt == 1:
            _log.warning("Ray did not start (%s); retrying once", said)
    raise ClusterError(
        f"Ray did not start on this machine, twice ({said})",
        remedy=(
            "it may be short of memory, processes or time: stop other work on it, then run the same command "
            "again"
        ),
    )


def _try_to_start(**options: Any) -> None:  # Any: arguments of Ray
    """Start Ray, or end all of its processes."""
    processes = _StartedProcesses()
    try:
        with _loopback_only(), _import_path(), _few_processes(), processes.watched():
            ray.init(**options, **_QUIET)
        # Else the agent of the node would look for a dashboard every second, permanently.
        _internal_kv_put(ray_constants.DASHBOARD_ADDRESS, "127.0.0.1:0", namespace=_KV_OF_DASHBOARD)
    except BaseException:
        ray.shutdown()
        processes.end()
        if InterruptWatch.active is not None:
            InterruptWatch.active.install()  # Ray has put its own handlers in place
            InterruptWatch.active.check()
        raise


class _StartedProcesses:
    """The processes of a Ray that is being started: waits longer for them than Ray does, and can end them."""

    def __init__(self) -> None:
        # Any: Ray's functions, without types
        self._start_process: Any = services.start_ray_process
        self._get_node: Any = services.get_node
        self._started: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._start_s = time.monotonic()
        self._has_spoken = False

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Record the processes that Ray starts within a block, and let it wait longer."""
        with (
            replaced(services, "start_ray_process", self._start),
            replaced(services, "get_node", self._wait_for_node),
        ):
            yield

    def end(self) -> None:
        """End all started processes; workers end with their raylet."""
        for _, process in self._started:
            process.kill()
        for _, process in self._started:
            process.wait()

    def _start(self, command: Any, process_type: str, *arguments: Any, **options: Any) -> Any:
        information = self._start_process(command, process_type, *arguments, **options)
        self._started.append((process_type, information.process))
        return information

    def _wait_for_node(self, *arguments: Any) -> Any:
        """Return Ray's entry of a node as soon as it exists.

        Raises:
            TimeoutError: there is none after `START_S`. Ray would continue after a RuntimeError.
            ChildProcessError: there is none, and its raylet has ended.
        """
        while True:
            with contextlib.suppress(RuntimeError):
                return self._get_node(*arguments)
            waited_s = time.monotonic() - self._start_s
            if not self._has_raylet():
                raise ChildProcessError("its raylet has ended")
            if waited_s > START_S:
                raise TimeoutError(f"its node was not known after {waited_s:.0f} s")
            if waited_s > SLOW_S and not self._has_spoken:
                _log.warning("Ray is slow to start on this machine; waiting up to %.0f s", START_S)
                self._has_spoken = True
            pause(0.5)

    def _has_raylet(self) -> bool:
        return any(
            kind == ray_constants.PROCESS_TYPE_RAYLET and process.poll() is None
            for kind, process in self._started
        )


@contextlib.contextmanager
def _loopback_only() -> Iterator[None]:
    """Let a Ray that is started meanwhile, and all its processes, use the address 127.0.0.1.

    Otherwise it uses the one that other machines see, and listens on every interface. `ray.init` replaces a
    loopback address argument; its switch for macOS and Windows has the needed effect everywhere.
    """
    variable = {ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0"}  # inherited by the processes
    with _environment(**variable), replaced(ray_constants, "ENABLE_RAY_CLUSTER", False):
        yield


@contextlib.contextmanager
def _few_processes() -> Iterator[None]:
    """Start Ray in this block without unused parts, in half the time.

    Left out are the log monitor (no log is sent to the main process), the autoscaler's monitor (no node is
    added), the process of the dashboard, and the servers of the node's agent that only a dashboard uses. The
    raylet waits for that agent.
    """
    without: dict[str, Any] = {"include_log_monitor": False, "no_monitor": True}  # Any: its types are wrong
    parameters = functools.partial(parameter.RayParams, **without)
    no_dashboard = ImportError("this Ray has no dashboard")
    with (
        replaced(parameter, "RayParams", parameters),
        replaced(services, "start_api_server", lambda *_, **__: ("", None)),
        replaced(ray_utils, "get_dashboard_dependency_error", lambda: no_dashboard),
    ):
        yield


@contextlib.contextmanager
def _environment(**values: str | None) -> Iterator[None]:
    """Set or unset variables of the environment within a block."""
    before = {name: os.environ.get(name) for name in values}
    _set_environment(values)
    try:
        yield
    finally:
        _set_environment(before)


def _set_environment(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:  # Any: a module of Ray and its content
    """Give a module of Ray another value of a name within a block."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def describe_room() -> str:
    """Return the cluster's resources, and how much of them is free."""
    try:
        has, free = ray.cluster_resources(), ray.available_resources()
    except Exception as error:  # only for a report
        return f"the cluster's resources are unknown ({error})"
    parts = [f"{has.get(name, 0):g} {name} ({free.get(name, 0):g} free)" for name in ("CPU", "GPU")]
    return f"the cluster has {' and '.join(parts)} now"
