"""Notice the death of Ray, which its own calls wait for silently, and end cleanly."""

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
from lt_rebalance.ground.interrupts import Interrupted, InterruptWatch

LOOK_EVERY_S = 1.0
LOCAL_PATIENCE_S = 4.0
"""seconds without an answer of a process on this machine, which is never restarted"""
CLUSTER_PATIENCE_S = 30.0
"""seconds without an answer from another machine; after 60 s Ray itself ends the process"""
LEAVING_PATIENCE_S = 45.0
"""while Ray is shut down, and no answer is expected"""
GRACE_S = 10.0
"""seconds for the process to end by itself; a call of Ray may never return"""
_ANSWER_S = 2.0

Address = tuple[str, int]


class RayWatch:
    """Checks every second, in its own thread, whether the processes that the main process needs answer.

    The main thread learns of a death by `check`. If it is blocked in a call of Ray, the watch reports the
    death, releases the lease and ends the process.
    """

    active: "ClassVar[RayWatch | None]" = None
    """the instance whose block this process is in"""

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
            places: the watched processes, by name, and their addresses.
            patience_s: a process counts as dead after this many seconds without an answer.
            is_local: all processes of this Ray are children of this one, and end with it.
            grace_s: seconds after that in which the process may end by itself.
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
        """Register a function to call before the process is ended."""
        self._let_go = let_go

    def note_leaving(self) -> None:
        """Be silent and wait: the main thread ends the command, and Ray with it."""
        self._is_told = True
        if self._error is None:
            self._patience_s = LEAVING_PATIENCE_S

    def check(self) -> None:
        """Raise a ClusterError if Ray has died, or `Interrupted` if a signal has come as well."""
        if self._error is not None:
            InterruptWatch.check()
            raise self._error

    def _watch(self) -> None:
        silent_s = dict.fromkeys(self._places, 0.0)
        while True:
            began_s = time.monotonic()
            if self._stop.wait(self._look_every_s):
                return
            for name, address in self._places.items():
                is_silent = not answers(address)
                # A machine that slept, or a stopped process, has not listened for that long.
                passed_s = min(time.monotonic() - began_s, self._look_every_s + _ANSWER_S)
                silent_s[name] = silent_s[name] + passed_s if is_silent else 0.0
                if silent_s[name] >= self._patience_s:
                    self._give_up(name)
                    return

    def _give_up(self, name: str) -> None:
        self._error = ClusterError(f"Ray was lost: {name} no longer answers", was_lost=True)
        if not self._stop.wait(self._grace_s):
            self._end_process(self._error)

    def _end_process(self, error: ClusterError) -> None:
        code, why = 1, f"error: {error}\nstopped"
        try:
            InterruptWatch.check()
        except Interrupted as stop:  # of Ray's processes, too
            code, why = stop.exit_code, f"stopped by {stop.signal.name}"
        if not self._is_told:
            show_cursor = "\x1b[?25h" if sys.stdout.isatty() else ""  # a live table may have hidden it
            text = f"{why}; finished results are kept, and the same command resumes\n"
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.write(show_cursor + text)
                sys.stderr.flush()
        with contextlib.suppress(Exception):
            self._let_go()
        if self._is_local:
            _kill_children()
        os._exit(code)


def _kill_children() -> None:
    # Ray bundles it, and adds it to the path when imported.
    import psutil  # type: ignore[import-untyped]

    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()


def watch_ray(*, is_local: bool) -> RayWatch:
    """Return a watch over the Ray that this process is connected to.

    Args:
        is_local: this process has started it.
    """
    if ray.util.client.ray.is_connected():  # through a server, since only it knows the cluster's processes
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
    """Raise a ClusterError if the Ray of this process has died."""
    if RayWatch.active is not None:
        RayWatch.active.check()
