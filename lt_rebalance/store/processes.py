"""Which process wrote something into a store, and whether it still lives as far as can be seen from here."""

import functools
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

from lt_rebalance.ground.values import Shape, text, whole

PROCESS: dict[str, Shape] = {"host": text, "pid": whole(1, 2**31 - 1), "pid_space": text}
"""what a file has to say of a process"""


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

    @property
    def is_visible(self) -> bool:
        """Whether its end could be seen from here."""
        return (self.host, self.pid_space) == (socket.gethostname(), process_space())

    @property
    def has_died(self) -> bool:
        """Whether it is known to have ended; False of processes that cannot be seen from here."""
        return self.is_visible and not _is_alive(self.pid)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # someone else's
        return True
    return True
