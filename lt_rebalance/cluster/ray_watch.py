"""Notice that Ray has died, which its own calls wait for without a word, and end in order."""

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import ray
import ray.util.client

from lt_rebalance.ground.errors import ClusterError

LOOK_EVERY_S = 1.0
LOCAL_PATIENCE_S = 4.0
"""without an answer of a process on this machine, which nobody starts again"""
CLUSTER_PATIENCE_S = 30.0
"""without an answer from elsewhere; after 60 s Ray itself ends the process, in words of its own"""
LEAVING_PATIENCE_S = 45.0
"""while Ray is being ended, and no answer is what is wanted"""
GRACE_S = 10.0
"""for the process to end by itself; a call of Ray's may never return"""
_ANSWER_S = 2.0

Address = tuple[str, int]


class RayWatch:
    """Looks every second, from a thread of its own, whether the processes that a driver depends on answer.

    The main thread learns of a death by `check`. Where it stands in a call of Ray's and cannot, the watch
    says what happened, lets go of the lease and ends the process.
    """

    active: "ClassVar[RayWatch | None]" = None
    """the one whose block this process is in"""

    def __init__(
        self,
        places: Mapping[str, Address],
        patience_s: float,
        *,
        is_local: bool,
        grace_s: float = GRACE_S,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        """Prepare to watch.

        Args:
            places: what is watched, by name, and where it listens.
            patience_s: seconds without an answer from which a process counts as dead.
            is_local: all processes of this Ray are children of this one, and end with it.
            grace_s: seconds from there in which the process may end by itself.
        """
        self._places = places
        self._patience_s = patience_s
        self._is_local = is_local
        self._grace_s = grace_s
        self._look_every_s = look_every_s
        self._let_go: Callable[[], object] = lambda: None
        self._error: ClusterError | None = None
        self._is_told = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ray-watch", daemon=True)

    def __enter__(self) -> "RayWatch":
        RayWatch.active = self
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        RayWatch.active = None
        self._stop.set()

    def guard(self, let_go: Callable[[], object]) -> None:
        """Call something before the process is ended."""
        self._let_go = let_go

    def note_leaving(self) -> None:
        """Say nothing, and have patience: the main thread ends the command, and Ray with it."""
        self._is_told = True
        if self._error is None:
            self._patience_s = LEAVING_PATIENCE_S

    def check(self) -> None:
        """Raise a ClusterError if Ray has died."""
        if self._error is not None:
            raise self._error

    def _watch(self) -> None:
        silent_s = dict.fromkeys(self._places, 0.0)
        while True:
            began_s = time.monotonic()
            if self._stop.wait(self._look_every_s):
                return
            for name, address in self._places.items():
                is_silent = not answers(address)
                # A machine that slept, or a process that stood still, has not listened for that long.
                passed_s = min(time.monotonic() - began_s, self._look_every_s + _ANSWER_S)
                silent_s[name] = silent_s[name] + passed_s if is_silent else 0.0
                if silent_s[name] >= self._patience_s:
                    self._give_up(name)
                    return

    def _give_up(self, name: str) -> None:
        self._error = ClusterError(f"Ray was lost: {name} does not answer any more", was_lost=True)
        if not self._stop.wait(self._grace_s):
            self._end_process(self._error)

    def _end_process(self, error: ClusterError) -> None:
        if not self._is_told:
            show_cursor = "\x1b[?25h" if sys.stdout.isatty() else ""  # a live table may have hidden it
            text = f"error: {error}\nstopped; nothing finished is lost, and the same command goes on\n"
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.write(show_cursor + text)
                sys.stderr.flush()
        with contextlib.suppress(Exception):
            self._let_go()
        if self._is_local:
            _kill_children()
        os._exit(1)


def _kill_children() -> None:
    # Ray brings it along, and puts it onto the path when it is imported.
    import psutil  # type: ignore[import-untyped]

    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()


def watch_ray(*, is_local: bool) -> RayWatch:
    """Return a watch over the Ray that this process is connected to.

    Args:
        is_local: this process has started it.
    """
    if ray.util.client.ray.is_connected():  # by way of a server, which alone knows the cluster's processes
        return RayWatch({}, CLUSTER_PATIENCE_S, is_local=False)
    head, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    places = {f"its head (GCS, {head}:{port})": (head.strip("[]"), int(port))}
    own_node: Any = ray.get_runtime_context().get_node_id()
    for node in ray.nodes():
        if node["NodeID"] == own_node:
            address = (node["NodeManagerAddress"], int(node["NodeManagerPort"]))
            places[f"its process on this machine (raylet, {address[0]}:{address[1]})"] = address
    patience_s = LOCAL_PATIENCE_S if is_local else CLUSTER_PATIENCE_S
    return RayWatch(places, patience_s, is_local=is_local)


def answers(address: Address) -> bool:
    """Return whether something listens at an address."""
    try:
        socket.create_connection(address, timeout=_ANSWER_S).close()
    except OSError:
        return False
    return True


def check_ray() -> None:
    """Raise a ClusterError if the Ray that this process uses has died."""
    if RayWatch.active is not None:
        RayWatch.active.check()
