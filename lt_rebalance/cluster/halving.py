"""Run a search on Ray Tune: Optuna suggests, successive halving stops, the journal records."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from lt_rebalance.cluster.faults import StoreFaults, describe_lost_worker
from lt_rebalance.cluster.resources import Resources
from lt_rebalance.cluster.rungs import RungTrainable, rung_result, rung_trial_config
from lt_rebalance.cluster.stateless import Stateless
from lt_rebalance.cluster.tuner import run_searcher
from lt_rebalance.search.account import SearchBudget, Trial
from lt_rebalance.search.journal import SearchJournal
from lt_rebalance.search.search import Rung, Search
from lt_rebalance.store import Store
from lt_rebalance.store.records import Failure

Show = Callable[[Trial], None]


class TrialSearcher(Stateless, OptunaSearch):
    """Asks Optuna for trials and records the end of each: complete, pruned, diverged or failed.

    Trials that were running when the search was last stopped come first. They resume from the store; the
    scheduler knows their recorded rungs, which they have passed, and does not judge them there again.
    """

    def __init__(
        self,
        journal: SearchJournal,
        store: Store,
        data_dir: str | None,
        budget: SearchBudget,
        resources: Resources,
        scheduler: AsyncHyperBandScheduler | None,
        show: Show,
    ) -> None:
        objectives = list(journal.search.objectives)
        is_single = len(objectives) == 1
        super().__init__(
            space=journal.suggest,
            metric=objectives[0] if is_single else objectives,
            mode="max" if is_single else ["max"] * len(objectives),
            study_name=journal.search.name,
            storage=journal.storage,
            sampler=journal.make_sampler(0),
        )
        self._journal = journal
        self._search = journal.search
        self._store = store
        self._where = store.location, data_dir, resources.num_devices
        self._budget = budget
        self._scheduler = scheduler
        self._show = show
        self._in_flight = journal.in_flight()
        self._running: dict[str, tuple[int, tuple[Rung, ...]]] = {}
        self.faults = StoreFaults(store.location)

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the next trial; FINISHED when the budget is spent."""
        number = len(self._journal.trials())
        if self._in_flight:
            self._ot_trials[trial_id] = self._in_flight.pop(0)
            number = self._ot_trials[trial_id].number
            # Tune has another name for it now than the number by which the scheduler knows its rungs.
            for _, shown in self._scheduler._brackets[0]._rungs if self._scheduler else ():
                if number in shown:
                    shown[trial_id] = shown.pop(number)
        elif not self._journal.has_more(self._budget):
            finished: Any = Searcher.FINISHED  # a string, which Ray's own signature leaves out
            return finished  # type: ignore[no-any-return]
        study: Any = self._ot_study  # Ray has no annotation for it
        study.sampler = self._journal.make_sampler(number)
        values: Any = super().suggest(trial_id)
        ladder = self._search.ladder(values)
        self._running[trial_id] = (number, ladder)
        if not (trial := self._journal.trials()[number]).rungs:
            self._show(trial)
        return rung_trial_config(ladder, self._search.objectives, *self._where)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Record the result of a trial at a rung."""
        if "round" in result:
            number, _ = self._running[trial_id]
            with self.faults.kept():
                self._journal.note_rung(number, rung_result(result, self._search.objectives))
                self._show(self._journal.trials()[number])

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Record the end of a trial, after its last retry, or when the scheduler stops it.

        A trial that a fault of the store has ended is left open, and continues when the search is run again.
        """
        number, ladder = self._running.pop(trial_id)
        result = result or {}
        if self.faults.suspends(f"trial {number}", result):
            return
        with self.faults.kept():
            self._settle(number, ladder, result, error=error)

    def _settle(self, number: int, ladder: tuple[Rung, ...], result: dict[str, Any], *, error: bool) -> None:
        rung = rung_result(result, self._search.objectives) if "round" in result else None
        outcome = "failed" if error else result.get("outcome", "failed")
        state = {"finished": "complete", "running": "pruned", "diverged": "diverged"}.get(outcome, "failed")
        reason = result.get("reason") or last_error(ladder, self._store) if state == "failed" else ""
        self._journal.settle(number, state, reason, rung)
        for stage in (stage for rung in ladder for group in rung.groups for stage in group):
            self._store.discard_checkpoints(stage.key)
        self._show(self._journal.trials()[number])


def find_failure(ladder: tuple[Rung, ...], store: Store) -> Failure | None:
    """Return the failure of the failed stage of a ladder; None if its worker died."""
    for stage in (stage for rung in ladder for group in rung.groups for stage in group):
        failure = store.load_failure(stage.key)
        if failure is None and store.load_record(stage.key) is None:
            failure = next(reversed(store.load_errors(stage.key)), None)
        if failure is not None:
            return failure
    return None


def last_error(ladder: tuple[Rung, ...], store: Store) -> str:
    """Return the error of the failed stage of a ladder, or that its worker died."""
    failure = find_failure(ladder, store)
    return describe_lost_worker() if failure is None else failure.error


def make_scheduler(search: Search, trials: list[Trial]) -> AsyncHyperBandScheduler | None:
    """Return the scheduler that stops trials early, with the rungs of these under their numbers; or None."""
    if search.scheduler == "none":
        return None
    (objective,) = search.objectives
    scheduler = AsyncHyperBandScheduler(
        time_attr="round",
        metric=objective,
        mode="max",
        grace_period=search.rung_rounds[0],
        max_t=search.rung_rounds[-1],
        reduction_factor=search.reduction,
    )
    # This scheduler reads nothing of controller and trial but the trial's name.
    controller: Any = None
    for trial in trials:
        earlier: Any = SimpleNamespace(trial_id=trial.number)
        scheduler.on_trial_add(controller, earlier)
        for rung in trial.rungs:
            result = {"round": rung.round, objective: rung.mean(objective)}
            scheduler.on_trial_result(controller, earlier, result)
    return scheduler


def run_search(
    journal: SearchJournal,
    store: Store,
    data_dir: str | None,
    budget: SearchBudget,
    resources: Resources,
    show: Show,
    check_interrupt: Callable[[], None],
) -> None:
    """Run trials on the Ray that this process is connected to until the budget is spent.

    `check_interrupt` is called several times a second; its error ends the search immediately.
    """
    scheduler = make_scheduler(journal.search, journal.trials())
    searcher = TrialSearcher(journal, store, data_dir, budget, resources, scheduler, show)
    run_searcher(RungTrainable, searcher, resources, searcher.faults.before(check_interrupt), scheduler)
    searcher.faults.check()
