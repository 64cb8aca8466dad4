"""What one try of a trial does with whatever is raised in it: told apart, counted, kept. No Ray here."""

import contextlib
import socket
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch

from lt_rebalance.ground.disk import takes_no_more
from lt_rebalance.ground.errors import NotApplicableError, StorageError
from lt_rebalance.ground.own_file import describe_own, find_place, say_error
from lt_rebalance.stages.machine import describe_machine
from lt_rebalance.store import Store, StoreError
from lt_rebalance.store.records import NOT_APPLICABLE, Failure, stage_key
from lt_rebalance.studies.stage import stage_from_dict

MAX_ERRORS = 3
"""attempts of a trial that may raise; those whose worker was lost are not among them"""
DONE = "done"
"""what Tune looks at: nothing more comes of a trial"""

StageValues = Mapping[str, Any]
"""what `Stage.to_dict` gives; an attempt keeps its errors also where no stage can be made of it"""
Result = dict[str, Any]


class AttemptError(RuntimeError):
    """An attempt has ended with an error that is kept; another may come through.

    It holds one line and nothing else, for what a user's code raises may not survive the way to the driver.
    """


class UnfitWorkerError(RuntimeError):
    """This worker cannot do the work of its driver; another may."""


class ErrorKeeper(Protocol):
    """Where the errors of a trial are kept."""

    def note(self, error: BaseException) -> None:
        """Keep the error of an attempt that may be tried again."""

    def count(self) -> int:
        """Return how many attempts of this trial have raised."""

    def settle(self, error: BaseException) -> None:
        """Keep the error that is the last one."""


class Attempt:
    """The one place where the errors of a try of a trial arrive, whatever of it is at work.

    | what is raised | outcome | cause |
    |---|---|---|
    | an OSError of a full or read-only disk | "unwritable" | |
    | UnfitWorkerError | "blocked" | |
    | StorageError; before there is a store to keep it in, StoreError and any OSError | "blocked" | |
    | StoreError | "blocked", and kept | infrastructure |
    | NotApplicableError | "failed" at once | not applicable |
    | any other ValueError | "failed" at once | input |
    | torch's OutOfMemoryError, MemoryError | tried again, "failed" at the last of `MAX_ERRORS` | memory |
    | anything else in a file of a user's own | "failed" at once for a ValueError, else the same | own file |
    | any other OSError | the same | infrastructure |
    | anything else, SystemExit too | the same; "failed" at once where it cannot be kept | code |

    "blocked" and "unwritable" are faults of the store and charge nothing to a trial. "Tried again" means that
    an AttemptError is raised, upon which Tune starts another attempt.
    """

    def __init__(self) -> None:
        """Begin with no place to keep errors in; `keep_in` names it as soon as it is known."""
        self._keeper: ErrorKeeper | None = None
        self._ended: Result | None = None

    def keep_in(self, keeper: ErrorKeeper) -> None:
        """Keep errors there from now on."""
        self._keeper = keeper

    def run(self, work: Callable[[], Result]) -> Result:
        """Return the result of some work, or the outcome of what it raised.

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
        """Take what is raised within a block; the next `run` returns its outcome.

        Raises:
            AttemptError: another attempt is to follow.
        """
        try:
            yield
        except (Exception, SystemExit) as error:
            if isinstance(error, AttemptError) or hasattr(error, "ray_terminate_msg"):
                raise  # told of already; or Ray ends this worker
            self._ended = self._end(error)

    def _end(self, error: BaseException) -> Result:
        if takes_no_more(error):
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
            reason = f"{describe_error(error)}; this could not be kept: {describe_error(second)}"
            return _stop("blocked", reason)

    def _keep(self, error: BaseException, keeper: ErrorKeeper) -> Result:
        is_blocked = isinstance(error, StoreError)
        is_final = isinstance(error, ValueError) and not is_blocked
        if not is_final:
            keeper.note(error)
        if is_blocked:
            return _stop("blocked", str(error))
        if is_final or keeper.count() >= MAX_ERRORS:
            keeper.settle(error)
            return _fail(error)
        raise AttemptError(describe_error(error)) from None


def _stop(outcome: str, reason: str) -> Result:
    return {"outcome": outcome, "reason": reason, DONE: True}


def _fail(error: BaseException) -> Result:
    told = {"reason": describe_error(error), "cause": find_cause(error), "traceback": describe_way(error)}
    return {"outcome": "failed", DONE: True} | told


def describe_error(error: BaseException) -> str:
    """Return an error in one line, with its own where it arose in a file of a user's own."""
    return " ".join((describe_own(error) or say_error(error)).split())


def describe_way(error: BaseException) -> str:
    """Return the traceback of an error."""
    return "".join(traceback.format_exception(error))


def find_cause(error: BaseException) -> str:
    """Return which of `CAUSES` an error belongs to."""
    if isinstance(error, NotApplicableError):
        return NOT_APPLICABLE
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "memory"
    if isinstance(error, StoreError | StorageError):
        return "infrastructure"
    if find_place(error) is not None:
        return "own file"
    if isinstance(error, OSError):
        return "infrastructure"
    return "input" if isinstance(error, ValueError) else "code"


def describe_failure(values: StageValues, error: BaseException, trial: str) -> Failure:
    """Return an error as a store keeps it with a stage."""
    return Failure(
        key=stage_key(values),
        kind=str(values.get("kind")),
        stage=values,
        error=describe_error(error),
        traceback=describe_way(error),
        provenance=_describe_place(values) | {"trial": trial},
        cause=find_cause(error),
    )


def _describe_place(values: StageValues) -> dict[str, Any]:
    try:
        return describe_machine(stage_from_dict(values).execution)
    except Exception:  # it may be the very error that is to be kept
        return {"host": socket.gethostname()}


def count_own(errors: Iterable[Failure], trial: str) -> int:
    """Return how many of these errors are of a trial; lost workers leave none."""
    return sum(error.provenance.get("trial") == trial for error in errors)


class StageErrors:
    """Keeps the errors of a trial with the stages that it trains."""

    def __init__(self, store: Store, stages: Sequence[StageValues], trial: str) -> None:
        """Keep errors with these stages, those without a result first of all."""
        self._store = store
        self._stages = {stage_key(values): values for values in stages}
        self._trial = trial

    def note(self, error: BaseException) -> None:
        # What comes after the last result, such as measuring it, is charged to all stages alike.
        for key in self._list_unfinished() or self._stages:
            self._store.note_error(describe_failure(self._stages[key], error, self._trial))

    def count(self) -> int:
        return max(count_own(self._store.load_errors(key), self._trial) for key in self._stages)

    def settle(self, error: BaseException) -> None:
        for key in self._list_unfinished():
            self._store.mark_failed(describe_failure(self._stages[key], error, self._trial))

    def _list_unfinished(self) -> list[str]:
        return [key for key in self._stages if self._store.load_record(key) is None]
