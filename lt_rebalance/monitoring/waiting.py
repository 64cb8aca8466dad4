"""Report what a process waits for, when nothing has happened for a while."""

import logging
import time
from collections.abc import Callable

SAY_AFTER_S = 45.0
"""without any event; doubled after each report"""

_log = logging.getLogger(__name__)


class Waiting:
    """Reports what a process waits for, at increasing intervals."""

    def __init__(self, say_after_s: float = SAY_AFTER_S, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin to wait.

        Args:
            clock: seconds that only grow.
        """
        self._clock = clock
        self._after_s = say_after_s
        self._since_s = self._said_s = clock()

    def note_event(self) -> None:
        """Record an event, and what is waited for next."""
        self._since_s = self._said_s = self._clock()

    def look(self, describe: Callable[[], str]) -> None:
        """Report what is waited for, if the last report is long enough ago."""
        now_s = self._clock()
        if now_s - self._said_s >= self._after_s:
            _log.warning("waiting for %.0f s: %s", now_s - self._since_s, describe())
            self._said_s = now_s
            self._after_s *= 2
