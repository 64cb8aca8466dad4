"""End the child processes of a process that ends normally, by SIGKILL, or out of memory.

A small second process waits at a pipe for the end of the first. This module, run as a file, is that process.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PAUSE_S = 0.1
PATIENCE_S = 60.0
"""how long it tries; a process in an uninterruptible wait ends later by itself"""


@contextlib.contextmanager
def ended_with_this_process(variable: str, value: str) -> Iterator[None]:
    """End, with this block or process, every process whose initial environment has NAME=VALUE.

    Does nothing on systems without /proc.

    Raises:
        OSError: the waiting process cannot be started.
    """
    command = [sys.executable, "-I", "-S", __file__, f"{variable}={value}"]
    output = subprocess.DEVNULL
    waiting = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True, cwd="/"
    )
    assert waiting.stdin is not None
    try:
        yield
    finally:
        waiting.stdin.close()
        waiting.wait()


def end_marked(mark: bytes) -> None:
    """End all processes of this user whose initial environment has NAME=VALUE, except this one."""
    deadline = time.monotonic() + PATIENCE_S
    while _kill_marked(mark) and time.monotonic() < deadline:
        time.sleep(PAUSE_S)


def _kill_marked(mark: bytes) -> bool:
    """Send SIGKILL to the processes with a mark, and return whether there were any."""
    found = False
    for entry in Path("/proc").glob("[0-9]*"):
        number = int(entry.name)
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            process = os.pidfd_open(number)  # so that no other process can take its number meanwhile
            try:
                if number != os.getpid() and mark in (entry / "environ").read_bytes().split(b"\0"):
                    signal.pidfd_send_signal(process, signal.SIGKILL)
                    found = True
            finally:
                os.close(process)
    return found


if __name__ == "__main__":
    sys.stdin.buffer.read()
    end_marked(os.fsencode(sys.argv[1]))
