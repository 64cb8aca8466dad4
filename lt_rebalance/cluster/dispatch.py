"""Run a plan on Ray Tune: one Tuner whose searcher releases a stage when what it builds on is done.

Tune only schedules. The store holds the truth, so Tune's own files are temporary and a run is resumed by
scanning the store.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.search import Searcher

from lt_rebalance.cluster.faults import (
    StoreFaults,
    describe_lost_worker,
)
from lt_rebalance.cluster.resources import Resources
from lt_rebalance.cluster.trainable import StageTrainable, trial_config
from lt_rebalance.cluster.tuner import run_searcher
from lt_rebalance.ground.errors import attempt
from lt_rebalance.monitoring.tensorboard.naming import name_runs
from lt_rebalance.monitoring.tensorboard.writer import RunEvents
from lt_rebalance.stages.arithmetic import stage_flop
from lt_rebalance.stages.observer import Watch
from lt_rebalance.stages.progress import Progress
from lt_rebalance.store import Store
from lt_rebalance.store.records import Failure
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.plan import Schedule, describe_plan
from lt_rebalance.studies.stage import AnyStage


class StageSearcher(Searcher):
    """Feeds Tune with stages as they become ready, and settles each one by what the store holds."""

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
        self.faults = StoreFaults(store.location)

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the next ready stages, as lanes of one trial; None while all wait; FINISHED at the end."""
        stages = self._schedule.next_ready(self._count_lanes())
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
        """Return how many lanes a trial may have so that the ready stages keep every free slot busy."""
        free_slots = max(1, self._resources.num_slots - len(self._running))
        return min(self._resources.max_lanes, max(1, math.ceil(self._schedule.num_ready / free_slots)))

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Pass on how far a trial is."""
        if "round" in result:
            stages = self._running[trial_id]
            for stage in stages:
                train_s = result["train_s"] / len(stages)
                self._progress.advance(stage, result["round"], result["num_rounds"], train_s)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Settle the stages of a trial, after its last retry."""
        self.faults.note(self._running[trial_id][0], result or {})
        for stage in self._running.pop(trial_id):
            with self.faults.kept():
                self._settle(stage, result or {}, error=error)

    def _settle(self, stage: AnyStage, result: Mapping[str, Any], *, error: bool) -> None:
        self._ledger.refresh(stage.key)
        has_failed = error or result.get("outcome") == "failed"
        if has_failed and self._ledger.state(stage.key) == "missing":  # the worker could not keep why
            self._store.mark_failed(_describe_failure(stage, {} if error else result))
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

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: the store is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: the store is the state."""

    def __getstate__(self) -> dict[str, Any]:
        """Leave everything out of the file that Tune writes of a Tuner and that is never read."""
        return {}


def _describe_failure(stage: AnyStage, told: Mapping[str, Any]) -> Failure:
    """Return the failure that a trial told of; one that told nothing has lost its workers."""
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

    `check_interrupt` is called several times a second; what it raises ends the run at once. `driver` is the
    name of the note by which this process can be seen to live.

    Returns when nothing can be run any more; the ledger then says what there is. A stage that fails takes
    only those with it that build on it.

    Raises:
        StorageError: the store cannot be reached or takes no more; what is finished is in it.
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
