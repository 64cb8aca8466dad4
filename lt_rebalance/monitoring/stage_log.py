"""The log of a trial in the store: what it did round by round, and all that was logged meanwhile."""

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence

from lt_rebalance.files.filesystem import Filesystem

DIRECTORY = "logs"
_LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"


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
