"""Measure and delete directory trees on this machine, without ever following a link.

Every step goes from an open directory to a name in it, so a directory that is replaced by a link meanwhile is
not followed either.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path


class LinkError(OSError):
    """Something is behind a link, or on another disk, and must not be deleted."""


def delete_tree(root: Path, path: str) -> None:
    """Delete a file, a link itself, or a directory with its content, if it exists.

    Raises:
        LinkError: a directory on the way to it is a link, or something in it is a mount point.
    """
    with contextlib.suppress(FileNotFoundError), _open_parent(root, path) as parent:
        _delete(parent, path.rpartition("/")[2], _mount_of(parent))


def count_tree_bytes(root: Path, path: str) -> int:
    """Return the size of a file, or the total of all files in a directory; links count as empty."""
    with contextlib.suppress(OSError), _open_parent(root, path) as parent:
        return _count(parent, path.rpartition("/")[2])
    return 0


def walk_files(root: Path) -> Iterator[Path]:
    """Yield every file below a readable directory, including links as such."""
    for directory, names, files in os.walk(root, followlinks=False):
        yield from (Path(directory, name) for name in sorted(files))
        names.sort()


def is_behind_link(root: Path, path: str) -> bool:
    """Whether a directory on the way from the root to a path is a link; the root itself may be one."""
    parts = path.split("/")
    return any(os.path.islink(root.joinpath(*parts[:length])) for length in range(1, len(parts)))


@contextlib.contextmanager
def _open_parent(root: Path, path: str) -> Iterator[int]:
    """Open the parent directory of a path, part by part."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        *parents, _ = path.split("/")
        for part in parents:
            if stat.S_ISLNK(os.lstat(part, dir_fd=descriptor).st_mode):
                raise LinkError(f"{path} is behind a link, {part}")
            try:
                inner = _open_directory(part, descriptor)
            except NotADirectoryError:  # below a file there is nothing
                raise FileNotFoundError(path) from None
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _open_directory(name: str, parent: int) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)


def _mount_of(descriptor: int) -> tuple[int, str]:
    """Return a value that differs at mount points."""
    number = ""
    with contextlib.suppress(OSError):  # only Linux has this
        fields = Path(f"/proc/self/fdinfo/{descriptor}").read_text().split()
        number = fields[fields.index("mnt_id:") + 1]
    return os.fstat(descriptor).st_dev, number


def _delete(parent: int, name: str, mount: tuple[int, str]) -> None:
    status = os.lstat(name, dir_fd=parent)
    if not stat.S_ISDIR(status.st_mode):
        os.unlink(name, dir_fd=parent)
        return
    directory = _open_directory(name, parent)
    try:
        if _mount_of(directory) != mount:
            raise LinkError(f"{name} is a mount point")
        for inner in os.listdir(directory):
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                _delete(directory, inner, mount)
    finally:
        os.close(directory)
    os.rmdir(name, dir_fd=parent)


def _count(parent: int, name: str) -> int:
    status = os.lstat(name, dir_fd=parent)
    if stat.S_ISREG(status.st_mode):
        return status.st_size
    if not stat.S_ISDIR(status.st_mode):
        return 0
    directory = _open_directory(name, parent)
    try:
        return sum(_count(directory, inner) for inner in os.listdir(directory))
    finally:
        os.close(directory)
