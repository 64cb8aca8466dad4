"""Run one Tuner of Ray Tune and keep none of its own files."""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray import tune
from ray.air._internal import usage
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from lt_rebalance.cluster.faults import MAX_LOST_WORKERS, WorkerFaults, lost_ray_told, name_trial
from lt_rebalance.cluster.resources import Resources
from lt_rebalance.cluster.session import describe_room, replaced
from lt_rebalance.cluster.stateless import Stateless
from lt_rebalance.files.private_directory import private_directory
from lt_rebalance.monitoring.waiting import Waiting


def run_trials(
    trainable: type[tune.Trainable],
    resources: Resources,
    check_interrupt: Callable[[], None],
    *,
    num_pending: int,
    param_space: Any = None,  # Any: arguments of Tune
    callbacks: Sequence[tune.Callback] = (),
    checkpoints: tune.CheckpointConfig | None = None,
    scratch_parent: Path | None = None,
    **tune_options: Any,  # Any: fields of TuneConfig
) -> None:
    """Run one Tuner to its end and keep none of Tune's own files.

    Args:
        num_pending: maximum number of trials that wait for a start.
        checkpoints: checkpoints that Tune keeps for a scheduler; None for none.
        scratch_parent: a directory that all nodes see, in which trials pass checkpoints; None for a private
            one of this machine.

    Raises:
        ClusterError: Ray was lost, or workers cannot start.
    """
    _quiet_tune(num_pending)
    workers = WorkerFaults()

    def check() -> None:
        workers.check()
        check_interrupt()

    with private_directory(parent=scratch_parent) as scratch_dir:
        tuner = tune.Tuner(
            tune.with_resources(trainable, tune.PlacementGroupFactory([resources.bundle()])),
            param_space=param_space,
            tune_config=tune.TuneConfig(reuse_actors=True, trial_dirname_creator=_trial_name, **tune_options),
            run_config=tune.RunConfig(
                name="study",
                storage_path=str(scratch_dir),
                verbose=0,
                callbacks=[workers, StepCallback(resources, check), *callbacks],
                failure_config=tune.FailureConfig(max_failures=MAX_LOST_WORKERS),
                # By default Tune saves every trial at its end, and fails if nodes share no disk.
                checkpoint_config=checkpoints or tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        # Tune would count callbacks for Ray's usage reports, for which it imports MLflow and W&B.
        with lost_ray_told(), replaced(usage, "tag_callbacks", lambda callbacks: False):
            tuner.fit()


def run_searcher(
    trainable: type[tune.Trainable],
    searcher: Searcher,
    resources: Resources,
    check_interrupt: Callable[[], None],
    scheduler: TrialScheduler | None = None,
) -> None:
    """Run the suggestions of a searcher until it has finished."""
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


class StepCallback(Stateless, tune.Callback):
    """Checks in every iteration of Tune's loop, outside of Ray's native code, whether a run has to end.

    Reports what a run waits for when no trial has reported for a while.
    """

    def __init__(self, resources: Resources, check: Callable[[], None]) -> None:
        """Begin to wait for trials that need these resources."""
        self._resources, self._check, self._waiting = resources, check, Waiting()
        for name in ("on_trial_start", "on_trial_result", "on_trial_complete", "on_trial_recover"):
            setattr(self, name, self._note_event)

    def _note_event(self, *_: Any, **info: Any) -> None:
        self._waiting.note_event()

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self._check()
        self._waiting.look(lambda: self._describe(trials))

    def _describe(self, trials: Sequence[Trial]) -> str:
        if running := [trial for trial in trials if trial.status == Trial.RUNNING]:
            others = f" and {len(running) - 1} more" if len(running) > 1 else ""
            return f"for a report of {name_trial(running[0])}{others}, in training"
        return f"for free resources for a trial, which needs {self._resources}; {describe_room()}"


def _trial_name(trial: Trial) -> str:
    return str(trial.trial_id)


def _quiet_tune(num_pending: int) -> None:
    """Set the environment variables that Tune reads."""
    os.environ |= {
        # Results go to the store; Tune's loggers and snapshots would only cost time.
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_GLOBAL_CHECKPOINT_S": "3600",
        # By default a searcher gets one pending trial.
        "TUNE_MAX_PENDING_TRIALS_PG": str(num_pending),
        # The final result of a failed or blocked trial has no scores.
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
        # The command decides what Ctrl-C does.
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        # The newer output prints a banner at every verbosity.
        "RAY_AIR_NEW_OUTPUT": "0",
    }
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
