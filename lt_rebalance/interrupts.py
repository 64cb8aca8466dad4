"""Stop on Ctrl-C and SIGTERM, but only where it is safe to.

Ray's native code aborts or corrupts its state when a signal handler raises inside it, so the handler only
takes note, and the program asks at points of its own choosing.
"""

import os
import signal
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """A signal asked the program to stop."""

    def __init__(self, received: signal.Signals) -> None:
        super().__init__(received)
        self.signal = received

    @property
    def exit_code(self) -> int:
        """The exit code by which a shell knows the signal: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signal


class InterruptWatch:
    """Takes note of the first stop signal; a second one ends the process at once."""

    def __init__(self) -> None:
        self._received: signal.Signals | None = None

    def __enter__(self) -> "InterruptWatch":
        self._before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def install(self) -> None:
        """Put the handlers in place, again where other code has replaced them."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._note)

    def check(self) -> None:
        """Raise `Interrupted` if a signal has come."""
        if self._received is not None:
            raise Interrupted(self._received)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._received = signal.Signals(number)
