"""The log of each main process that works on a study: its command and its estimates of the time left.

    sessions/<study>.jsonl      one line at the start, at every percent of the stages, and at the end

A view, like logs: no result depends on it. A killed process leaves no end.
"""

import contextlib
import dataclasses
import json
import os
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from lt_rebalance.files.filesystem import Filesystem, ReadableFilesystem
from lt_rebalance.ground.errors import StorageError
from lt_rebalance.ground.names import check_name
from lt_rebalance.ground.text import one_line
from lt_rebalance.ground.values import LARGEST_S, fields, label, number, optional, parse_json, whole
from lt_rebalance.store.records import Failure

DIRECTORY = "sessions"
ESTIMATED_AT = (0.1, 0.5, 0.9)
"""shares of finished stages at which the estimated time left is compared with the actual time"""
_SECONDS = number(0, LARGEST_S)
_ID = {"session": label, "at_s": _SECONDS}
_BEGIN = fields({**_ID, "command": label, "host": label, "num_stages": whole(1)})
_TOLD = fields({**_ID, "num_done": whole(), "left_s": optional(_SECONDS)})
_END = fields({**_ID, "end": label})
DONE = "done"
_BEGINS = r"(?:(?<![\w.:/~])|(?<=:)(?!//)|(?<=file://)|(?<=sqlite:///))"
"""not in a URL, but in one of a file"""
_QUOTED = re.compile(
    r"""(?P<before>(?P<quote>['"])(--[\w-]+=)?(file://|sqlite:///)?)/((?!(?P=quote))[^\n])*/"""
)
_BARE = re.compile(rf"""{_BEGINS}/((\\u[0-9a-f]{{4}}|[^\s/"'=\\])+/)+""")


def hide_directories(log: bytes) -> bytes:
    """Return a log, of sessions or of a stage, whose absolute paths are file names: it can be published.

    A path without quotes ends at a space, except in the home of who publishes and in the current directory.
    """
    text = log.decode(errors="surrogateescape")
    for place in (os.getcwd(), os.path.expanduser("~")):
        for written in (place, json.dumps(place)[1:-1]):
            if place not in ("/", "~"):
                text = re.sub(f"{_BEGINS}{re.escape(written)}/", "/here/", text)
    text = _BARE.sub("", _QUOTED.sub(r"\g<before>", text))
    return text.encode(errors="surrogateescape")


def hide_directories_of(failure: bytes, path: str) -> bytes:
    """Return the JSON of a `Failure` without the directories that its error and traceback name.

    Raises:
        ValueError: it is damaged; `path` is where.
    """
    try:
        found = Failure.from_json(failure)
    except ValueError as damage:
        raise ValueError(f"{path} is damaged ({damage}); move it away") from None
    error, traceback = (hide_directories(each.encode()).decode() for each in (found.error, found.traceback))
    return dataclasses.replace(found, error=error, traceback=traceback).to_json()


def sessions_path(study: str) -> str:
    """Return where the sessions of a study are kept in a store."""
    return f"{DIRECTORY}/{check_name('a study', study)}.jsonl"


class SessionLog:
    """Writes the log of one main process."""

    def __init__(self, files: Filesystem, study: str, command: str, num_stages: int) -> None:
        """Record the start.

        Raises:
            StorageError: the store cannot be reached, also below; all other errors are ignored.
        """
        self._files, self._path = files, sessions_path(study)
        self._id, self._num_stages, self._percent = uuid.uuid4().hex[:12], num_stages, 0
        self._write(command=command, host=socket.gethostname(), num_stages=num_stages)

    def tell(self, num_done: int, left_s: Callable[[], float | None]) -> None:
        """Record the time left when another percent of the stages is done."""
        if (percent := 100 * num_done // self._num_stages) > self._percent:
            self._percent = percent
            self._write(num_done=num_done, left_s=left_s())

    def end(self, how: str) -> None:
        """Record the end and its state."""
        self._write(end=how)

    def _write(self, **values: Any) -> None:  # Any: JSON values
        line = json.dumps({"session": self._id, "at_s": time.time(), **values})
        try:
            self._files.append(self._path, f"{line}\n".encode())
        except StorageError:
            raise
        except OSError:
            pass


@contextlib.contextmanager
def log_session(files: Filesystem, study: str, command: str, num_stages: int) -> Iterator[SessionLog]:
    """Record a session from entering to leaving a `with` block."""
    log = SessionLog(files, study, command, num_stages)
    try:
        yield log
    except BaseException as error:
        with contextlib.suppress(OSError):
            log.end(one_line(f"{type(error).__name__} {error}"))
        raise
    log.end(DONE)


@dataclass(kw_only=True)
class Session:
    """The session of one main process, as it was recorded."""

    command: str
    host: str
    began_s: float
    """seconds since 1970, as below"""
    num_stages: int
    """number of stages to run"""
    told: list[tuple[int, float, float | None]] = field(default_factory=list)
    """stages done, the time, and the estimated seconds left then"""
    ended_s: float | None = None
    """None if it was killed, or is at work"""
    end: str = ""

    @property
    def forecasts(self) -> dict[float, tuple[float, float]]:
        """Return the estimate at each share of `ESTIMATED_AT`, and the actual time from there, in seconds.

        Empty if the session did not end normally.
        """
        found: dict[float, tuple[float, float]] = {}
        if self.ended_s is None or self.end != DONE:
            return found
        for num_done, at_s, left_s in self.told:
            for share in ESTIMATED_AT:
                if share not in found and num_done >= share * self.num_stages and left_s is not None:
                    found[share] = (left_s, self.ended_s - at_s)
        return found


def read_sessions(files: ReadableFilesystem, study: str) -> Sequence[Session]:
    """Return the sessions of a study in order of their start; other lines are ignored."""
    try:
        lines = files.read_appended(sessions_path(study)).decode(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    sessions: dict[str, Session] = {}
    for line in lines:
        with contextlib.suppress(ValueError):
            _take(sessions, parse_json(line))
    return list(sessions.values())


def _take(sessions: dict[str, Session], values: Any) -> None:  # Any: a JSON value
    """Read a line; ValueError if it is malformed."""
    if isinstance(values, dict) and "command" in values:
        _BEGIN(values)
        begun = {each: values[each] for each in ("command", "host", "num_stages")}
        sessions[values["session"]] = Session(**begun, began_s=values["at_s"])
    elif isinstance(values, dict) and values.get("session") in sessions:
        session = sessions[values["session"]]
        if "end" in values:
            _END(values)
            session.ended_s, session.end = values["at_s"], values["end"]
        else:
            _TOLD(values)
            session.told.append((values["num_done"], values["at_s"], values["left_s"]))
