"""Errors that several wings raise and one place tells; nothing is imported for them."""

import logging
from collections.abc import Callable

_log = logging.getLogger(__name__)


class ClusterError(RuntimeError):
    """Ray could not be started or reached, or was lost while it worked."""

    def __init__(self, words: str, *, remedy: str = "", was_lost: bool = False) -> None:
        """Say what happened.

        Args:
            words: what happened, in one line.
            remedy: what to do about it; empty where the words say so already.
            was_lost: it had been there; False where it could not be had, and so nothing was started.
        """
        super().__init__(words)
        self.remedy = remedy
        self.was_lost = was_lost

    def __str__(self) -> str:
        return "; ".join(filter(None, (super().__str__(), self.remedy)))


class StorageError(OSError):
    """A place of files as a whole is of no use now: it refuses, or has not answered for longer than we wait.

    Neither is a fault of what was being written or read, and neither is mended by trying at once again.
    """


class ReadOnlyError(StorageError):
    """Something was to be changed in a place that was opened to be read."""


class NoDirectoryError(StorageError):
    """What has the name of a directory on the way to a file is none."""


class NotAFileError(OSError, ValueError):
    """What has the name of a file is none: a directory, a link that leads nowhere, a pipe.

    A damaged file, to whoever wants to know what is in it.
    """


class StoreError(ValueError):
    """The store cannot be used as asked: unwritable, foreign, or of another version."""


class UnreadableError(ValueError):
    """Something stands where a file is wanted, and is none that can be read."""


class LeaseError(ValueError):
    """Another driver works on the store."""


class LeaseLostError(RuntimeError):
    """Another driver has taken over, because this one gave no sign of life for too long."""


class NotApplicableError(ValueError):
    """A method cannot serve the training set at hand: an outcome of a run, with its reason, and no fault."""


class DataError(ValueError):
    """Data that is missing, damaged or cannot be downloaded; one line that says what helps."""


def attempt(show: Callable[[], object]) -> None:
    """Show something, but let no fault of it reach the work that is shown."""
    try:
        show()
    except Exception:
        _log.warning("could not be shown", exc_info=True)
