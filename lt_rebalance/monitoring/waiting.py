"""Say what is waited for, when nothing has happened for a while."""

import logging
import time
from collections.abc import Callable

SAY_AFTER_S = 45.0
"""without any event; each time that something is said doubles it for the next"""

_log = logging.getLogger(__name__)


class Waiting:
    """Says once in a while what is waited for; more and more rarely, for some things take long."""

    def __init__(self, say_after_s: float = SAY_AFTER_S, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin to wait.

        Args:
            clock: seconds that only grow.
        """
        self._clock = clock
        self._after_s = say_after_s
        self._since_s = self._said_s = clock()

    def note_event(self) -> None:
        """Note that something has happened, and something else is waited for."""
        self._since_s = self._said_s = self._clock()

    def look(self, describe: Callable[[], str]) -> None:
        """Say what is waited for, if that has not been said for long enough."""
        now_s = self._clock()
        if now_s - self._said_s >= self._after_s:
            _log.warning("waiting for %.0f s: %s", now_s - self._since_s, describe())
            self._said_s = now_s
            self._after_s *= 2
