"""Standard output and error that do not stand in the way of the work.

A sweep runs for hours, and who reads its output may leave, take no letters beyond ASCII, or never have been
there. What cannot be shown is dropped, or written in other letters; the work goes on to its own end.
"""

import codecs
import errno
import io
import os
import sys
from typing import TextIO

LEGIBLE = "lt_rebalance.legible"
"""name of the way in which letters are written that an encoding does not have"""
_PLAIN = {"±": "+-", "×": "x", "–": "-", "—": "-", "…": "...", "−": "-", "→": "->", "’": "'"}
_READER_HAS_LEFT = (errno.EPIPE, errno.ESHUTDOWN, errno.ECONNRESET)


class Outlet(io.FileIO):
    """A descriptor that takes everything: from the first write that fails on, all is dropped."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.failure: OSError | None = None
        """why nothing can be written, unless that is because the reader has seen enough"""
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
    """Make standard output and error such that nothing written to them can raise.

    Those of tests and notebooks, which are no descriptors of this process, are kept.
    """
    codecs.register_error(LEGIBLE, _write_legibly)
    _occupy_descriptors()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or (stream is getattr(sys, f"__{name}__") and type(stream) is io.TextIOWrapper):
            setattr(sys, name, _open_outlet(stream, 1 if name == "stdout" else 2))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=LEGIBLE)
    # The log of a job should show each line as it comes.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)


def output_failure() -> OSError | None:
    """Write what is still buffered and return why standard output is not whole; None where all was taken.

    A reader that has seen enough is no failure.
    """
    sys.stdout.flush()
    outlet = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return outlet.failure if isinstance(outlet, Outlet) else None


def _occupy_descriptors() -> None:
    """Open what was closed: else the next file that is opened would be taken for standard output."""
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
