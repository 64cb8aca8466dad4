"""Make standard output and error safe: failed writes never stop the work.

A sweep runs for hours. Its reader may close the output, accept only ASCII, or be absent. Text that cannot be
shown is dropped or escaped, and the work continues.
"""

import codecs
import errno
import io
import os
import sys
from typing import TextIO

LEGIBLE = "lt_rebalance.legible"
"""name of the error handler for characters that an encoding lacks"""
_PLAIN = {"±": "+-", "×": "x", "–": "-", "—": "-", "…": "...", "−": "-", "→": "->", "’": "'"}
_READER_HAS_LEFT = (errno.EPIPE, errno.ESHUTDOWN, errno.ECONNRESET)


class Outlet(io.FileIO):
    """A descriptor that accepts everything: after the first failed write, all output is dropped."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.failure: OSError | None = None
        """why writing failed; empty if the reader closed the pipe"""
        self._is_dead = False

    def write(self, content: object) -> int | None:  # type: ignore[override]  # any buffer of bytes
        view = memoryview(content).cast("B")  # type: ignore[arg-type]
        if not self._is_dead:
            try:
                return super().write(view)
            except OSError as error:
                self._is_dead = True
                if error.errno not in _READER_HAS_LEFT:
                    self.failure = error
        return len(view)


def settle_streams() -> None:
    """Make standard output and error such that writes to them never raise.

    Streams of tests and notebooks, which are not descriptors of this process, are kept.
    """
    codecs.register_error(LEGIBLE, _write_legibly)
    _occupy_descriptors()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or (stream is getattr(sys, f"__{name}__") and type(stream) is io.TextIOWrapper):
            setattr(sys, name, _open_outlet(stream, 1 if name == "stdout" else 2))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=LEGIBLE)
    # The log of a job should show each line immediately.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)


def output_failure() -> OSError | None:
    """Flush and return why standard output is incomplete; None if everything was written.

    A reader that closes the pipe is not a failure.
    """
    sys.stdout.flush()
    outlet = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return outlet.failure if isinstance(outlet, Outlet) else None


def _occupy_descriptors() -> None:
    """Reopen a closed descriptor: otherwise the next opened file would become standard output."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)


def _open_outlet(stream: TextIO | None, descriptor: int) -> TextIO:
    encoding = "utf-8" if stream is None else stream.encoding
    if stream is not None:
        stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(Outlet(descriptor)), encoding=encoding, errors=LEGIBLE, line_buffering=True
    )


def _write_legibly(error: UnicodeError) -> tuple[str | bytes, int]:
    assert isinstance(error, UnicodeEncodeError)
    letters = error.object[error.start : error.end]
    shown = "".join(_PLAIN.get(letter) or ascii(letter)[1:-1] for letter in letters)
    return shown, error.end
