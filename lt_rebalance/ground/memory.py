"""The memory and the processors that this process may use, and an error for data that does not fit."""

import os
from pathlib import Path

from lt_rebalance.ground.errors import DataError
from lt_rebalance.ground.text import format_bytes

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def count_cpus() -> int:
    """Return the CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_bytes() -> int | None:
    """Return how much memory this process can still allocate, on the machine or in its container.

    None if the system does not say.
    """
    found = [each for each in (_left_on_machine(), _left_in_container()) if each is not None]
    return min(found, default=None)


def require_memory(num_bytes: int, what: str, remedy: str) -> None:
    """Raise a DataError unless this many bytes fit into the available memory, as far as that is known.

    Args:
        what: what needs them; follows "got" and ends in a verb.
        remedy: what would fit, or how to make it smaller.
    """
    left = available_bytes()
    if left is not None and num_bytes > left:
        raise DataError(
            f"all images must fit into memory, which has {format_bytes(left)} free, got {what} "
            f"{format_bytes(num_bytes)}; {remedy}"
        )


def _left_on_machine() -> int | None:
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return None
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(values["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in values else None


def _left_in_container() -> int | None:
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
        statistics = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    # The page cache is released as soon as memory is needed.
    return None if limit == "max" else max(int(limit) - used + int(statistics.get("inactive_file", 0)), 0)
