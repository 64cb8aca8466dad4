"""A directory of one process that no other user can enter, removed at its end or by a later such process."""

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "lt_rebalance-"
_NAME = re.compile(re.escape(PREFIX) + "[a-z0-9_]{8}")  # names as `tempfile.mkdtemp` makes them
_NAME_BYTES = len(PREFIX) + 8
LONGEST = 4096
"""bytes of a path"""
MARK = ".private-directory"
"""only directories with this file are removed: a user may give a directory of results such a name"""


@contextlib.contextmanager
def private_directory(max_bytes: int = LONGEST, parent: Path | None = None) -> Iterator[Path]:
    """Make a directory of mode 0700 under a new name, yield its path, and remove it with its content.

    Its owner holds a lock on it, so that the next process recognises and removes those of killed processes.

    Args:
        max_bytes: as for `find_parent`, which chooses the parent where none is given.

    Raises:
        ValueError: there is no place for it; see `find_parent`.
        OSError: it cannot be made there.
    """
    parent = find_parent(max_bytes) if parent is None else require_private(parent, max_bytes)
    remove_left_overs(parent)
    path, lock = _make(parent)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def find_parent(max_bytes: int = LONGEST) -> Path:
    """Return the first suitable directory for temporary files.

    Args:
        max_bytes: longest path that the private directory may have; Unix sockets allow 107 bytes.

    Raises:
        ValueError: none is suitable; the message gives the reason for each.
    """
    candidates = [os.environ.get("RAY_TMPDIR"), os.environ.get("TMPDIR"), "/tmp", "/var/tmp"]
    candidates.append(os.environ.get("XDG_RUNTIME_DIR"))
    faults = []
    for candidate in dict.fromkeys(filter(None, candidates)):
        path = Path(os.path.realpath(candidate))
        fault = _find_fault(path, max_bytes)
        if not fault:
            return path
        faults.append(f"{path} {fault}")
    raise ValueError(
        f"no directory is suitable for the files of Ray ({'; '.join(faults)}); set TMPDIR to a directory of "
        f"yours with a path of at most {max_bytes - _NAME_BYTES - 1} bytes"
    )


def require_private(parent: Path, max_bytes: int = LONGEST) -> Path:
    """Return a directory without links; a ValueError unless a private one can be made in it."""
    if fault := _find_fault(path := Path(os.path.realpath(parent)), max_bytes):
        raise ValueError(f"what Ray reads and runs is kept in a private directory, got {path}, which {fault}")
    return path


def _find_fault(parent: Path, max_bytes: int) -> str:
    """Return why a directory cannot contain a private one; empty if it can."""
    if len(os.fsencode(parent)) + 1 + _NAME_BYTES > max_bytes:
        return "is too long for sockets"
    try:
        return _find_danger(parent)
    except OSError as error:  # a directory of another user on the way
        return f"cannot be entered ({error.strerror})"


def _find_danger(parent: Path) -> str:
    """Return why a private directory would not stay private in a directory; empty if it would."""
    if not parent.is_dir():
        return "is not a directory"
    if not os.access(parent, os.W_OK | os.X_OK):
        return "cannot be written"
    trusted = _trusted_owners()
    for place in (parent, *parent.parents):
        status = place.stat()
        writable = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if status.st_uid not in trusted or (writable and not status.st_mode & stat.S_ISVTX):
            return f"can be replaced by other users (owner and mode of {place})"
    return ""


def _trusted_owners() -> set[int]:
    """Return the ids of this user and of root, also as a user namespace shows root from outside."""
    owners = {0, os.geteuid()}
    with contextlib.suppress(OSError, ValueError):
        if Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]:
            owners.add(int(Path("/proc/sys/kernel/overflowuid").read_text()))
    return owners


def remove_left_overs(parent: Path) -> None:
    """Remove private directories of this user whose owner has died, as far as possible."""
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(parent)):
            if _NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                _remove_if_left(entry.path)


def _remove_if_left(path: str) -> None:
    with contextlib.suppress(OSError), _opened(path) as lock:
        status = os.fstat(lock)
        is_ours = status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) == 0o700
        if is_ours and stat.S_ISREG(os.stat(MARK, dir_fd=lock, follow_symlinks=False).st_mode):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)


def _make(parent: Path) -> tuple[Path, int]:
    """Return a new private directory and the descriptor that holds its lock."""
    path = tempfile.mkdtemp(prefix=PREFIX, dir=parent)
    os.chmod(path, 0o700)  # whatever the umask
    with _opened(path) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        Path(path, MARK).touch(mode=0o600)  # under the lock, so that no other process removes it
        return Path(path), os.dup(lock)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
