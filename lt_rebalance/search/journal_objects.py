"""The journal of a search as numbered objects, for places whose files cannot grow or be locked.

Appending creates the object of the next number, and only one of two writers can. A process that opens the
journal creates one to announce itself; an earlier owner that is still alive then finds its next number taken,
and ends. The lease on the store (`lease`) prevents two live processes from opening it.
"""

import json
import os
import re
import socket
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from lt_rebalance.files.filesystem import Filesystem
from lt_rebalance.ground.errors import StorageError, StoreError
from lt_rebalance.ground.values import anything, fields, list_of, mapping_of, parse_json, text, whole

_NAME = re.compile(r"[0-9]{8,12}\.json")
OPERATION = fields({"op_code": whole()}, others=anything)
"""an operation that Optuna appends to a journal"""
_OBJECT = fields({"operations": list_of(mapping_of(anything))}, {"owner": text})


class ObjectJournal(BaseJournalBackend):
    """The operations of the journal of a search that this process owns.

    They are kept in memory as well, since no other process appends.
    """

    def __init__(self, files: Filesystem, search: str, directory: str) -> None:
        """Read all operations, and become the owner.

        Raises:
            ValueError: another process has become the owner just now.
        """
        self._files = files
        self._search = search
        self._directory = directory
        self._logs: list[dict[str, Any]] = []
        names = [name for name in files.list(directory) if _NAME.fullmatch(name)]
        paths = [f"{directory}/{name}" for name in names]
        for path, content in zip(paths, files.read_each(files.read, paths), strict=True):
            self._logs += _read_operations(path, content)
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
                f"search {self._search!r} has been taken over by another process; that process continues "
                "from what this one has written"
            )
        self._logs += json.loads(json.dumps(logs))  # as another process would read them

    def _create(self, document: dict[str, Any]) -> bool:
        path = f"{self._directory}/{self._next:08d}.json"
        is_ours = self._files.create(path, json.dumps(document, separators=(",", ":")).encode())
        self._next += is_ours
        return is_ours


def _read_operations(path: str, content: bytes) -> list[dict[str, Any]]:
    try:
        document = parse_json(content)
        _OBJECT(document)
    except ValueError as error:
        raise StoreError(
            f"{path} holds no operations of a journal ({error}); move the journal away and run the search "
            "again: finished stages of its trials are kept"
        ) from None
    operations: list[dict[str, Any]] = document["operations"]
    return operations


def describe_owned(search: str) -> str:
    """Return why a search cannot be opened now."""
    return (
        f"search {search!r} is being run by another process; wait for it, or give one of them another --name"
    )
