"""Errors that several wings raise; this module imports nothing."""

import logging
from collections.abc import Callable

_log = logging.getLogger(__name__)


class ClusterError(RuntimeError):
    """Ray could not be started or reached, or was lost during the work."""

    def __init__(self, words: str, *, remedy: str = "", was_lost: bool = False) -> None:
        """Say what happened.

        Args:
            words: what happened, in one line.
            remedy: what to do about it; empty if the words say it.
            was_lost: Ray had been running; False if it could not be started, so that no work began.
        """
        super().__init__(words)
        self.remedy = remedy
        self.was_lost = was_lost

    def __str__(self) -> str:
        return "; ".join(filter(None, (super().__str__(), self.remedy)))


class StorageError(OSError):
    """A whole storage place cannot be used: it refuses access, or has not answered for longer than we wait.

    The cause is not the object that was read or written, and an immediate retry does not help.
    """


class ReadOnlyError(StorageError):
    """A write to a place that was opened read-only."""


class NoDirectoryError(StorageError):
    """A part of a path that must be a directory is not one."""


class NotAFileError(OSError, ValueError):
    """A path that must be a file is not one: a directory, a broken link, a pipe.

    Readers treat it as a damaged file.
    """


class StoreError(ValueError):
    """The store cannot be used as asked: not writable, not a store, or of another version."""


class UnreadableError(ValueError):
    """The path of a file holds something that cannot be read as a file."""


class LeaseError(ValueError):
    """Another process works on the store."""


class LeaseLostError(RuntimeError):
    """Another process has taken the lease, because this one did not renew it in time."""


class NotApplicableError(ValueError):
    """A method does not apply to this training set: a result of the run, with its reason; not an error."""


class DataError(ValueError):
    """Data is missing, damaged or cannot be downloaded; one line that says what helps."""


def attempt(show: Callable[[], object]) -> None:
    """Show something; an error in showing it does not stop the work."""
    try:
        show()
    except Exception:
        _log.warning("could not be shown", exc_info=True)
