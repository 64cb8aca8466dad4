"""The log of a trial in the store: what it did round by round, and all that was logged meanwhile."""

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
    """Return where the log of a stage lies in a store; attempts follow each other in it."""
    return f"{DIRECTORY}/{key}.log"


class StageLog(logging.Handler):
    """Collects lines, and appends them to the log of every stage of a trial when it is flushed."""

    def __init__(self, files: Filesystem, keys: Sequence[str]) -> None:
        super().__init__(logging.INFO)
        self._files = files
        self._paths = [log_path(key) for key in keys]
        self._lines: list[str] = []
        formatter = logging.Formatter(_LINE)
        formatter.converter = time.gmtime
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line in."""
        self._lines.append(self.format(record))

    def flush(self) -> None:
        """Append what was taken in."""
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
    """Let a log hear all warnings of this process, and what the package says of itself, within a block."""
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
    """Return what a log says, after the title of a stage, of an attempt that begins or goes on."""
    return f"{_GOES_ON} {done_rounds}/{num_rounds}" if done_rounds else _BEGINS


def say_round(done_rounds: int, num_rounds: int, train_s: float) -> str:
    """Return what it says of a round, and of the seconds of training in all."""
    return f"round {done_rounds}/{num_rounds}, {train_s:.1f} s"


@dataclass(frozen=True, kw_only=True)
class Attempts:
    """What the log of a stage tells of the attempts at it."""

    num_begun: int = 0
    """from the first round on"""
    num_resumed: int = 0
    """from a checkpoint on"""
    num_again: int = 0
    """of both, those after the last round had been trained"""
    resumed_s: float = 0.0
    """seconds of training that were not spent again, because attempts went on from a checkpoint"""
    repeated_s: float = 0.0
    """seconds of training in whole rounds that were"""


def read_attempts(log: str, title: str) -> Attempts:
    """Return what a log tells of the stage of a title; other lanes of its trials have lines in it as well."""
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
