"""Classify the errors of one attempt at a trial, and count them. No Ray here."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from lt_rebalance.ground.disk import cannot_be_written
from lt_rebalance.ground.errors import StorageError
from lt_rebalance.stages.stage_errors import describe_error, describe_way, find_cause
from lt_rebalance.store import StoreError

MAX_ERRORS = 3
"""failed attempts that a trial may have; lost workers do not count"""
DONE = "done"
"""Tune reads this key: the trial gives no more results"""

Result = dict[str, Any]


class AttemptError(RuntimeError):
    """An attempt has ended with a recorded error; the next may succeed.

    It contains one line only, since an exception of a user's code may not survive pickling.
    """


class UnfitWorkerError(RuntimeError):
    """This worker cannot do the work of its main process; another may."""


class ErrorKeeper(Protocol):
    """Records the errors of a trial."""

    def note(self, error: BaseException) -> None:
        """Record the error of an attempt that may be retried."""

    def count(self) -> int:
        """Return how many attempts of this trial have raised."""

    def settle(self, error: BaseException) -> None:
        """Record the final error."""


class Attempt:
    """Handles all errors of an attempt at a trial, in any of its calls.

    | what is raised | outcome | cause |
    |---|---|---|
    | an OSError of a full or read-only disk | "unwritable" | |
    | UnfitWorkerError | "blocked" | |
    | StorageError; before the store is open, StoreError and any OSError | "blocked" | |
    | StoreError | "blocked", and recorded | infrastructure |
    | NotApplicableError | "failed" immediately | not applicable |
    | any other ValueError | "failed" immediately | input |
    | torch's OutOfMemoryError, MemoryError | retried, "failed" at the last of `MAX_ERRORS` | memory |
    | anything else in a user's file | "failed" immediately for a ValueError, else the same | own file |
    | any other OSError | the same | infrastructure |
    | anything else, SystemExit too | the same; "failed" immediately if it cannot be recorded | code |

    "blocked" and "unwritable" are faults of the store, or of a node unless recorded, and do not count against
    a trial. "Retried" means that an AttemptError is raised, so that Tune starts another attempt.
    """

    def __init__(self) -> None:
        """Begin without a place for errors; `keep_in` sets it as soon as it is known."""
        self._keeper: ErrorKeeper | None = None
        self._ended: Result | None = None

    def keep_in(self, keeper: ErrorKeeper) -> None:
        """Record errors there from now on."""
        self._keeper = keeper

    def run(self, work: Callable[[], Result]) -> Result:
        """Return the result of some work, or the outcome of its error.

        Raises:
            AttemptError: another attempt is to follow.
        """
        with self.guarded():
            if self._ended is None:
                return work()
        assert self._ended is not None
        return self._ended

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Catch errors within a block; the next `run` returns the outcome.

        Raises:
            AttemptError: another attempt is to follow.
        """
        try:
            yield
        except (Exception, SystemExit) as error:
            if isinstance(error, AttemptError) or hasattr(error, "ray_terminate_msg"):
                raise  # handled already; or Ray ends this worker
            self._ended = self._end(error)

    def _end(self, error: BaseException) -> Result:
        if cannot_be_written(error):
            return _stop("unwritable", str(error))
        if isinstance(error, StorageError | UnfitWorkerError):
            return _stop("blocked", str(error))
        if self._keeper is None:
            return _stop("blocked", str(error)) if isinstance(error, StoreError | OSError) else _fail(error)
        try:
            return self._keep(error, self._keeper)
        except StorageError as second:
            return _stop("blocked", str(second))
        except OSError as second:
            return _stop("unwritable", str(second))
        except AttemptError:
            raise
        except Exception as second:
            reason = f"{describe_error(error)}; this could not be recorded: {describe_error(second)}"
            return _stop("blocked", reason)

    def _keep(self, error: BaseException, keeper: ErrorKeeper) -> Result:
        is_blocked = isinstance(error, StoreError)
        is_final = isinstance(error, ValueError) and not is_blocked
        if not is_final:
            keeper.note(error)
        if is_blocked:
            return _stop("blocked", str(error)) | {"is_of_stage": True}
        if is_final or keeper.count() >= MAX_ERRORS:
            keeper.settle(error)
            return _fail(error)
        raise AttemptError(describe_error(error)) from None


def _stop(outcome: str, reason: str) -> Result:
    return {"outcome": outcome, "reason": reason, DONE: True}


def _fail(error: BaseException) -> Result:
    told = {"reason": describe_error(error), "cause": find_cause(error), "traceback": describe_way(error)}
    return {"outcome": "failed", DONE: True} | told
