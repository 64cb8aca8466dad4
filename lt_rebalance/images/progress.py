"""A line of progress on the terminal; silent if standard error is not a terminal."""

import sys
import time
from types import TracebackType

_EVERY_S = 0.2
_WIDTH = 30


class Progress:
    """Counts up to a total."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total = what, total
        self._done = 0
        self._shown_at = time.monotonic()
        self._is_shown = False

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def add(self, count: int) -> None:
        """Add a number of finished items."""
        self._done += count
        now = time.monotonic()
        if now < self._shown_at + _EVERY_S or not sys.stderr.isatty():
            return
        self._shown_at, self._is_shown = now, True
        bar = "#" * (_WIDTH * self._done // self._total)
        line = f"{self._what} [{bar:<{_WIDTH}}] {self._done:,} of {self._total:,}"
        print(f"\r{line}\x1b[K", end="", file=sys.stderr, flush=True)
