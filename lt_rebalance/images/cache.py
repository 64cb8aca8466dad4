"""Prepared arrays on this machine's disk: a private directory, addressed by content, compared when read.

In `$LT_REBALANCE_CACHE_DIR`, else `$XDG_CACHE_HOME`, else `~/.cache`: `lt_rebalance/sets/IDENTITY/*.npy` are
the arrays of a set, and `lt_rebalance/sources/KEY.json` records which set a location gave for which state of
its files. All of it may be deleted; it is made again.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import stat
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.ground.errors import DataError
from lt_rebalance.images.arrangement import ArrangedSplit, identify
from lt_rebalance.images.pool import SPLITS

CACHE_DIR_VARIABLE = "LT_REBALANCE_CACHE_DIR"
"""Environment variable: where prepared arrays are kept, in a private directory of its own."""
_UNFINISHED = ".writing-"
_DAMAGED = ".damaged-"
_LEFT_AFTER_S = 86_400.0
_TRIES = 3
_IS_THERE = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
_log = logging.getLogger(__name__)


class Cache:
    """The prepared sets of one user on one machine."""

    def __init__(self) -> None:
        """Make the directory, which no other user can enter, if it does not exist.

        Raises:
            DataError: it cannot be made, or belongs to another user.
        """
        self._root = _locate()
        try:
            for directory in (self._root, self._root / "sets", self._root / "sources"):
                directory.mkdir(mode=0o700, parents=directory == self._root, exist_ok=True)
                _require_private(directory)
        except OSError as error:
            raise _cannot_be_written(self._root, error) from None

    @contextlib.contextmanager
    def preparing(self, key: str) -> Iterator[None]:
        """Lock a location against other processes of this user that would prepare it."""
        path = self._root / "sources" / f"{key}.lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise _cannot_be_written(self._root, error) from None
        try:
            with contextlib.suppress(OSError):  # a disk without locks: both prepare, the first to finish wins
                _lock(descriptor)
            yield
        finally:
            os.close(descriptor)

    def read_source(self, key: str, fingerprint: str) -> dict[str, Any] | None:
        """Return what is recorded of a location whose files have not changed, or None."""
        try:
            document = json.loads((self._root / "sources" / f"{key}.json").read_bytes())
            content = document["content"]
            is_whole = document["sha256"] == _seal(content) and content["fingerprint"] == fingerprint
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return dict(content) if is_whole else None

    def write_source(self, key: str, content: Mapping[str, Any]) -> None:
        """Record what is known of a location."""
        document = json.dumps({"content": content, "sha256": _seal(content)}).encode()
        target = self._root / "sources" / f"{key}.json"
        temporary = target.with_name(f"{_UNFINISHED}{uuid.uuid4().hex}")
        try:
            _write(temporary, document)
            temporary.replace(target)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise _cannot_be_written(self._root, error) from None

    def read_set(self, identity: str) -> dict[str, ArrangedSplit] | None:
        """Return the splits of a set, mapped into memory; None if it is not there or damaged.

        All pixels are read once to check this. Changes of the arrays stay in this process.
        """
        folder = self._root / "sets" / identity
        try:
            splits = {
                split: _read_split(folder, split)
                for split in SPLITS
                if (folder / f"{split}_labels.npy").exists()
            }
            return splits if splits and identify(splits) == identity else None
        except (OSError, ValueError, EOFError, TypeError, AttributeError):
            return None

    def write_set(self, identity: str, splits: Mapping[str, ArrangedSplit]) -> None:
        """Store a set in one atomic step; a damaged one of its name is replaced."""
        sets = self._root / "sets"
        temporary = sets / f"{_UNFINISHED}{uuid.uuid4().hex}"
        try:
            temporary.mkdir(mode=0o700)
            for split, arranged in splits.items():
                for part, array in arranged.parts().items():
                    _write_array(temporary / f"{split}_{part}.npy", array)
            self._name_set(temporary, sets / identity)
        except OSError as error:
            raise _cannot_be_written(self._root, error) from None
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _name_set(self, temporary: Path, target: Path) -> None:
        """Rename a finished set to its name, unless another process was faster."""
        for _ in range(_TRIES):
            try:
                temporary.rename(target)
                return
            except OSError as error:
                if error.errno not in _IS_THERE:
                    raise
            if self.read_set(target.name) is not None:
                return
            aside = target.with_name(f"{_DAMAGED}{uuid.uuid4().hex}")
            with contextlib.suppress(FileNotFoundError):  # another process was faster here
                target.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
        raise DataError(f"{target} is damaged again and again by others; remove it")

    def remove_left_overs(self) -> None:
        """Remove leftovers of killed processes."""
        earliest = time.time() - _LEFT_AFTER_S
        for path in (self._root / "sets").iterdir():
            with contextlib.suppress(OSError):
                if path.name.startswith((_UNFINISHED, _DAMAGED)) and path.lstat().st_mtime < earliest:
                    shutil.rmtree(path)


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _log.warning("another process prepares these images; waiting for it")
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _locate() -> Path:
    named = os.environ.get(CACHE_DIR_VARIABLE) or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        parent = Path(named).expanduser()
    except RuntimeError:
        raise DataError(
            f"no home is known of this user to keep prepared images in; let {CACHE_DIR_VARIABLE} name a "
            "directory"
        ) from None
    return parent.absolute() / "lt_rebalance"


def _require_private(directory: Path) -> None:
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise DataError(
            f"prepared images are kept in a directory of this user alone, got {directory}, which is another "
            f"user's or not a directory; move it away, or let {CACHE_DIR_VARIABLE} name a directory of yours"
        )
    if stat.S_IMODE(status.st_mode) != 0o700:
        directory.chmod(0o700)


def _cannot_be_written(root: Path, error: OSError) -> DataError:
    return DataError(
        f"prepared images cannot be kept in {root} ({error.strerror}); make room, or let "
        f"{CACHE_DIR_VARIABLE} name a directory of yours on another disk"
    )


def _seal(content: Any) -> str:  # Any: a JSON value
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read_split(folder: Path, split: str) -> ArrangedSplit:
    arrays = {}
    for part in ("images", "labels", "groups"):
        path = folder / f"{split}_{part}.npy"
        if part != "groups" or path.exists():
            # Copy on write: torch wants arrays that may be written, and the files must stay as they are.
            arrays[part] = np.load(path, mmap_mode="c", allow_pickle=False)
    images, labels, groups = arrays["images"], arrays["labels"], arrays.get("groups")
    if (
        images.dtype != np.uint8
        or images.ndim != 4
        or any(
            each.dtype != np.int64 or each.shape != images.shape[:1]
            for each in (labels, groups)
            if each is not None
        )
    ):
        raise ValueError("arrays of another type or shape")
    return ArrangedSplit(images_NCHW=images, labels_N=labels, groups_N=groups)


def _write(path: Path, content: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _write_array(path: Path, array: NDArray[Any]) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
