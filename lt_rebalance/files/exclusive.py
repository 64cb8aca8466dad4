"""Rename a finished file to a free name in one atomic step, on any disk."""

import ctypes
import errno
import os
from pathlib import Path

_NO_LINKS = (
    *(errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP),
    *(errno.EINVAL, errno.EMLINK, errno.EXDEV),
)
_NO_EXCLUSIVE_RENAME = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1


class NoExclusiveNameError(OSError):
    """The disk has no atomic step that names a file without replacing another."""


def name_exclusively(temporary: Path, target: Path) -> bool:
    """Make a file appear under a free name; False if the name is taken. The old name may remain.

    Unlike a rename, a hard link never replaces a file: of two writers the first wins. For disks without hard
    links, such as FAT and some network disks, Linux has a rename without replacing.

    Raises:
        NoExclusiveNameError: the disk has neither.
    """
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _rename_exclusively(temporary, target)
    return True


def _rename_exclusively(temporary: Path, target: Path) -> bool:
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # not Linux, or a C library from before 2018
        raise _refuse(target) from None
    if rename(_AT_FDCWD, os.fsencode(temporary), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) == 0:
        return True
    code = ctypes.get_errno()
    if code == errno.EEXIST:
        return False
    if code in _NO_EXCLUSIVE_RENAME:
        raise _refuse(target)
    raise OSError(code, os.strerror(code), str(target))


def _refuse(target: Path) -> NoExclusiveNameError:
    return NoExclusiveNameError(
        f"the disk of {target.parent} has neither hard links nor a rename without replacing, so two workers "
        "could commit one result; put the store on another disk, or in a bucket"
    )
