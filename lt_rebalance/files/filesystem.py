"""The file operations that a store needs; one implementation per kind of place.

Writing is atomic: readers never see a part of a created or replaced file.
"""

import contextlib
import errno
import hashlib
import os
import stat
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from lt_rebalance.files.exclusive import NoExclusiveNameError, name_exclusively
from lt_rebalance.files.trees import count_tree_bytes, delete_tree, is_behind_link, walk_files
from lt_rebalance.ground.errors import (
    NoDirectoryError,
    NotAFileError,
    ReadOnlyError,
    StorageError,
    UnreadableError,
)
from lt_rebalance.ground.names import is_foreign

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""errors of disks that cannot sync a directory"""
_OF_THE_FILE = (
    *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP),
    *(errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENXIO),
)
"""errors of a single file; the place as a whole may still be usable"""


def check_path(path: str) -> str:
    """Return a path if it leads below its root.

    Raises:
        ValueError: it does not, whether it exists or not.
    """
    if any(part in ("", ".", "..") or "\0" in part for part in path.split("/")):
        raise ValueError(f"{path!r} is not a path in a store: each part must be a name other than '..'")
    return path


@contextlib.contextmanager
def telling_unreadable() -> Iterator[None]:
    """Distinguish errors of one file from errors of the whole place.

    Raises:
        FileNotFoundError: the file does not exist.
        UnreadableError: the path is a directory, a broken link or a device, or it is locked.
        OSError: nothing in the place can be read.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except NotAFileError as error:
        raise UnreadableError(f"it cannot be read: {error}") from None
    except OSError as error:
        if error.errno not in _OF_THE_FILE:
            raise
        raise UnreadableError(f"it cannot be read: {error.strerror}") from None


class ReadableFilesystem(Protocol):
    """Files under one root that can be read, named by relative POSIX paths.

    A path that leads out of the root is a ValueError. All operations may raise an OSError; those of remote
    places, a StorageError.
    """

    def read(self, path: str) -> bytes:
        """Return the content; FileNotFoundError if nothing is there, NotAFileError if it is not a file."""
        ...

    def read_each(self, read: Callable[[ItemT], ResultT], items: Iterable[ItemT]) -> Iterator[ResultT]:
        """Yield the result or the error of a read operation for each item, in order.

        Remote places run it for many items concurrently, in threads, and sometimes twice; so it must not
        change anything.
        """
        ...

    def read_gathered(self, directory: str, paths: Collection[str]) -> Iterator[Mapping[str, bytes]]:
        """Yield the current content of files, by path, if that is cheaper than `read`.

        Args:
            directory: contains the paths.
        """
        ...

    def has_content(self, path: str, sha256: str, num_bytes: int) -> bool:
        """Whether a file has this content, by the stored sha256 or by reading it. Errors as `read`."""
        ...

    def read_appended(self, path: str) -> bytes:
        """Return everything appended to a path, in order; FileNotFoundError if nothing was."""
        ...

    def list(self, path: str) -> list[str]:
        """Return the sorted names in a directory, without foreign ones; empty if there is no directory."""
        ...

    def is_behind_link(self, path: str) -> bool:
        """Whether a directory on the way to a path is a link, so that the path leads out of the root."""
        ...

    def count_bytes(self, path: str) -> int:
        """Return the size of a file, or of all files in a directory; 0 if missing; follows no link."""
        ...

    def list_unfinished(self) -> Sequence[str]:
        """Return the leftovers of writes that began at least an hour ago, sorted by path."""
        ...


class Filesystem(ReadableFilesystem, Protocol):
    """Files that can be changed, too. Missing parents are created."""

    def gather(self, directory: str, name: str) -> None:
        """Let `read_gathered` have all files of a name below a directory, if that helps."""
        ...

    def create(self, path: str, content: bytes) -> bool:
        """Write a file, in one atomic step, if the path is free; False if anything is there."""
        ...

    def replace(self, path: str, content: bytes) -> None:
        """Write a file in one atomic step, replacing an existing one."""
        ...

    def append(self, path: str, content: bytes) -> None:
        """Append to a file, created if missing; the one operation that is neither atomic nor durable.

        For views and logs only. A place whose files cannot grow writes each addition to a further file whose
        name begins with the path.
        """
        ...

    def move(self, path: str, target: str) -> None:
        """Rename a path, a link as itself; FileNotFoundError if it does not exist.

        It may be at both places for a moment.
        """
        ...

    def remove(self, path: str) -> None:
        """Delete a file that `create` or `replace` has written, if it exists."""
        ...

    def remove_tree(self, path: str) -> None:
        """Delete a file, or a directory with its content, if it exists; no link is ever followed.

        Raises:
            LinkError: it is behind a link.
        """
        ...


class LocalFilesystem:
    """A directory on a POSIX file system. Content is synced before the name appears."""

    TEMPORARY_PREFIX = ".writing-"
    UNFINISHED_AFTER_S = 3600.0

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, path: str) -> bytes:
        with open(self._open(path), "rb") as file:
            return file.read()

    def read_each(self, read: Callable[[ItemT], ResultT], items: Iterable[ItemT]) -> Iterator[ResultT]:
        return map(read, items)

    def read_gathered(self, directory: str, paths: Collection[str]) -> Iterator[Mapping[str, bytes]]:
        return iter(())

    def gather(self, directory: str, name: str) -> None:
        return

    def has_content(self, path: str, sha256: str, num_bytes: int) -> bool:
        with open(self._open(path), "rb") as file:
            if os.fstat(file.fileno()).st_size != num_bytes:
                return False
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256

    def _open(self, path: str) -> int:
        """Return the descriptor of a file opened for reading; errors as `read`."""
        target = self._path(path)
        try:
            # Opening a pipe without a writer would block.
            descriptor = os.open(target, os.O_RDONLY | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError) as error:
            if isinstance(error, NotADirectoryError) and not self._root.is_dir():
                raise
            if target.is_symlink():
                raise NotAFileError(f"{target} is a broken link") from None
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(target)) from None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise NotAFileError(f"{target} is not a file ({error.strerror})") from None
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise NotAFileError(f"{target} is not a file")
        return descriptor

    def create(self, path: str, content: bytes) -> bool:
        temporary = self._write_temporary(path, content)
        try:
            is_created = name_exclusively(temporary, self._path(path))
        except NoExclusiveNameError as error:
            raise StorageError(str(error)) from None
        finally:
            temporary.unlink(missing_ok=True)
        if is_created:
            self._sync_parent(path)
        return is_created

    def replace(self, path: str, content: bytes) -> None:
        self._write_temporary(path, content).replace(self._path(path))
        self._sync_parent(path)

    def append(self, path: str, content: bytes) -> None:
        target = self._path(path)
        self._make_parent(target)
        descriptor = os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        with open(descriptor, "ab") as file:
            file.write(content)

    def read_appended(self, path: str) -> bytes:
        return self.read(path)

    def list(self, path: str) -> list[str]:
        try:
            names = os.listdir(self._path(path) if path else self._root)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            if error.errno == errno.ELOOP:
                return []
            raise
        return sorted(name for name in names if not is_foreign(name))

    def move(self, path: str, target: str) -> None:
        source, destination = self._path(path), self._path(target)
        self._make_parent(destination)
        try:
            source.rename(destination)
        except NotADirectoryError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(source)) from None
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self.replace(target, self.read(path))  # one of the two directories is a link to another disk
            source.unlink()

    def remove(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self._path(path).unlink()

    def remove_tree(self, path: str) -> None:
        delete_tree(self._root, check_path(path))

    def is_behind_link(self, path: str) -> bool:
        return is_behind_link(self._root, check_path(path))

    def count_bytes(self, path: str) -> int:
        return count_tree_bytes(self._root, check_path(path))

    def list_unfinished(self) -> Sequence[str]:
        earliest = time.time() - self.UNFINISHED_AFTER_S
        found = []
        for file in walk_files(self._root):
            with contextlib.suppress(FileNotFoundError):
                if file.name.startswith(self.TEMPORARY_PREFIX) and file.lstat().st_mtime < earliest:
                    found.append(str(file.relative_to(self._root)))
        return sorted(found)

    def _path(self, path: str) -> Path:
        return self._root / check_path(path)

    def _make_parent(self, target: Path) -> None:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise NoDirectoryError(
                f"{target.parent} is not a directory, and one is needed there; move the file away"
            ) from None

    def _write_temporary(self, path: str, content: bytes) -> Path:
        target = self._path(path)
        self._make_parent(target)
        temporary = target.parent / f"{self.TEMPORARY_PREFIX}{uuid.uuid4().hex}"
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            temporary.unlink(missing_ok=True)
            error.filename = str(target)  # write errors name no file
            raise
        return temporary

    def _sync_parent(self, path: str) -> None:
        descriptor = os.open(self._path(path).parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in _NO_SYNC:
                raise
        finally:
            os.close(descriptor)


class ReadOnlyFilesystem:
    """A read-only view of another place of files."""

    def __init__(self, files: ReadableFilesystem) -> None:
        self._files = files
        self.read = files.read
        self.read_each = files.read_each
        self.read_gathered = files.read_gathered
        self.has_content = files.has_content
        self.read_appended = files.read_appended
        self.list = files.list
        self.is_behind_link = files.is_behind_link
        self.count_bytes = files.count_bytes
        self.list_unfinished = files.list_unfinished

    def gather(self, directory: str, name: str) -> None:
        raise _refuse(directory)

    def create(self, path: str, content: bytes) -> bool:
        raise _refuse(path)

    def replace(self, path: str, content: bytes) -> None:
        raise _refuse(path)

    def append(self, path: str, content: bytes) -> None:
        raise _refuse(path)

    def move(self, path: str, target: str) -> None:
        raise _refuse(path)

    def remove(self, path: str) -> None:
        raise _refuse(path)

    def remove_tree(self, path: str) -> None:
        raise _refuse(path)


class FilesAtHand(ReadOnlyFilesystem):
    """A read-only view of another place of files, with some of them already read."""

    def __init__(self, files: Filesystem, contents: Mapping[str, bytes]) -> None:
        super().__init__(files)
        self.read = lambda path: contents[path] if path in contents else files.read(path)


def _refuse(path: str) -> ReadOnlyError:
    return ReadOnlyError(f"{path}: the store was opened read-only")
