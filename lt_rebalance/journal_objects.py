"""The journal of a search as numbered objects, for places whose files cannot grow or be locked.

Appending creates the object of the next number, which only one of two writers can. Whoever opens the journal
creates one that says so; an earlier owner that still lives then finds its next number taken, and ends.
"""

import contextlib
import dataclasses
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from lt_rebalance.filesystem import Filesystem, StorageError
from lt_rebalance.notes import BEAT_S, Note, read_notes, remove_note, write_note

WATCHED_S = 3 * BEAT_S
"""how long an owner on another machine may give no sign of life before it counts as lost"""
_LOOK_EVERY_S = 1.0
_READERS = 16


class ObjectJournal(BaseJournalBackend):
    """What Optuna appends to the journal of a search that this process owns. Use `own_journal`.

    All operations are kept in memory as well: nobody else appends.
    """

    def __init__(self, files: Filesystem, search: str, directory: str) -> None:
        """Read what is there, and become the owner.

        Raises:
            ValueError: another process has become it just now.
        """
        self._files = files
        self._search = search
        self._directory = directory
        self._logs: list[dict[str, Any]] = []
        names = files.list(directory)
        with ThreadPoolExecutor(_READERS) as readers:
            for content in readers.map(files.read, [f"{directory}/{name}" for name in names]):
                self._logs += json.loads(content)["operations"]
        self._next = 1 + int(names[-1].partition(".")[0]) if names else 0
        if not self._create({"owner": f"{socket.gethostname()}, process {os.getpid()}", "operations": []}):
            raise ValueError(describe_owned(search))

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        """Return the operations from a number on."""
        return self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append operations.

        Raises:
            StorageError: another process has become the owner.
        """
        if not self._create({"operations": logs}):
            raise StorageError(
                f"search {self._search!r} has been taken over by another process; what this one had not "
                "written yet is left to that one"
            )
        self._logs += json.loads(json.dumps(logs))  # as another process would read them

    def _create(self, document: dict[str, Any]) -> bool:
        path = f"{self._directory}/{self._next:08d}.json"
        is_ours = self._files.create(path, json.dumps(document, separators=(",", ":")).encode())
        self._next += is_ours
        return is_ours


@contextlib.contextmanager
def own_journal(files: Filesystem, search: str, directory: str) -> Iterator[ObjectJournal]:
    """Own the journal of a search in a directory, and give signs of life, until the block ends.

    Raises:
        ValueError: another process owns it and lives.
    """
    title = f"search {search}"
    for note in read_notes(files):
        if note.title == title and _is_at_work(files, note):
            raise ValueError(describe_owned(search))
    name = f"search-{search}-{socket.gethostname()}-{os.getpid()}.json"
    journal = ObjectJournal(files, search, directory)
    with _SignsOfLife(files, Note(name=name, title=title)):
        yield journal


def describe_owned(search: str) -> str:
    """Return why a search cannot be opened now."""
    return f"search {search!r} is being run by another process; wait for it, or give one --name"


def _is_at_work(files: Filesystem, note: Note) -> bool:
    """Whether the writer of a note lives; of one on another machine, whether it gives a sign of life now.

    Clocks of machines differ, so that only what changes under one's eyes is taken for a sign.
    """
    if note.is_local:
        return not note.is_lost(time.time(), ())
    deadline = time.monotonic() + WATCHED_S
    while time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY_S)
        found = [each for each in read_notes(files) if each.name == note.name]
        if not found:  # it has ended
            return False
        if found[0].beat_s != note.beat_s:
            return True
    return False


class _SignsOfLife:
    """Writes a note again and again, whatever this process is busy with, within a `with` block."""

    def __init__(self, files: Filesystem, note: Note) -> None:
        self._files = files
        self._note = note
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> None:
        write_note(self._files, self._note)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join(BEAT_S)  # no longer: the place may not answer
        with contextlib.suppress(OSError):  # whoever reads it sees that its writer has died
            remove_note(self._files, self._note)

    def _beat(self) -> None:
        while not self._is_over.wait(BEAT_S):
            with contextlib.suppress(OSError):  # the next one may come through
                write_note(self._files, dataclasses.replace(self._note, beat_s=time.time()))
