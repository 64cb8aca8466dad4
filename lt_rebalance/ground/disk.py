"""Free space on the disk of a store, and errors that say the disk cannot be written."""

import errno
import shutil
from pathlib import Path

from lt_rebalance.ground.text import format_bytes

FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def cannot_be_written(error: BaseException) -> bool:
    """Whether an error says that the disk is full or write-protected."""
    return isinstance(error, OSError) and error.errno in FULL_ERRNOS


def free_bytes(location: str) -> int | None:
    """Return the free space on the disk of a directory, or of the nearest parent that exists.

    None for an address.
    """
    if "://" in location:
        return None
    path = Path(location).expanduser().absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def describe_disk(location: str) -> str:
    """Return the free space on the disk of a directory, as words that follow an error."""
    free = free_bytes(location)
    return f"{location} has {format_bytes(free)} free" if free is not None else location
