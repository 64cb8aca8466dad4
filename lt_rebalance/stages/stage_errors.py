"""Describe the errors of stages, and record them in a store."""

import socket
import traceback
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lt_rebalance.ground.errors import NotApplicableError, StorageError
from lt_rebalance.ground.own_file import describe_own, find_place, say_error
from lt_rebalance.stages.machine import describe_machine
from lt_rebalance.store import Store, StoreError
from lt_rebalance.store.records import NOT_APPLICABLE, Failure, stage_key
from lt_rebalance.studies.stage import stage_from_dict

StageValues = Mapping[str, Any]
"""result of `Stage.to_dict`; errors are recorded even if no stage can be made of it"""


def describe_error(error: BaseException) -> str:
    """Return an error in one line, with the line of a user's file in which it arose."""
    return " ".join((describe_own(error) or say_error(error)).split())


def describe_way(error: BaseException) -> str:
    """Return the traceback of an error."""
    return "".join(traceback.format_exception(error))


def find_cause(error: BaseException) -> str:
    """Return the cause of an error, one of `CAUSES`."""
    import torch  # here: the process of a sweep imports this module, and no torch

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
    """Return an error as stores record it with a stage."""
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
    except Exception:  # it may be the error itself
        return {"host": socket.gethostname()}


def count_own(errors: Iterable[Failure], trial: str) -> int:
    """Return how many of these errors belong to a trial; lost workers record none."""
    return sum(error.provenance.get("trial") == trial for error in errors)


class StageErrors:
    """Records the errors of a trial with the stages that it trains."""

    def __init__(self, store: Store, stages: Sequence[StageValues], trial: str) -> None:
        """Record errors with these stages, preferably those without a result."""
        self._store = store
        self._stages = {stage_key(values): values for values in stages}
        self._trial = trial

    def note(self, error: BaseException) -> None:
        # An error after the last result, for example in testing, counts for all stages alike.
        for key in self._list_unfinished() or self._stages:
            self._store.note_error(describe_failure(self._stages[key], error, self._trial))

    def count(self) -> int:
        return max(count_own(self._store.load_errors(key), self._trial) for key in self._stages)

    def settle(self, error: BaseException) -> None:
        """Mark the only stage without a result as failed; of several, one may have failed all the others."""
        unfinished = self._list_unfinished()
        if len(unfinished) == 1:
            self._store.mark_failed(describe_failure(self._stages[unfinished[0]], error, self._trial))
        elif unfinished:
            self.note(error)

    def _list_unfinished(self) -> list[str]:
        return [key for key in self._stages if self._store.load_record(key) is None]
