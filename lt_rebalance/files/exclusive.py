"""Give a finished file its name unless something has that name, in one step, whatever the disk can do."""

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
    """The disk has no step that names a file and never replaces another."""


def name_exclusively(temporary: Path, target: Path) -> bool:
    """Make a file appear under a name that must be free; False when it is not. The old name may stay.

    Unlike a plain rename, a hard link never replaces what is there: of two writers the first wins. Where a
    disk has no hard links, such as FAT and some over a network, Linux has a rename that does not either.

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
        f"the disk of {target.parent} has neither hard links nor a rename that never replaces, so two "
        "workers could commit one result; put the store on another disk, or in a bucket"
    )
