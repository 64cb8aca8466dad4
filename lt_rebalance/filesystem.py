"""The few file operations that a store needs; one implementation a kind of place.

Writing is atomic: nobody ever sees a part of a file that was created or replaced.
"""

import errno
import os
import shutil
import stat
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class StorageError(OSError):
    """A place of files as a whole is of no use now: it refuses, or has not answered for longer than we wait.

    Neither is a fault of what was being written or read, and neither is mended by trying at once again.
    """


class Filesystem(Protocol):
    """Files under one root, named by relative POSIX paths. Parents are made as needed.

    All operations may raise an OSError, those of places at the other end of a network StorageError.
    """

    def read(self, path: str) -> bytes:
        """Return the content; FileNotFoundError when there is none, another OSError of what is no file."""
        ...

    def create(self, path: str, content: bytes) -> bool:
        """Write a file that must not exist yet, in one atomic step; False when it does."""
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

    def read_appended(self, path: str) -> bytes:
        """Return all that was appended to a path, in its order; FileNotFoundError when nothing was."""
        ...

    def list(self, path: str) -> list[str]:
        """Return the sorted names in a directory; empty when there is no such directory."""
        ...

    def move(self, path: str, target: str) -> None:
        """Rename a file; FileNotFoundError when there is none. It may be at both places for a moment."""
        ...

    def remove(self, path: str) -> None:
        """Delete a file if it exists."""
        ...

    def remove_tree(self, path: str) -> None:
        """Delete a file, or a directory with all that is in it, if it exists."""
        ...

    def count_bytes(self, path: str) -> int:
        """Return the size of a file, or of all files in a directory together; 0 when there is neither."""
        ...

    def list_unfinished(self) -> Sequence[str]:
        """Return the paths of writes that were begun at least an hour ago and have left a trace, sorted."""
        ...


class LocalFilesystem:
    """A directory on a POSIX file system. Content reaches the disk before its name does."""

    TEMPORARY_PREFIX = ".writing-"
    UNFINISHED_AFTER_S = 3600.0

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, path: str) -> bytes:
        full = self._root / path
        try:
            # Of a pipe that nobody writes to, opening without this flag would never return.
            descriptor = os.open(full, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            if full.is_symlink():
                raise OSError(errno.ELOOP, "a link that leads nowhere", str(full)) from None
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EISDIR, "not a file", str(full))
        with open(descriptor, "rb") as file:
            return file.read()

    def create(self, path: str, content: bytes) -> bool:
        temporary = self._write_temporary(path, content)
        try:
            # Unlike a rename, a link never replaces what is there: the first writer wins.
            os.link(temporary, self._root / path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        self._sync_parent(path)
        return True

    def replace(self, path: str, content: bytes) -> None:
        self._write_temporary(path, content).replace(self._root / path)
        self._sync_parent(path)

    def append(self, path: str, content: bytes) -> None:
        (self._root / path).parent.mkdir(parents=True, exist_ok=True)
        with (self._root / path).open("ab") as file:
            file.write(content)

    def read_appended(self, path: str) -> bytes:
        return self.read(path)

    def list(self, path: str) -> list[str]:
        try:
            names = os.listdir(self._root / path)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(name for name in names if not name.startswith(self.TEMPORARY_PREFIX))

    def move(self, path: str, target: str) -> None:
        (self._root / target).parent.mkdir(parents=True, exist_ok=True)
        (self._root / path).rename(self._root / target)

    def remove(self, path: str) -> None:
        (self._root / path).unlink(missing_ok=True)

    def remove_tree(self, path: str) -> None:
        target = self._root / path
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)

    def count_bytes(self, path: str) -> int:
        target = self._root / path
        inside = target.rglob("*") if target.is_dir() else [target]
        return sum(file.stat().st_size for file in inside if file.is_file())

    def list_unfinished(self) -> Sequence[str]:
        earliest = time.time() - self.UNFINISHED_AFTER_S
        found = self._root.rglob(f"{self.TEMPORARY_PREFIX}*")
        return sorted(str(file.relative_to(self._root)) for file in found if file.stat().st_mtime < earliest)

    def _write_temporary(self, path: str, content: bytes) -> Path:
        parent = (self._root / path).parent
        parent.mkdir(parents=True, exist_ok=True)
        temporary = parent / f"{self.TEMPORARY_PREFIX}{uuid.uuid4().hex}"
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        return temporary

    def _sync_parent(self, path: str) -> None:
        descriptor = os.open((self._root / path).parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
