"""A published study: all files of a store in one read-only zip archive.

    SHA256SUMS      sha256 and name of the folder's other files and of the report's, for `sha256sum -c`
    store.zip       the files of a store under the paths that they have there

Equal files give equal bytes of the archive wherever zlib is the same. Nothing is ever unpacked to a disk, and
never more than the archive declares.
"""

import contextlib
import errno
import fcntl
import hashlib
import io
import os
import re
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from lt_rebalance.files.filesystem import LocalFilesystem, check_path
from lt_rebalance.files.trees import delete_tree, walk_files
from lt_rebalance.ground.errors import NotAFileError
from lt_rebalance.ground.names import is_foreign
from lt_rebalance.ground.text import format_bytes

ARCHIVE = "store.zip"
CHECKSUMS = "SHA256SUMS"
MOST_BYTES = 60_000_000
"""limit for a published study in a repository"""
_MOST_BYTES_OF_A_FILE = 2**28
_MOST_UNPACKED_BYTES = 2**31
_MOST_FILES = 500_000
_MOST_PARTS = 10
"""of a path; those of a store have up to 8"""
_MOST_CHECKSUM_BYTES = 10_000_000
MAKING = ".publishing-"
"""beginning of the name of a directory in which the new files of a folder are made"""
_REPLACED = "-replaced"
_LEFT = re.compile(rf"{re.escape(MAKING)}[a-z0-9_]{{8}}({_REPLACED})?")
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""the earliest time in a zip archive: times of files are not part of the content"""
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, struct.error, NotImplementedError, OSError, ValueError)

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def write_archive(contents: Mapping[str, bytes]) -> bytes:
    """Return the archive of files, by path; equal for equal files in any order."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(contents):
            entry = zipfile.ZipInfo(check_path(path), _EPOCH)
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, contents[path], zipfile.ZIP_DEFLATED, compresslevel=9)
    return file.getvalue()


def write_checksums(contents: Mapping[str, bytes]) -> bytes:
    """Return one line per file with its sha256 and its name; a ValueError for a name that breaks lines."""
    if unfit := [name for name in contents if not name.isprintable()]:
        raise ValueError(f"{CHECKSUMS} cannot have the name {unfit[0]!r}; rename that file")
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in contents.items()]
    return "".join(sorted(lines, key=lambda line: line[64:])).encode()


def is_published(root: Path) -> bool:
    """Whether a directory is that of a published study, and not a store itself."""
    # Unlike Path.exists, this is false, and no error, where a directory on the way cannot be entered.
    return os.path.exists(root / ARCHIVE) and not os.path.exists(root / "store.json")


def require_outside(option: str, path: str) -> None:
    """Raise a ValueError for a file or folder in a store or in a published study, or one of these itself.

    Args:
        option: its name, for the error.
    """
    here = Path(path).resolve()
    for each in (here, *here.parents):
        held = [name for name in ("store.json", ARCHIVE, CHECKSUMS) if os.path.exists(each / name)]
        if "store.json" in held or held == [ARCHIVE, CHECKSUMS]:  # a lone archive makes no published study
            raise ValueError(
                f"{option} {path} is in {each}, a store or a published study, which sweeps and publish alone "
                "write; name another place"
            )


def write_all_checksums(made: Path, folder: Path) -> int:
    """Write the checksums of all files of a folder, and return their total bytes.

    Args:
        made: a directory with the new files of the folder, to which the checksums are added.

    Raises:
        ValueError: more than a repository should hold.
    """
    kept = {path.name: path for path in folder.iterdir() if path.is_file() and not is_foreign(path.name)}
    new = {path.relative_to(made).as_posix(): path for path in walk_files(made)}
    paths = {name: path for name, path in (kept | new).items() if name.rpartition("/")[2] != CHECKSUMS}
    contents: dict[str, bytes] = {name: path.read_bytes() for name, path in paths.items()}
    checksums = write_checksums(contents)
    num_bytes = sum(map(len, contents.values())) + len(checksums)
    if num_bytes > MOST_BYTES:
        raise ValueError(
            f"{folder} would have {format_bytes(num_bytes)}, and a published study has at most "
            f"{format_bytes(MOST_BYTES)}; publish it as several studies"
        )
    (made / CHECKSUMS).write_bytes(checksums)
    return num_bytes


@contextlib.contextmanager
def open_to_publish(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """Open a new directory in a folder, for its new files; meanwhile no other process can do so.

    What a killed process left in the folder is put back or deleted first.

    Args:
        names: of the files and directories that are to be replaced.

    Raises:
        ValueError: another process is at work there, or what would be replaced is not as it was published.
    """
    holder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _hold(holder, folder)
        restore_published(folder, names)
        require_replaceable(folder, names)
        with tempfile.TemporaryDirectory(prefix=MAKING, dir=folder, ignore_cleanup_errors=True) as made:
            yield Path(made)
    finally:
        os.close(holder)


def _hold(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(f"another process publishes to {folder}; wait for its end") from None
    except OSError:  # file systems of a network may have no locks of directories
        pass


def require_replaceable(folder: Path, names: Iterable[str]) -> None:
    """Raise a ValueError if a file of these names, or in such a directory, is not as it was published."""
    stated = _read_checksums_of(folder)
    for path in _list_files(folder, names):
        if not _is_as_stated(path, folder, stated):
            raise ValueError(
                f"{path} is not as it was published, and would be replaced; restore it, or move it away"
            )


def _read_checksums_of(folder: Path) -> dict[str, str]:
    with contextlib.suppress(FileNotFoundError):
        return _read_checksums((folder / CHECKSUMS).read_bytes())
    return {}


def _list_files(folder: Path, names: Iterable[str]) -> Iterator[Path]:
    for name in names:
        found = [folder / name] if (folder / name).is_file() else walk_files(folder / name)
        yield from (path for path in found if not is_foreign(path.name))


def _is_as_stated(path: Path, folder: Path, stated: Mapping[str, str]) -> bool:
    return hashlib.sha256(path.read_bytes()).hexdigest() == stated.get(path.relative_to(folder).as_posix())


def replace_published(made: Path, folder: Path, names: Sequence[str]) -> None:
    """Move files and directories into a folder; if that fails, the folder is as it was before.

    A kill meanwhile leaves the old ones in a directory beside them; `restore_published` undoes the rest.

    Args:
        made: a directory in the folder, which has them and can be deleted afterwards.
        names: in this order. Checksums are away meanwhile and come last, so that nobody reads a mixture.
    """
    old, every = folder / f"{made.name}{_REPLACED}", (*names, CHECKSUMS)
    old.mkdir()
    try:
        for name in reversed(every):
            if os.path.lexists(folder / name):
                os.rename(folder / name, old / name)
        for name in every:
            os.rename(made / name, folder / name)
    except BaseException:
        _put_back(made, folder, every)
        raise
    with contextlib.suppress(OSError):  # something in it cannot be deleted; the new files are in place
        delete_tree(folder, old.name)


def _put_back(made: Path, folder: Path, names: Sequence[str]) -> None:
    old = folder / f"{made.name}{_REPLACED}"
    for name in names:
        if os.path.lexists(folder / name) and not os.path.lexists(made / name):
            os.rename(folder / name, made / name)
        if os.path.lexists(old / name):
            os.rename(old / name, folder / name)
    old.rmdir()


def restore_published(folder: Path, names: Sequence[str]) -> None:
    """Undo a replacement that was killed, and delete what killed commands have left in a folder.

    Args:
        names: as `replace_published` got them.

    Raises:
        ValueError: something was put into the folder since, or changed there.
    """
    left = [path for path in folder.iterdir() if _LEFT.fullmatch(path.name) and not path.is_symlink()]
    for made in left:
        old = folder / f"{made.name}{_REPLACED}"
        is_undone = os.path.lexists(made / CHECKSUMS) and not os.path.lexists(folder / CHECKSUMS)
        if old in left and is_undone:  # checksums are moved last
            _require_untouched(made, old, folder, names)
            _put_back(made, folder, (*names, CHECKSUMS))
    for path in left:
        if path.name.endswith(_REPLACED) and path.exists() and any(path.iterdir()):
            if not os.path.lexists(folder / CHECKSUMS):
                continue
            _require_whole(folder, names, path)
        delete_tree(folder, path.name)


def _require_untouched(made: Path, old: Path, folder: Path, names: Sequence[str]) -> None:
    """Raise a ValueError if there is something in a folder that a killed replacement did not leave there."""
    waiting = [name for name in names if os.path.lexists(made / name)]
    came = [folder / name for name in waiting if os.path.lexists(old / name)]
    stated = _read_checksums_of(made)
    came += [
        path
        for path in _list_files(folder, {*names}.difference(waiting))
        if not _is_as_stated(path, folder, stated)
    ]
    if found := [path for path in came if os.path.lexists(path)]:
        raise ValueError(
            f"{found[0]} came there after a publish that was killed, and {old} has what was there before; "
            "move the first away"
        )


def _require_whole(folder: Path, names: Sequence[str], old: Path) -> None:
    """Raise a ValueError unless files of these names are as they were published, and all there."""
    stated = _read_checksums_of(folder)
    listed = {folder / name for name in stated if name.partition("/")[0] in names}
    for path in sorted(listed.union(_list_files(folder, names))):
        if not path.is_file() or not _is_as_stated(path, folder, stated):
            raise ValueError(
                f"{path} is not as it was published, and {old} has what a publish that was killed replaced; "
                "restore the first, or move both away"
            )


def read_published(root: Path) -> "ArchiveFiles":
    """Return the files of a published study.

    Raises:
        ValueError: it is not the published archive, or not an archive.
        OSError: it cannot be read.
    """
    files = LocalFilesystem(root)
    for name, most in {ARCHIVE: MOST_BYTES, CHECKSUMS: _MOST_CHECKSUM_BYTES}.items():
        if (num_bytes := files.count_bytes(name)) > most:
            raise ValueError(f"{name} has {num_bytes:,} bytes, and may have {most:,}")
    try:
        stated = _read_checksums(files.read(CHECKSUMS))
    except FileNotFoundError:
        raise ValueError(f"{CHECKSUMS} is missing, which has the checksum of {ARCHIVE}") from None
    content = files.read(ARCHIVE)
    found = hashlib.sha256(content).hexdigest()
    if found != stated.get(ARCHIVE):
        said = f"{ARCHIVE} is not the one that was published: its sha256 is {found}"
        raise ValueError(f"{said}, {CHECKSUMS} says {stated.get(ARCHIVE, 'nothing')}")
    return ArchiveFiles(content)


def _read_checksums(content: bytes) -> dict[str, str]:
    lines = [_LINE.fullmatch(line) for line in content.decode(errors="replace").splitlines()]
    if None in lines:
        raise ValueError(f"{CHECKSUMS} is damaged: a line is not a sha256, two spaces and a name; restore it")
    return {line.group(2): line.group(1) for line in lines if line is not None}


class ArchiveFiles:
    """The files of an archive; a `ReadableFilesystem`."""

    def __init__(self, content: bytes) -> None:
        """Read the archive's list of files.

        Raises:
            ValueError: not a zip archive, or not one of a store: a name leads out of it, occurs twice or
                is too deep, or it is too large.
        """
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(content))
        except _DAMAGE as error:
            raise ValueError(f"it is not a readable zip archive: {error}") from None
        entries = self._archive.infolist()
        if len(entries) > _MOST_FILES or sum(each.file_size for each in entries) > _MOST_UNPACKED_BYTES:
            most = f"{_MOST_FILES:,} files, or {_MOST_UNPACKED_BYTES:,} bytes"
            raise ValueError(f"it declares more than {most}")
        self._entries = {check_path(each.filename): each for each in entries}
        if len(self._entries) < len(entries):
            raise ValueError("it holds a file twice")
        for path, each in self._entries.items():
            if path.count("/") >= _MOST_PARTS:  # before its directories are listed
                start = path if len(path) <= 40 else f"{path[:40]}..."
                raise ValueError(f"{start} in it has more than {_MOST_PARTS} names, one in another")
            if each.flag_bits & _ENCRYPTED or each.compress_type not in _COMPRESSIONS:
                raise ValueError(f"{path} in it is encrypted, or compressed by a method other than deflate")
            if each.file_size > _MOST_BYTES_OF_A_FILE:
                raise ValueError(f"{path} in it would have {each.file_size:,} bytes")
        self._directories: dict[str, set[str]] = {"": set()}
        for path in self._entries:
            parts = path.split("/")
            for depth, name in enumerate(parts):
                self._directories.setdefault("/".join(parts[:depth]), set()).add(name)
        if both := self._directories.keys() & self._entries.keys():
            raise ValueError(f"{min(both)} in it is both a file and a directory")

    def read(self, path: str) -> bytes:
        entry = self._entries.get(check_path(path))
        if entry is None:
            if path in self._directories:
                raise NotAFileError(f"{path} is not a file")
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        try:
            with self._archive.open(entry) as file:
                # Never unpack all at the same time: that could exceed the size that the archive declares.
                content = file.read(entry.file_size)
        except _DAMAGE as error:
            raise NotAFileError(f"{path} cannot be unpacked: {error}") from None
        if len(content) != entry.file_size:
            raise NotAFileError(f"{path} cannot be unpacked: it ends too early")
        return content

    def has_role(self, role: str) -> bool:
        """Whether it has an artefact of a role."""
        return any(path.rpartition("/")[2].startswith(f"{role}-") for path in self._entries)

    def read_each(self, read: Callable[[ItemT], ResultT], items: Iterable[ItemT]) -> Iterator[ResultT]:
        return map(read, items)

    def read_gathered(self, directory: str, paths: Collection[str]) -> Iterator[Mapping[str, bytes]]:
        return iter(())

    def has_content(self, path: str, sha256: str, num_bytes: int) -> bool:
        content = self.read(path)
        return len(content) == num_bytes and hashlib.sha256(content).hexdigest() == sha256

    def read_appended(self, path: str) -> bytes:
        return self.read(path)

    def list(self, path: str) -> list[str]:
        return sorted(name for name in self._directories.get(path, ()) if not is_foreign(name))

    def is_behind_link(self, path: str) -> bool:
        return False

    def count_bytes(self, path: str) -> int:
        entries = self._entries.items()
        return sum(each.file_size for name, each in entries if name == path or name.startswith(f"{path}/"))

    def list_unfinished(self) -> Sequence[str]:
        return ()
