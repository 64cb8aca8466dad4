"""Which process wrote something into a store, and notes in it on who is at work.

A driver says in its note that it lives, its trials say how far they are: for people who watch, and for
nothing else. Whoever is killed leaves its note behind; such notes are told apart by the process, where it was
on this machine, or by the driver, whose signs of life have stopped.
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
"""seconds between two signs of life of a driver"""
STALE_S = 60.0
"""age of its last sign of life from which a driver on another machine counts as lost"""
DIRECTORY = "running"


PROCESS: dict[str, Shape] = {"host": text, "pid": whole(1, 2**31 - 1), "pid_space": text}
"""what a file has to say of a process"""


@functools.cache
def process_space() -> str:
    """Return what tells apart the process numbers of machines, of their boots and of their containers."""
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
        """Whether its end could be seen from here."""
        return (self.host, self.pid_space) == (socket.gethostname(), process_space())

    @property
    def has_died(self) -> bool:
        """Whether it is known to have ended; False of processes that cannot be seen from here."""
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
    """What someone at work says of itself. Times are seconds since 1970 by the writer's clock."""

    name: str
    """of its file; a second attempt at a stage writes over the note of the first"""
    title: str
    """the study of a driver, the stage of a trial"""
    keys: tuple[str, ...] = ()
    """the stages of a trial; none of a driver"""
    driver: str = ""
    """name of the driver's note, of a trial"""
    round: int = 0
    num_rounds: int = 0
    started_s: float = field(default_factory=time.time)
    beat_s: float = field(default_factory=time.time)
    """last sign of life"""

    def is_lost(self, now_s: float, live_drivers: Collection[str]) -> bool:
        """Whether its writer has died, as far as can be seen from here."""
        if self.is_visible:
            return self.has_died
        if self.driver:
            return self.driver not in live_drivers
        return now_s - self.beat_s > STALE_S


def write_note(files: Filesystem, note: Note) -> None:
    """Write a note, over an earlier one of its name."""
    files.replace(f"{DIRECTORY}/{note.name}", json.dumps(dataclasses.asdict(note)).encode())


def remove_note(files: Filesystem, note: Note) -> None:
    """Delete a note if it exists."""
    files.remove(f"{DIRECTORY}/{note.name}")


def read_notes(files: Filesystem) -> list[Note]:
    """Return all notes, under the names of their files, those of the lost among them; no others are told."""
    notes = []
    names = files.list(DIRECTORY)
    for name, content in zip(names, files.read_each(functools.partial(_read, files), names), strict=True):
        with contextlib.suppress(ValueError):
            values = as_object(parse_json(content)) | {"name": name}
            _NOTE(values)
            notes.append(Note(**{**values, "keys": tuple(values.get("keys", ()))}))
    return notes


def _read(files: Filesystem, name: str) -> bytes:
    """Return a note's content; nothing of one that is gone or no file."""
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
    """A driver's signs of life, from entering to leaving a `with` block."""

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
        """Give a sign of life, if the last one is long enough ago; StorageError when there is no store."""
        now = time.monotonic()
        if now - self._last >= BEAT_S:
            self._last = now
            try:
                write_note(self._files, dataclasses.replace(self.note, beat_s=time.time()))
            except StorageError:  # without the store, nothing that this driver runs can be kept
                raise
            except OSError:  # the next one may come through, and nothing depends on it
                pass
