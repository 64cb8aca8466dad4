"""Identity of processes that write to a store, and their notes on work in progress.

The note of a main process has its heartbeats, those of trials their progress: only for people who watch. A
killed process leaves its note behind. Such notes are recognised by the process, if it ran on this machine, or
by the main process, whose heartbeats have stopped.
"""

import contextlib
import dataclasses
import functools
import json
import os
import socket
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from lt_rebalance.files.filesystem import Filesystem
from lt_rebalance.ground.errors import StorageError
from lt_rebalance.ground.values import (
    LARGEST_S,
    Shape,
    as_object,
    digest,
    fields,
    list_of,
    number,
    parse_json,
    text,
    whole,
)
from lt_rebalance.ground.values import name as name_shape

BEAT_S = 10.0
"""seconds between heartbeats of a main process"""
STALE_S = 60.0
"""a main process on another machine counts as lost when its last heartbeat is this old"""
DIRECTORY = "running"
PROCESS: dict[str, Shape] = {"host": text, "pid": whole(1, 2**31 - 1), "pid_space": text}
"""shape of the description of a process in a file"""


@functools.cache
def process_space() -> str:
    """Return an id of this machine, boot and container, within which process numbers are unique."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return ""


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process of some machine."""

    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    pid_space: str = field(default_factory=process_space)

    @property
    def is_visible(self) -> bool:
        """Whether its end would be visible from here."""
        return (self.host, self.pid_space) == (socket.gethostname(), process_space())

    @property
    def has_died(self) -> bool:
        """Whether it is known to have ended; False for processes that are not visible from here."""
        return self.is_visible and not _is_alive(self.pid)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # someone else's
        return True
    return True


@dataclass(frozen=True, kw_only=True)
class Note(Process):
    """A process's note on its work. Times are seconds since 1970 by the writer's clock."""

    name: str
    """of its file; a second attempt at a stage replaces the note of the first"""
    title: str
    """the study of a main process, the stage of a trial"""
    keys: tuple[str, ...] = ()
    """the stages of a trial; none for a main process"""
    driver: str = ""
    """name of the main process's note, for a trial"""
    round: int = 0
    num_rounds: int = 0
    started_s: float = field(default_factory=time.time)
    beat_s: float = field(default_factory=time.time)
    """last heartbeat"""

    def is_lost(self, now_s: float, live_drivers: Collection[str]) -> bool:
        """Whether its writer has died, as far as is visible from here."""
        if self.is_visible:
            return self.has_died
        if self.driver:
            return self.driver not in live_drivers
        return now_s - self.beat_s > STALE_S


def write_note(files: Filesystem, note: Note) -> None:
    """Write a note, replacing an earlier one of its name."""
    files.replace(f"{DIRECTORY}/{note.name}", json.dumps(dataclasses.asdict(note)).encode())


def remove_note(files: Filesystem, note: Note) -> None:
    """Delete a note if it exists."""
    files.remove(f"{DIRECTORY}/{note.name}")


def read_notes(files: Filesystem) -> list[Note]:
    """Return all notes by file name, including those of lost processes; ignore other files."""
    notes = []
    names = files.list(DIRECTORY)
    for name, content in zip(names, files.read_each(functools.partial(_read, files), names), strict=True):
        with contextlib.suppress(ValueError):
            values = as_object(parse_json(content)) | {"name": name}
            _NOTE(values)
            notes.append(Note(**{**values, "keys": tuple(values.get("keys", ()))}))
    return notes


def _read(files: Filesystem, name: str) -> bytes:
    """Return a note's content; nothing if it is missing or not a file."""
    try:
        return files.read(f"{DIRECTORY}/{name}")
    except StorageError:
        raise
    except OSError:
        return b""


_SECONDS = number(0, LARGEST_S)
_NOTE = fields(
    {**PROCESS, "name": name_shape, "title": text},
    {
        "keys": list_of(digest),
        "driver": text,
        "round": whole(),
        "num_rounds": whole(),
        "started_s": _SECONDS,
        "beat_s": _SECONDS,
    },
)


class DriverBeat:
    """Heartbeats of a main process, from entering to leaving a `with` block."""

    def __init__(self, files: Filesystem, study: str) -> None:
        self._files = files
        name = f"driver-{socket.gethostname()}-{os.getpid()}.json"
        self.note = Note(name=name, title=study)
        self._last = time.monotonic()

    def __enter__(self) -> "DriverBeat":
        write_note(self._files, self.note)
        return self

    def __exit__(self, *_: object) -> None:
        remove_note(self._files, self.note)

    def beat(self) -> None:
        """Give a heartbeat, if the last one is long enough ago; StorageError if there is no store."""
        now = time.monotonic()
        if now - self._last >= BEAT_S:
            self._last = now
            try:
                write_note(self._files, dataclasses.replace(self.note, beat_s=time.time()))
            except StorageError:  # without the store, no result of this process can be stored
                raise
            except OSError:  # the next one may succeed, and nothing depends on it
                pass
