"""Stop on Ctrl-C and SIGTERM, but only at safe points.

Ray's native code aborts or corrupts its state when a signal handler raises inside it, so the handler only
sets a flag, and the program checks it at safe points.
"""

import os
import signal
import threading
import time
from types import FrameType
from typing import ClassVar

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LOOK_EVERY_S = 0.1


class Interrupted(BaseException):
    """A signal asked the program to stop."""

    def __init__(self, received: signal.Signals) -> None:
        super().__init__(received.name)
        self.signal = received

    @property
    def exit_code(self) -> int:
        """The exit code that shells use for the signal: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signal


class InterruptWatch:
    """Records the first stop signal; a second one ends the process immediately."""

    active: "ClassVar[InterruptWatch | None]" = None
    """the instance whose block this process is in"""

    def __init__(self) -> None:
        self._received: signal.Signals | None = None

    def __enter__(self) -> "InterruptWatch":
        self._before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        self.install()
        InterruptWatch.active = self
        return self

    def __exit__(self, *_: object) -> None:
        InterruptWatch.active = None
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def install(self) -> None:
        """Install the handlers, again if other code has replaced them."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._note)

    @classmethod
    def check(cls) -> None:
        """Raise `Interrupted` if a signal has come to the active instance."""
        if cls.active is not None and cls.active._received is not None:
            raise Interrupted(cls.active._received)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._received = signal.Signals(number)


def pause(seconds: float) -> None:
    """Sleep, but raise `Interrupted` as soon as a stop signal arrives."""
    if threading.current_thread() is not threading.main_thread():
        time.sleep(seconds)
        return
    deadline = time.monotonic() + seconds
    while True:
        InterruptWatch.check()
        if (left_s := deadline - time.monotonic()) <= 0:
            return
        time.sleep(min(left_s, _LOOK_EVERY_S))
