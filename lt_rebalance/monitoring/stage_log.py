"""The log of a trial in the store: its rounds, and everything logged meanwhile."""

import contextlib
import logging
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lt_rebalance.files.filesystem import Filesystem

DIRECTORY = "logs"
_LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_BEGINS, _GOES_ON = "begins", "goes on after round"
_SAID = re.compile(
    rf"{_BEGINS}$|{_GOES_ON} (?P<after>\d+)/|round (?P<round>\d+)/(?P<last>\d+), (?P<s>[\d.]+) s\b"
)


def log_path(key: str) -> str:
    """Return the path of the log of a stage in a store; attempts follow each other in it."""
    return f"{DIRECTORY}/{key}.log"


class StageLog(logging.Handler):
    """Collects lines, and appends them to the log of every stage of a trial when flushed."""

    def __init__(self, files: Filesystem, keys: Sequence[str]) -> None:
        super().__init__(logging.INFO)
        self._files = files
        self._paths = [log_path(key) for key in keys]
        self._lines: list[str] = []
        formatter = logging.Formatter(_LINE)
        formatter.converter = time.gmtime
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        """Collect a line."""
        self._lines.append(self.format(record))

    def flush(self) -> None:
        """Append the collected lines."""
        self.acquire()
        try:
            lines, self._lines = self._lines, []
        finally:
            self.release()
        if lines:
            content = "".join(f"{line}\n" for line in lines).encode()
            for path in self._paths:
                self._files.append(path, content)


@contextlib.contextmanager
def capture(log: StageLog) -> Iterator[None]:
    """Send all warnings of this process, and all messages of the package, to a log within a block."""
    root, package = logging.getLogger(), logging.getLogger("lt_rebalance")
    level = package.level
    root.addHandler(log)
    package.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        package.setLevel(level)
        root.removeHandler(log)


def say_begin(done_rounds: int, num_rounds: int) -> str:
    """Return the line for an attempt at a stage that begins or resumes."""
    return f"{_GOES_ON} {done_rounds}/{num_rounds}" if done_rounds else _BEGINS


def say_round(done_rounds: int, num_rounds: int, train_s: float) -> str:
    """Return the line for a round, with the total seconds of training."""
    return f"round {done_rounds}/{num_rounds}, {train_s:.1f} s"


@dataclass(frozen=True, kw_only=True)
class Attempts:
    """What the log of a stage says about the attempts at it."""

    num_begun: int = 0
    """attempts from the first round on"""
    num_resumed: int = 0
    """attempts from a checkpoint on"""
    num_again: int = 0
    """attempts of both kinds that began after all rounds had been trained"""
    resumed_s: float = 0.0
    """seconds of training that were saved, because attempts resumed from a checkpoint"""
    repeated_s: float = 0.0
    """seconds of training of whole rounds that were repeated"""


def read_attempts(log: str, title: str) -> Attempts:
    """Return what a log says about the stage with a title; it has lines of other lanes as well."""
    seconds: dict[int, float] = {0: 0.0}
    at, num_begun, num_resumed, num_again, resumed_s, repeated_s, is_over = 0, 0, 0, 0, 0.0, 0.0, False
    for line in log.splitlines():
        said = _SAID.match(line.partition(f": {title}: ")[2])
        if said is None:
            continue
        if said["round"]:
            at = int(said["round"])
            seconds[at] = float(said["s"])
            is_over = at == int(said["last"])
            continue
        start = int(said["after"] or 0)
        num_begun += start == 0
        num_resumed += start > 0
        num_again += is_over
        resumed_s += seconds.get(start, 0.0)
        repeated_s += max(0.0, seconds[at] - seconds.get(start, 0.0))
        at, is_over = start, False
        seconds.setdefault(at, 0.0)
    return Attempts(
        num_begun=num_begun,
        num_resumed=num_resumed,
        num_again=num_again,
        resumed_s=resumed_s,
        repeated_s=repeated_s,
    )
