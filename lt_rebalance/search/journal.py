"""The journal of a search: Optuna's study of its trials, which survives the death of the process.

Optuna appends one line of JSON per operation, or one object if files cannot grow; no pickles. One process at
a time owns it.
"""

import contextlib
import fcntl
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from lt_rebalance.ground.errors import StorageError
from lt_rebalance.ground.values import parse_json
from lt_rebalance.methods.domains import Choice, Domain, Value
from lt_rebalance.search.account import RungResult, SearchBudget, Trial
from lt_rebalance.search.journal_objects import OPERATION, ObjectJournal, describe_owned
from lt_rebalance.search.search import Search, Values
from lt_rebalance.store import Store, StoreError
from lt_rebalance.store.account_values import RUNG
from lt_rebalance.store.documents import search_path

JOURNAL_FILE = "journal.jsonl"
DIVERGED_SCORE = 0.0
"""the worst value of an objective"""
_STATES = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    # Complete for Optuna, and worse than all others, so that it avoids them; the attribute "state" has the
    # real state.
    "diverged": TrialState.COMPLETE,
    "failed": TrialState.FAIL,
}


class SearchJournal:
    """The trials of a search in Optuna's storage. Use `open_journal`."""

    def __init__(self, search: Search, storage: optuna.storages.JournalStorage) -> None:
        self.search = search
        self.storage = storage
        self.study = optuna.create_study(
            storage=storage,
            study_name=search.name,
            directions=["maximize"] * len(search.objectives),
            load_if_exists=True,
        )

    def enqueue(self, values: Values) -> None:
        """Queue these values for a future trial, unless they are queued or tried already."""
        self.study.enqueue_trial(dict(values), skip_if_exists=True)

    def enqueue_failed(self) -> None:
        """Queue the values of every failed trial for a future trial, once."""
        frozen = self.study.get_trials(deepcopy=False)
        retried = {trial.user_attrs.get("retry_of") for trial in frozen}
        for trial in frozen:
            if trial.state == TrialState.FAIL and trial.number not in retried:
                self.study.enqueue_trial(trial.params, user_attrs={"retry_of": trial.number})

    def has_more(self, budget: SearchBudget) -> bool:
        """Whether another trial may begin: budget remains, or a failed one is to be repeated."""
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        return any("retry_of" in trial.user_attrs for trial in waiting) or not budget.is_spent(self.trials())

    def trials(self) -> list[Trial]:
        """Return every trial that has begun, in order."""
        frozen = self.study.get_trials(deepcopy=False)
        return [_to_trial(trial) for trial in frozen if trial.state != TrialState.WAITING]

    def begin(self) -> int:
        """Begin a trial and return its number."""
        self.study.sampler = self.make_sampler(len(self.trials()))
        trial = self.study.ask()
        self.suggest(trial)
        return trial.number

    def complete_suggestions(self) -> None:
        """Give each trial that was interrupted while it chose its values those that it lacks.

        All its values are drawn again in memory, as its sampler did, so they are those of an undisturbed
        search.
        """
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            missing = [name for name in self.search.space if name not in trial.params]
            if missing:
                drawn = self._draw_again(trial)
                for name in missing:
                    distribution = drawn.distributions[name]
                    value = distribution.to_internal_repr(drawn.params[name])
                    self.storage.set_trial_param(trial._trial_id, name, value, distribution)

    def _draw_again(self, trial: FrozenTrial) -> optuna.trial.Trial:
        """Return a copy of a trial, outside of the storage, that chooses all its values."""
        sampler = self.make_sampler(trial.number)
        memory = optuna.create_study(directions=self.study.directions, sampler=sampler)
        memory.add_trials(self.study.get_trials(deepcopy=False)[: trial.number])
        queued = optuna.trial.create_trial(state=TrialState.WAITING, system_attrs=trial.system_attrs)
        memory.add_trial(queued)  # with the values that were queued for it, if any
        copy = memory.ask()
        self.suggest(copy)
        return copy

    def in_flight(self) -> list[optuna.trial.Trial]:
        """Return the trials that have begun and have not ended."""
        frozen = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [self._handle(trial) for trial in frozen]

    def make_sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """Return the sampler of one trial: a suggestion depends only on seed, number and history.

        So a search that was stopped makes the same suggestions.
        """
        state = np.random.SeedSequence([self.search.sampler_seed, number]).generate_state(1)
        return optuna.samplers.TPESampler(seed=int(state[0]))

    def suggest(self, trial: Any) -> None:  # Any: an Optuna trial, or a stand-in
        """Let a trial choose a value of every setting."""
        for name, domain in self.search.space.items():
            _suggest(trial, name, domain)

    def note_rung(self, number: int, rung: RungResult) -> None:
        """Record the result of a trial at a rung, replacing an earlier one."""
        trial = self._find(number)
        kept = [each for each in _to_trial(trial).rungs if each.round != rung.round]
        handle = self._handle(trial)
        handle.set_user_attr("rungs", [each.to_plain() for each in [*kept, rung]])
        is_single = len(self.search.objectives) == 1
        if is_single and rung.round not in trial.intermediate_values:
            handle.report(rung.mean(self.search.objectives[0]), rung.round)

    def settle(self, number: int, state: str, reason: str = "", rung: RungResult | None = None) -> None:
        """End a trial in one of `TRIAL_STATES`, with its last rung unless that is recorded.

        The whole end is written in one operation first: if it is interrupted after that, opening the journal
        completes it, and before that, the trial has not ended and this rung is not recorded.
        """
        end = {"state": state, "reason": reason, "rung": None if rung is None else rung.to_plain()}
        self._handle(self._find(number)).set_user_attr("end", end)
        self._end(number, end)

    def complete_ends(self) -> None:
        """End the trials whose end was interrupted."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if end := trial.user_attrs.get("end"):
                self._end(trial.number, end)

    def _end(self, number: int, end: Mapping[str, Any]) -> None:
        state: str = end["state"]
        if end["rung"] is not None:
            self.note_rung(number, RungResult.from_plain(end["rung"]))
        trial = self._find(number)
        handle = self._handle(trial)
        handle.set_user_attr("reason", end["reason"])
        handle.set_user_attr("state", state)
        values: Sequence[float] | None = None
        if state == "complete":
            last = _to_trial(trial).rungs[-1]
            values = [last.mean(name) for name in self.search.objectives]
        elif state == "diverged":
            values = [DIVERGED_SCORE] * len(self.search.objectives)
        self.study.tell(handle, values, state=_STATES[state])

    def importance(self) -> dict[str, float]:
        """Return the share of each setting in the variation of the first objective; empty for few trials."""
        complete = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len({trial.values[0] for trial in complete if trial.values}) < 2:
            return {}
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # this evaluator minimizes: hence the sign
            shares = optuna.importance.get_param_importances(
                self.study, evaluator=evaluator, target=lambda trial: -trial.values[0]
            )
        return dict(shares)

    def _find(self, number: int) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[number]

    def _handle(self, trial: FrozenTrial) -> optuna.trial.Trial:
        return optuna.trial.Trial(self.study, trial._trial_id)


@contextlib.contextmanager
def open_journal(search: Search, store: Store) -> Iterator[SearchJournal]:
    """Open the journal of a search in a store, as the only process; every trial in it has all its values.

    Raises:
        ValueError: another process has it.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = search_path(search.name)
    with contextlib.ExitStack() as stack:
        backend: BaseJournalBackend
        if store.directory is None:
            backend = ObjectJournal(store.files, search.name, f"{path}/journal")
        else:
            backend = stack.enter_context(_own_file(search.name, store.directory / path))
        yield _replay(search, backend, f"{store.location}: {path}")


def _replay(search: Search, backend: BaseJournalBackend, place: str) -> SearchJournal:
    """Replay a journal and return it; StoreError if that fails."""
    try:
        journal = SearchJournal(search, optuna.storages.JournalStorage(backend))
        for trial in journal.trials():
            _check_trial(trial)
        journal.complete_ends()
        journal.complete_suggestions()
        return journal
    except (StorageError, StoreError):
        raise
    except Exception as error:  # any error of Optuna for operations that it has not written
        raise StoreError(
            f"{place}/{JOURNAL_FILE} is not the journal of a search ({type(error).__name__}: {error}); move "
            "that directory away and run the search again: finished stages of its trials are kept"
        ) from None


def _check_trial(trial: Trial) -> None:
    for rung in trial.rungs:
        RUNG(json.loads(json.dumps(rung.to_plain())))


@contextlib.contextmanager
def _own_file(search: str, directory: Path) -> Iterator[JournalFileBackend]:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / JOURNAL_FILE
    with (directory / "owner").open("a") as owner:
        try:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(describe_owned(search)) from None
        # Left by a process that was killed during a write; no other process can be writing now.
        Path(f"{path}.lock").unlink(missing_ok=True)
        _cut_torn_line(path)
        _check_lines(path)
        # Optuna's other lock is a link, which some disks lack.
        yield JournalFileBackend(str(path), lock_obj=JournalFileOpenLock(str(path)))


def _cut_torn_line(path: Path) -> None:
    """Remove an incomplete last line; Optuna would refuse everything after it."""
    content = path.read_bytes() if path.exists() else b""
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


def _check_lines(path: Path) -> None:
    """Raise a StoreError that names the first line that is not an operation of a journal."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            OPERATION(parse_json(line))
        except ValueError as error:
            raise StoreError(
                f"{path}, line {number}: not an operation of a journal ({error}); remove it if it is torn, "
                f"or move {path.parent} away, and run the search again: finished stages of its trials are "
                "kept"
            ) from None


def _suggest(trial: Any, name: str, domain: Domain) -> Value:
    if isinstance(domain, Choice):
        chosen: Value = trial.suggest_categorical(name, domain.values)
        return chosen
    number: float = trial.suggest_float(name, domain.low, domain.high, log=domain.is_log)
    return number


def _to_trial(frozen: FrozenTrial) -> Trial:
    attributes = frozen.user_attrs
    is_ended = frozen.state.is_finished()
    rungs = tuple(RungResult.from_plain(rung) for rung in attributes.get("rungs", ()))
    return Trial(
        number=frozen.number,
        values=dict(frozen.params) | dict(rungs[-1].values if rungs else {}),
        state=attributes["state"] if is_ended else "running",
        reason=attributes["reason"] if is_ended else "",
        rungs=rungs,
        retry_of=attributes.get("retry_of"),
    )
