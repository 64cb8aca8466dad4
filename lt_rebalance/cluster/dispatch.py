"""Run a plan on Ray Tune: one Tuner whose searcher releases a stage when what it builds on is done.

Tune only schedules. The store holds the truth, so Tune's own files are temporary and a run is resumed by
scanning the store.
"""

import logging
import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from lt_rebalance.cluster.faults import (
    MAX_LOST_WORKERS,
    StoreFaults,
    WorkerFaults,
    describe_lost_worker,
    lost_ray_told,
    name_trial,
)
from lt_rebalance.cluster.resources import Resources
from lt_rebalance.cluster.session import describe_room
from lt_rebalance.cluster.trainable import StageTrainable, trial_config
from lt_rebalance.cluster.waiting import Waiting
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

_log = logging.getLogger(__name__)


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
        self._schedule.finish(stage.key, releases=self._ledger.state(stage.key) == "complete")
        self._progress.finish(stage)

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
    run_searcher(StageTrainable, searcher, resources, searcher.faults.before(check_interrupt))
    searcher.faults.check()


def run_trials(
    trainable: type[tune.Trainable],
    resources: Resources,
    check_interrupt: Callable[[], None],
    *,
    num_pending: int,
    param_space: Any = None,  # Any: whatever Tune takes
    callbacks: Sequence[tune.Callback] = (),
    checkpoints: tune.CheckpointConfig | None = None,
    scratch_parent: str | None = None,
    **tune_options: Any,  # Any: fields of TuneConfig
) -> None:
    """Run one Tuner to its end and keep nothing of Tune's own files.

    Args:
        num_pending: how many trials may wait to be started.
        checkpoints: what Tune keeps of trials for a scheduler; None for nothing.
        scratch_parent: a directory that all nodes see, where trials hand checkpoints on; None for the
            temporary directory of this machine.

    Raises:
        ClusterError: Ray was lost, or workers cannot start.
    """
    _quiet_tune(num_pending)
    workers = WorkerFaults()

    def check() -> None:
        workers.check()
        check_interrupt()

    with tempfile.TemporaryDirectory(prefix="lt_rebalance-tune-", dir=scratch_parent) as scratch_dir:
        tuner = tune.Tuner(
            tune.with_resources(trainable, resources.placement()),
            param_space=param_space,
            tune_config=tune.TuneConfig(reuse_actors=True, trial_dirname_creator=_trial_name, **tune_options),
            run_config=tune.RunConfig(
                name="study",
                storage_path=scratch_dir,
                verbose=0,
                callbacks=[_StepCallback(check), workers, WaitCallback(resources), *callbacks],
                failure_config=tune.FailureConfig(max_failures=MAX_LOST_WORKERS),
                # By itself Tune would save every trial at its end, and fail where nodes share no disk.
                checkpoint_config=checkpoints or tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        with lost_ray_told():
            tuner.fit()


def run_searcher(
    trainable: type[tune.Trainable],
    searcher: Searcher,
    resources: Resources,
    check_interrupt: Callable[[], None],
    scheduler: TrialScheduler | None = None,
) -> None:
    """Run what a searcher suggests until it has finished."""
    run_trials(
        trainable,
        resources,
        check_interrupt,
        num_pending=resources.num_slots,
        search_alg=searcher,
        scheduler=scheduler,
        num_samples=-1,
        max_concurrent_trials=resources.num_slots,
    )


class WaitCallback(tune.Callback):
    """Says what a run waits for when no trial has told of anything for a while."""

    def __init__(self, resources: Resources, waiting: Waiting | None = None) -> None:
        """Begin to wait for trials that ask for these resources."""
        self._resources = resources
        self._waiting = waiting or Waiting()
        for name in ("on_trial_start", "on_trial_result", "on_trial_complete", "on_trial_recover"):
            setattr(self, name, self._note_event)

    def _note_event(self, *_: Any, **info: Any) -> None:
        self._waiting.note_event()

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self._waiting.look(lambda: self._describe(trials))

    def _describe(self, trials: Sequence[Trial]) -> str:
        if running := [trial for trial in trials if trial.status == Trial.RUNNING]:
            others = f" and {len(running) - 1} more" if len(running) > 1 else ""
            return f"for a sign of {name_trial(running[0])}{others}, in training"
        return f"for room for a trial, which asks for {self._resources}; {describe_room()}"

    def __getstate__(self) -> dict[str, Any]:
        """Leave everything out of the file that Tune writes of a Tuner and that is never read."""
        return {}


class _StepCallback(tune.Callback):
    """Calls a function at every turn of Tune's loop, outside of Ray's native code."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self._call()

    def __getstate__(self) -> dict[str, Any]:
        """Leave everything out of the file that Tune writes of a Tuner and that is never read."""
        return {}


def _trial_name(trial: Trial) -> str:
    return str(trial.trial_id)


def _quiet_tune(num_pending: int) -> None:
    """Set the switches that Tune reads from the environment."""
    os.environ |= {
        # Results go to the store; Tune's loggers and snapshots would only cost time.
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_GLOBAL_CHECKPOINT_S": "3600",
        # A searcher gets one pending trial unless told otherwise.
        "TUNE_MAX_PENDING_TRIALS_PG": str(num_pending),
        # A trial that fails or is blocked ends with a result that has no scores.
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
        # The command decides what Ctrl-C does.
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        # The newer output prints a banner however quiet it is told to be.
        "RAY_AIR_NEW_OUTPUT": "0",
    }
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
