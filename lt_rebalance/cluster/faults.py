"""Distinguish faults that end a whole run from those of one trial, and report lost workers."""

import contextlib
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial

from lt_rebalance.cluster.attempt import MAX_ERRORS, AttemptError
from lt_rebalance.cluster.stateless import Stateless
from lt_rebalance.ground.disk import cannot_be_written, describe_disk
from lt_rebalance.ground.errors import ClusterError, StorageError
from lt_rebalance.studies.stage import stage_from_dict

MAX_LOST_WORKERS = 20
"""how often a trial continues after its worker process or node was lost; for errors, see `MAX_ERRORS`"""
_START_FAILED = "error raised in its creation task"
"""Ray's words for a worker that raised before it had a trial"""
_ADDRESS = re.compile(r"\bip=([^,)\s]+)")
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


_log = logging.getLogger(__name__)


class StoreFaults:
    """Records a fault of the whole store, which Tune would treat as one of the current trial and continue."""

    def __init__(self, location: str) -> None:
        """Begin without faults of the store at a location."""
        self._location = location
        self._first: StorageError | None = None

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Record errors raised within a block."""
        try:
            yield
        except OSError as error:
            if cannot_be_written(error):
                self._keep_unwritable(str(error))
            elif isinstance(error, StorageError):
                self._first = self._first or error
            else:
                raise

    def note(self, subject: object, result: Mapping[str, Any]) -> None:
        """Log why a trial could not continue, and record it if it is a fault of the whole store."""
        if result.get("outcome") == "unwritable":
            self._keep_unwritable(result["reason"])
        elif result.get("outcome") == "blocked":
            _log.warning("%s: %s", subject, result["reason"])

    def suspends(self, subject: object, result: Mapping[str, Any]) -> bool:
        """Return whether a trial of a search is to continue when the search is run again, and record why."""
        outcome = result.get("outcome")
        if outcome == "unwritable":
            self._keep_unwritable(result["reason"])
        elif outcome == "blocked":
            self._first = self._first or StorageError(f"{subject}: {result['reason']}")
        return outcome in ("unwritable", "blocked")

    def _keep_unwritable(self, reason: str) -> None:
        text = f"the store cannot be written: {reason}; {describe_disk(self._location)}"
        self._first = self._first or StorageError(text)

    def check(self) -> None:
        """Raise the recorded fault."""
        if self._first is not None:
            raise self._first

    def before(self, check_interrupt: Callable[[], None]) -> Callable[[], None]:
        """Return a check of both."""

        def check() -> None:
            self.check()
            check_interrupt()

        return check


class WorkerFaults(Stateless, tune.Callback):
    """Logs immediately why a trial is retried, and records that workers cannot start.

    Errors of attempts are recorded with the stages. This handles the rest: workers that died, and those whose
    Python cannot import the project. A trial does not cause these, and they would end one after another.
    """

    def __init__(self) -> None:
        """Begin without faults."""
        self._failed_starts: Counter[str] = Counter()
        self._first: ClusterError | None = None

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Log why a trial continues in another worker."""
        self.note(trial.trial_id, name_trial(trial), _last_error(trial), trial.run_metadata.num_failures)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Log why a trial does not continue."""
        self.on_trial_recover(iteration, trials, trial)

    def note(self, trial_id: str, title: str, text: str, num_failures: int) -> None:
        """Log why a trial was stopped.

        Args:
            text: Ray's message.
            num_failures: how often it was stopped.
        """
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        last = lines[-1] if lines else "Ray does not say why"
        if _START_FAILED in text:
            self._failed_starts[trial_id] += 1
            where = found.group(1) if (found := _ADDRESS.search(text)) else "a node"
            words = f"a worker on {where} cannot start: {last}"
            _log.warning("%s: %s (%d of %d)", title, words, self._failed_starts[trial_id], MAX_ERRORS)
            if self._failed_starts[trial_id] >= MAX_ERRORS:
                remedy = "every node needs this version of lt_rebalance and all that it imports"
                self._first = self._first or ClusterError(words, remedy=remedy, was_lost=True)
        elif (mark := f"{AttemptError.__name__}: ") in last:
            _log.warning("%s: %s; it is retried", title, last.partition(mark)[2])
        else:
            reason = last.rpartition("exit detail: ")[2]
            limit = MAX_LOST_WORKERS + 1
            _log.warning("%s: its worker was lost (%d of %d): %s", title, num_failures, limit, reason)

    def check(self) -> None:
        """Raise the recorded fault."""
        if self._first is not None:
            raise self._first


@contextlib.contextmanager
def lost_ray_told() -> Iterator[None]:
    """Raise a ClusterError for errors of Ray or Tune within a block after a process of Ray has died."""
    try:
        yield
    except ray.exceptions.RayError as error:
        raise _describe_loss(error) from error
    except RuntimeError as error:  # Tune wraps unexpected errors
        if not isinstance(error.__cause__, ray.exceptions.RayError):
            raise
        raise _describe_loss(error.__cause__) from error


def _describe_loss(error: Exception) -> ClusterError:
    return ClusterError(f"Ray cannot continue: {' '.join(str(error).split())}", was_lost=True)


def name_trial(trial: Trial) -> str:
    """Return the stages of a trial, in words."""
    config = trial.config or {}
    if "member" in config:
        return f"member {config['member']}"
    try:
        stages = config["stages"] if "stages" in config else config["rungs"][0]["groups"][0]
        return str(stage_from_dict(stages[0]))
    except (KeyError, IndexError, TypeError, ValueError):
        return f"trial {trial.trial_id}"


def _last_error(trial: Trial) -> str:
    """Return Ray's message for the last failure of a trial; Tune appends it to a file."""
    try:
        text = Path(str(trial.error_file)).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return _ESCAPES.sub("", text).rpartition("Failure # ")[2].partition("\n")[2]


def describe_lost_worker() -> str:
    """Return why a trial failed whose worker died repeatedly, without an error of its own."""
    return f"its worker process or node was lost {MAX_LOST_WORKERS + 1} times"
