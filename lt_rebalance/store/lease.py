"""The lease on a store: one process at a time works there; the lease of a dead one is taken over.

A lease only saves work. Exclusive commits of the store ensure that no result is lost or replaced, even if a
process that was considered dead continues for a moment.

Leases are files `lease/<generation>.json`, and the highest generation counts. A process takes the lease by
creating the next generation. Exactly one can, so two that find the same stale lease do not both get it. The
holder rewrites its file every few seconds. A process that needs the lease watches the file: the lease is
stale if the file is unchanged for `STALE_S` by the watcher's own monotonic clock, or if its process is seen
to have ended. Clocks of two machines are never compared. The last file remains after release, so that
generations only grow.
"""

import contextlib
import dataclasses
import json
import logging
import re
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from lt_rebalance.files.filesystem import Filesystem
from lt_rebalance.ground.errors import LeaseError, LeaseLostError, NotAFileError
from lt_rebalance.ground.text import format_duration
from lt_rebalance.ground.values import LARGEST_S, fields, flag, number, parse_json, text, whole
from lt_rebalance.store.presence import BEAT_S, PROCESS, STALE_S, Process

RELEASE_S = 5.0
"""limit for the last write; a lease whose place does not answer is found stale instead"""
DIRECTORY = "lease"
_POLL_S = 0.2

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Holder(Process):
    """The current or last owner of the lease."""

    title: str
    """the study or search"""
    attempt: str = field(default_factory=lambda: uuid.uuid4().hex)
    """distinguishes holders with the same process number"""
    beats: int = 0
    """number of heartbeats"""
    held_s: float = 0.0
    """since the lease was taken, by the clock of the holder"""
    is_released: bool = False

    def __str__(self) -> str:
        return f"{self.title}, process {self.pid} on {self.host}, for {format_duration(self.held_s)}"

    def to_json(self) -> bytes:
        """Return the holder as UTF-8 JSON."""
        return json.dumps(dataclasses.asdict(self)).encode()

    @classmethod
    def from_json(cls, content: bytes) -> "Holder | None":
        """Return the holder in a file; None if unreadable: such a lease is free once it stops changing."""
        with contextlib.suppress(ValueError):
            values = parse_json(content)
            _HOLDER(values)
            return cls(**values)
        return None


_HOLDER = fields(
    {**PROCESS, "title": text, "attempt": text},
    {"beats": whole(), "held_s": number(-LARGEST_S, LARGEST_S), "is_released": flag},
)


class Lease:
    """A process's lease on a store, from entering to leaving a `with` block."""

    def __init__(
        self,
        files: Filesystem,
        location: str,
        title: str,
        *,
        beat_s: float = BEAT_S,
        stale_s: float = STALE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare to take the lease.

        Args:
            location: of the store, for messages.
            title: the study or search that uses the store.
            beat_s: seconds between heartbeats, the same for all processes of this store.
            stale_s: a holder counts as dead after this many seconds without a heartbeat.
            clock: monotonic seconds, never compared with other clocks.
        """
        self._files = files
        self._location = location
        self._holder = Holder(title=title)
        self._beat_s = beat_s
        self._stale_s = stale_s
        self._clock = clock
        self._generation = 0
        self._since_s = 0.0
        self._stop = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._beat_until_stopped, name="lease", daemon=True)

    def __enter__(self) -> "Lease":
        """Take the lease; after the death of a holder on another machine this takes up to `stale_s`.

        Raises:
            LeaseError: another live process has it.
        """
        self._generation = self._take()
        self._since_s = self._clock()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Release the lease; also from another thread, before the process is ended."""
        self._stop.set()
        with contextlib.suppress(KeyboardInterrupt):  # a second one ends the wait
            self._thread.join(RELEASE_S)

    def check(self) -> None:
        """Raise a LeaseLostError if another process has taken over."""
        if self._lost.is_set():
            raise LeaseLostError(
                f"{self._location} was taken over by another process, because this one gave no heartbeat for "
                f"{self._stale_s:g} s; that process continues"
            )

    def confirm(self) -> None:
        """Check that this process has the lease at this moment; LeaseLostError if not.

        For operations that must not happen after a takeover: `check` notices one only at the next heartbeat.
        """
        if read_newest(self._files)[0] != self._generation:
            self._lost.set()
        self.check()

    def beat(self) -> None:
        """Give a heartbeat, or find that the lease is lost."""
        if read_newest(self._files)[0] > self._generation:
            self._lost.set()
        else:
            self._write(is_released=False)

    def _beat_until_stopped(self) -> None:
        while not self._lost.is_set() and not self._stop.wait(self._beat_s):
            try:
                self.beat()
            except Exception as error:  # whatever the error, the next one may succeed
                _log.warning("no heartbeat could be given: %s", error)
        if not self._lost.is_set():
            with contextlib.suppress(OSError):  # it will be found stale instead
                self._write(is_released=True)

    def _write(self, *, is_released: bool) -> None:
        self._holder = dataclasses.replace(
            self._holder,
            beats=self._holder.beats + 1,
            held_s=self._clock() - self._since_s,
            is_released=is_released,
        )
        self._files.replace(_path(self._generation), self._holder.to_json())

    def _take(self) -> int:
        """Wait until the newest lease is known to be free, take the next, and return its generation."""
        seen: tuple[int, bytes] | None = None
        seen_s = 0.0
        while True:
            newest = generation, content = read_newest(self._files)
            holder = Holder.from_json(content)
            is_free = generation == 0 or (holder is not None and (holder.is_released or holder.has_died))
            if newest != seen:
                if seen is not None and not is_free:
                    raise LeaseError(
                        f"{self._location} is in use: {holder or 'by an unreadable lease'}; "
                        "wait for its end, or name another store"
                    )
                if not is_free:
                    _log.warning(
                        "%s has a holder, %s; watching for up to %g s whether it is alive",
                        *(self._location, holder or "unreadable", self._stale_s),
                    )
                seen, seen_s = newest, self._clock()
            is_free = is_free or self._clock() - seen_s >= self._stale_s
            if not is_free:
                time.sleep(_POLL_S)
            elif self._files.create(_path(generation + 1), self._holder.to_json()):
                for earlier in _list_generations(self._files):
                    if earlier <= generation:
                        with contextlib.suppress(IsADirectoryError):  # not a lease
                            self._files.remove(_path(earlier))
                return generation + 1


def find_holder(files: Filesystem) -> Holder | None:
    """Return the possible holder of the lease on a store now; None if it is known to be free. Does not wait.

    An unreadable lease has an unknown holder.
    """
    generation, content = read_newest(files)
    if generation == 0:
        return None
    holder = Holder.from_json(content)
    if holder is None:
        return Holder(title="somebody whose lease cannot be read", host="unknown", pid_space="unknown")
    return None if holder.is_released or holder.has_died else holder


def read_newest(files: Filesystem) -> tuple[int, bytes]:
    """Return the highest generation and its file, empty if unreadable; 0 if there is none."""
    missed = 0
    while generations := _list_generations(files):
        newest = generations[-1]
        try:
            return newest, files.read(_path(newest))
        except NotAFileError:
            return newest, b""
        except FileNotFoundError:  # another process has just taken the next, unless it is the same again
            if newest == missed:
                return newest, b""
            missed = newest
    return 0, b""


def _list_generations(files: Filesystem) -> list[int]:
    """Return the generations whose files have exactly the names that this module writes."""
    names = files.list(DIRECTORY)
    numbers = {int(name[:-5]): name for name in names if re.fullmatch(r"[0-9]{6,18}\.json", name)}
    return sorted(number for number, name in numbers.items() if number and _path(number).endswith(f"/{name}"))


def _path(generation: int) -> str:
    return f"{DIRECTORY}/{generation:06d}.json"
