"""Which process wrote something into a store, and whether it still lives as far as can be seen from here."""

import functools
import math
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

_NUM_PIDS = 2**31


@functools.cache
def process_space() -> str:
    """Return what tells apart the process numbers of machines, of their boots and of their containers."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return ""


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process of some machine."""

    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    pid_space: str = field(default_factory=process_space)

    def __post_init__(self) -> None:
        """Refuse what no process ever wrote; a ValueError."""
        if not (_is_whole(self.pid) and 0 < self.pid < _NUM_PIDS):
            raise ValueError(f"a process has a number above 0, got {self.pid!r}")
        if not (isinstance(self.host, str) and isinstance(self.pid_space, str)):
            raise ValueError(f"a process names its host and its space, got {self.host!r}, {self.pid_space!r}")

    @property
    def is_visible(self) -> bool:
        """Whether its end could be seen from here."""
        return (self.host, self.pid_space) == (socket.gethostname(), process_space())

    @property
    def has_died(self) -> bool:
        """Whether it is known to have ended; False of processes that cannot be seen from here."""
        return self.is_visible and not _is_alive(self.pid)


def is_finite(value: object) -> bool:
    """Whether a value that was read is a number that can be computed with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # someone else's
        return True
    return True
