"""The disk of a store: what is left on it, and the errors that say it takes no more."""

import errno
import shutil
from pathlib import Path

from lt_rebalance.ground.text import format_bytes

FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def takes_no_more(error: BaseException) -> bool:
    """Whether an error says that nothing can be written until somebody makes room or lifts a protection."""
    return isinstance(error, OSError) and error.errno in FULL_ERRNOS


def free_bytes(location: str) -> int | None:
    """Return what is left on the disk of a directory, or of the nearest parent that exists.

    None where that cannot be told, as of a place that is no directory.
    """
    if "://" in location:
        return None
    path = Path(location).expanduser().absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def describe_disk(location: str) -> str:
    """Return what is left on the disk of a directory, to follow an error."""
    free = free_bytes(location)
    return f"{location} has {format_bytes(free)} left" if free is not None else location
