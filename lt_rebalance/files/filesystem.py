"""The few file operations that a store needs; one implementation a kind of place.

Writing is atomic: nobody ever sees a part of a file that was created or replaced.
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
from lt_rebalance.ground.errors import NoDirectoryError, NotAFileError, ReadOnlyError, StorageError
from lt_rebalance.ground.names import is_foreign

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""what a disk answers that cannot be asked to write down a directory at once"""


def check_path(path: str) -> str:
    """Return a path that leads to something below its root.

    Raises:
        ValueError: it does not, whatever lies there.
    """
    if any(part in ("", ".", "..") or "\0" in part for part in path.split("/")):
        raise ValueError(
            f"{path!r} is no path in a store: each of its parts must be a name, and none of them '..'"
        )
    return path


class ReadableFilesystem(Protocol):
    """Files under one root that can be read, named by relative POSIX paths.

    A path that would lead out of the root is a ValueError. All operations may raise an OSError, those of
    places at the other end of a network StorageError.
    """

    def read(self, path: str) -> bytes:
        """Return the content; FileNotFoundError when nothing is there, NotAFileError when no file is."""
        ...

    def read_each(self, read: Callable[[ItemT], ResultT], items: Iterable[ItemT]) -> Iterator[ResultT]:
        """Yield what some reading here returns or raises for each item, in their order.

        Where answers are waited for it is done for many items at a time, by threads, and for some of them
        twice; so it must change nothing.
        """
        ...

    def read_gathered(self, directory: str, paths: Collection[str]) -> Iterator[Mapping[str, bytes]]:
        """Yield the content of files as they now are, by path, as far as it costs less than by `read`.

        Args:
            directory: what the paths lie in.
        """
        ...

    def has_content(self, path: str, sha256: str, num_bytes: int) -> bool:
        """Whether a file has this content, by the sha256 that the place keeps of it or else by reading it.

        Errors as `read`.
        """
        ...

    def read_appended(self, path: str) -> bytes:
        """Return all that was appended to a path, in its order; FileNotFoundError when nothing was."""
        ...

    def list(self, path: str) -> list[str]:
        """Return the sorted names in a directory, without foreign ones; empty when there is no directory."""
        ...

    def is_behind_link(self, path: str) -> bool:
        """Whether a directory on the way to a path is a link, so that what it names lies elsewhere."""
        ...

    def count_bytes(self, path: str) -> int:
        """Return the size of a file, or of all files in a directory together; no link is followed.

        0 when there is neither.
        """
        ...

    def list_unfinished(self) -> Sequence[str]:
        """Return the paths of writes that were begun at least an hour ago and have left a trace, sorted."""
        ...


class Filesystem(ReadableFilesystem, Protocol):
    """Files that can be changed, too. Parents are made as needed."""

    def gather(self, directory: str, name: str) -> None:
        """Let `read_gathered` have all files of a name in a directory, and below it, where that helps."""
        ...

    def create(self, path: str, content: bytes) -> bool:
        """Write a file, in one atomic step, where nothing is yet; False when anything is, also no file."""
        ...

    def replace(self, path: str, content: bytes) -> None:
        """Write a file in one atomic step, over an existing one if need be."""
        ...

    def append(self, path: str, content: bytes) -> None:
        """Add to the end of a file, made if need be; the one operation that is neither atomic nor durable.

        For views and logs only. A place whose files cannot grow puts each addition into a further file whose
        name begins with the path.
        """
        ...

    def move(self, path: str, target: str) -> None:
        """Rename what has a name, a link as itself; FileNotFoundError when nothing has.

        It may be at both places for a moment.
        """
        ...

    def remove(self, path: str) -> None:
        """Delete a file that `create` or `replace` has written, if it exists."""
        ...

    def remove_tree(self, path: str) -> None:
        """Delete a file, or a directory with all that is in it, if it exists; no link is ever followed.

        Raises:
            LinkError: it lies behind a link.
        """
        ...


class LocalFilesystem:
    """A directory on a POSIX file system. Content reaches the disk before its name does."""

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
        """Return the descriptor of a file that is open to be read; errors as `read`."""
        target = self._path(path)
        try:
            # A pipe that nobody writes to would be waited for.
            descriptor = os.open(target, os.O_RDONLY | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError) as error:
            if isinstance(error, NotADirectoryError) and not self._root.is_dir():
                raise
            if target.is_symlink():
                raise NotAFileError(f"{target} is a link that leads nowhere") from None
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(target)) from None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise NotAFileError(f"{target} is no file ({error.strerror})") from None
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise NotAFileError(f"{target} is no file")
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
                f"{target.parent} is no directory, and one is needed there; move away what has its name"
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
            error.filename = str(target)  # a write says of no file that it was refused
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
    """Another place of files, of which nothing can be changed through this."""

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
    """Another place of files, of which some have been read and nothing can be changed through this."""

    def __init__(self, files: Filesystem, contents: Mapping[str, bytes]) -> None:
        super().__init__(files)
        self.read = lambda path: contents[path] if path in contents else files.read(path)


def _refuse(path: str) -> ReadOnlyError:
    return ReadOnlyError(f"{path}: the store was opened to be read, and nothing in it may be changed")
