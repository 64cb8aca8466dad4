"""Run a plan on Ray Tune: the searcher of one Tuner releases a stage when the stages it needs are done.

Tune only schedules: the store holds the truth, and a run is resumed by scanning it.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.search import Searcher

from lt_rebalance.cluster.attempt import MAX_ERRORS
from lt_rebalance.cluster.faults import StoreFaults, describe_lost_worker
from lt_rebalance.cluster.resources import Resources
from lt_rebalance.cluster.stateless import Stateless
from lt_rebalance.cluster.trainable import StageTrainable, trial_config
from lt_rebalance.cluster.tuner import run_searcher
from lt_rebalance.ground.errors import StorageError, attempt
from lt_rebalance.monitoring.tensorboard.naming import name_runs
from lt_rebalance.monitoring.tensorboard.writer import RunEvents
from lt_rebalance.stages.arithmetic import stage_flop
from lt_rebalance.stages.progress import Progress
from lt_rebalance.stages.watch import Watch
from lt_rebalance.store import Store
from lt_rebalance.store.records import Failure
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.plan import Schedule, describe_plan
from lt_rebalance.studies.stage import AnyStage


class StageSearcher(Stateless, Searcher):
    """Gives Tune stages as they become ready, and records the end of each as the store has it."""

    def __init__(
        self,
        schedule: Schedule,
        ledger: Ledger,
        store: Store,
        data_dir: str | None,
        resources: Resources,
        progress: Progress,
        watch: Watch,
    ) -> None:
        super().__init__()
        self._resources = resources
        self._schedule = schedule
        self._ledger = ledger
        self._store = store
        self._data_dir = data_dir
        self._progress = progress
        self._watch = watch
        self._running: dict[str, list[AnyStage]] = {}
        self._halves: list[list[AnyStage]] = []
        self._num_blocked = 0
        self.faults = StoreFaults(store.location)

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the next ready stages, as lanes of one trial; None if all wait; FINISHED at the end."""
        stages = self._halves.pop() if self._halves else self._schedule.next_ready(self._count_lanes())
        if not stages:
            finished: Any = Searcher.FINISHED  # a string, which Ray's own signature leaves out
            return finished if self._schedule.is_exhausted else None
        self._running[trial_id] = stages
        for stage in stages:
            self._progress.start(stage)
        return trial_config(
            stages,
            self._store.location,
            self._data_dir,
            watch=self._watch.of([stage.key for stage in stages]),
            num_devices=self._resources.num_devices,
            kept=[twin.key for stage in stages if (twin := self._schedule.find_twin(stage.key))],
        )

    def _count_lanes(self) -> int:
        """Return the number of lanes per trial that keeps all free slots busy with the ready stages."""
        free_slots = max(1, self._resources.num_slots - len(self._running))
        return min(self._resources.max_lanes, max(1, math.ceil(self._schedule.num_ready / free_slots)))

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Report the progress of a trial."""
        if "round" in result:
            self._progress.note_round(self._running[trial_id], result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Record the end of the stages of a trial, after its last retry."""
        self._progress.show_round(self._running[trial_id], result or {})
        self.faults.note(self._running[trial_id][0], result or {})
        with self.faults.kept():
            self._note_blocked(result or {})
        stages = self._running.pop(trial_id)
        has_failed = error or (result or {}).get("outcome") == "failed"
        with self.faults.kept():
            if has_failed and len(unfinished := self._list_unfinished(stages)) > 1:
                # One lane may have failed all, so that each half is tried again.
                middle = len(unfinished) // 2
                self._halves += [unfinished[middle:], unfinished[:middle]]
                stages = [stage for stage in stages if stage not in unfinished]
        for stage in stages:
            with self.faults.kept():
                self._settle(stage, result or {}, error=error)

    def _list_unfinished(self, stages: list[AnyStage]) -> list[AnyStage]:
        for stage in stages:
            self._ledger.refresh(stage.key)
        return [stage for stage in stages if stage.key not in self._ledger.records]

    def _note_blocked(self, result: Mapping[str, Any]) -> None:
        """Raise a StorageError at the third trial in a row that its node could not run: all would end so."""
        is_blocked = result.get("outcome") == "blocked" and "is_of_stage" not in result
        self._num_blocked = self._num_blocked + 1 if is_blocked else 0
        if self._num_blocked >= MAX_ERRORS:
            raise StorageError(
                f"{self._num_blocked} trials in a row could not be run, the last on {result.get('hostname')} "
                f"({result.get('node_ip')}): {result['reason']}; fix that node, or take it out of the cluster"
            )

    def _settle(self, stage: AnyStage, result: Mapping[str, Any], *, error: bool) -> None:
        self._ledger.refresh(stage.key)
        has_failed = error or result.get("outcome") == "failed"
        if has_failed and stage.key not in self._ledger.records:
            failure, found = _describe_failure(stage, {} if error else result), self._ledger.failures
            if stage.key not in found or found[stage.key].error != failure.error:  # an earlier one, or none
                self._store.mark_failed(failure)
                self._ledger.refresh(stage.key)
        if self._ledger.state(stage.key) == "failed":
            attempt(lambda: RunEvents(self._store, stage.kind, self._watch.runs[stage.key]).fail())
        is_complete = self._ledger.state(stage.key) == "complete"
        twin, came_along = self._schedule.find_twin(stage.key), False
        if twin is not None:
            self._ledger.refresh(twin.key)
            came_along = self._ledger.state(twin.key) == "complete"
        self._schedule.finish(stage.key, releases=is_complete, came_along=came_along)
        self._progress.finish(stage)
        if twin is not None and came_along:
            self._progress.finish(twin)


def _describe_failure(stage: AnyStage, told: Mapping[str, Any]) -> Failure:
    """Return the failure that a trial reported; without a report, its workers were lost."""
    return Failure(
        key=stage.key,
        kind=stage.kind,
        stage=stage.to_dict(),
        error=told.get("reason") or describe_lost_worker(),
        traceback=told.get("traceback", ""),
        provenance={},
        cause=told.get("cause", "infrastructure"),
    )


def run_plan(
    ledger: Ledger,
    store: Store,
    data_dir: str | None,
    resources: Resources,
    progress: Progress,
    check_interrupt: Callable[[], None],
    driver: str = "",
) -> None:
    """Run every pending stage of a plan on the Ray that this process is connected to.

    `check_interrupt` is called several times a second; its error ends the run immediately. `driver` is the
    name of the note with this process's heartbeat.

    Returns when nothing more can be run; the ledger then has the results. A failed stage only prevents stages
    that need it.

    Raises:
        StorageError: the store cannot be reached or written; finished results are in it.
        ClusterError: Ray was lost, or workers cannot start.
    """
    schedule = Schedule(ledger.pending(), stage_flop)
    watch = Watch(driver=driver, runs=name_runs(describe_plan(ledger.plan)))
    searcher = StageSearcher(schedule, ledger, store, data_dir, resources, progress, watch)

    def check() -> None:
        progress.tick()
        check_interrupt()

    run_searcher(StageTrainable, searcher, resources, searcher.faults.before(check))
    searcher.faults.check()
