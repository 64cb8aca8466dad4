"""The memory that is left to this process, and the refusal of what does not fit into it."""

from pathlib import Path

from lt_rebalance.ground.errors import DataError
from lt_rebalance.ground.text import format_bytes

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def available_bytes() -> int | None:
    """Return what this process can still take: of the machine, or of its container where that is less.

    None where the system does not tell.
    """
    found = [each for each in (_left_on_machine(), _left_in_container()) if each is not None]
    return min(found, default=None)


def require_memory(num_bytes: int, what: str, remedy: str) -> None:
    """Raise a DataError unless so many bytes fit into the memory that is left, as far as that can be told.

    Args:
        what: what takes them, to follow "got"; it ends in a verb.
        remedy: what would fit, or what makes it smaller.
    """
    left = available_bytes()
    if left is not None and num_bytes > left:
        raise DataError(
            f"all images must fit into memory, which has {format_bytes(left)} left, got {what} "
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
    # What files keep there is given back as soon as it is wanted.
    return None if limit == "max" else max(int(limit) - used + int(statistics.get("inactive_file", 0)), 0)
