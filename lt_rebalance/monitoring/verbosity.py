"""The verbosity of a sweep: how much it prints while it runs."""

import contextlib
import logging
from collections.abc import Iterator

QUIET, NORMAL, DETAILED = LEVELS = (0, 1, 2)
"""failures, and tables at the end; also finished stages and warnings; also started stages and rounds"""


@contextlib.contextmanager
def quieten(verbosity: int) -> Iterator[None]:
    """Suppress warnings within a block at the lowest verbosity; errors are logged at any."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(max(before, logging.ERROR) if verbosity == QUIET else before)
    try:
        yield
    finally:
        root.setLevel(before)
