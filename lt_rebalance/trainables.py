"""Stages as Ray Tune trainables: `CGANTrainable` and `CNNTrainable`, thin classes over `stages`."""

import logging
import statistics
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from ray import tune
from ray.tune.result import DONE

from lt_rebalance.disk import takes_no_more
from lt_rebalance.filesystem import StorageError
from lt_rebalance.machine import describe_machine
from lt_rebalance.observer import TrialObserver, Watch
from lt_rebalance.provenance import driver_source, find_mismatch
from lt_rebalance.records import Failure
from lt_rebalance.stages import StageRun, open_run
from lt_rebalance.store import Store, StoreError, open_store
from lt_rebalance.study import RESULTS_VERSION, AnyStage, ClassifierStage, GeneratorStage, stage_from_dict

TrialConfig = dict[str, Any]

MAX_ERRORS = 3
"""attempts of a trial that may raise; those whose worker was lost are not among them"""

_log = logging.getLogger(__name__)


def trial_config(
    stages: Sequence[AnyStage],
    storage: str,
    data_dir: str | None,
    *,
    watch: Watch | None = None,
    num_devices: float = 1.0,
    driver: Mapping[str, Any] | None = None,
) -> TrialConfig:
    """Return the Tune configuration of the trial that runs these stages, which differ only in the seed.

    Args:
        stages: the lanes of the trial, at least one.
        storage: location of the store that results are committed to.
        data_dir: where the data set lies on the workers; None leaves it to the environment.
        watch: where to show how the trial goes on; without it there are no events.
        num_devices: GPUs, or else CPU cores, that the trial holds.
        driver: the code of the driver; that of this process unless given.
    """
    return {
        "stages": [stage.to_dict() for stage in stages],
        "storage": storage,
        "data_dir": data_dir,
        "watch": (watch or Watch()).to_dict(),
        "num_devices": num_devices,
        "driver": driver_source() if driver is None else driver,
    }


class StageTrainable(tune.Trainable):
    """One trial: stages as lanes, one round a step; each lane commits to the store when it is done.

    The configuration is that of `trial_config`. The first step reads the inputs and takes every lane up where
    its last checkpoint in the store left it. A step returns `round`, `num_rounds`, the numbers of the last
    row of the curves averaged over the lanes, and `outcome`: "running"; "finished"; "failed" after an error
    that trying again cannot mend (ValueError), or after the last of `MAX_ERRORS` others, which is then
    recorded for the stages; "blocked" when an input in the store has gone, or the store itself cannot be
    reached from this node; or "unwritable" when the store takes no more. Of these three, `reason` says why,
    and the last two charge nothing to the stages. Any other error is noted in the store and raised, so that
    Tune tries again.
    """

    stage_types: ClassVar[tuple[type[AnyStage], ...]] = (GeneratorStage, ClassifierStage)

    def setup(self, config: TrialConfig) -> None:
        """Take on a trial.

        Raises:
            ValueError: a stage of a kind that this trainable does not run.
        """
        self._stages = [stage_from_dict(values) for values in config["stages"]]
        for stage in self._stages:
            if not isinstance(stage, self.stage_types):
                known = " and ".join(stage_type.kind for stage_type in self.stage_types)
                raise ValueError(f"{type(self).__name__} runs {known} stages, got a {stage.kind} stage")
        self._data_dir: str | None = config["data_dir"]
        self._num_devices: float = config["num_devices"]
        self._driver: Mapping[str, Any] = config["driver"]
        self._run: StageRun[Any, Any] | None = None
        self._max_lanes: int | None = None
        self._observer: TrialObserver | None = None
        self._refusal = find_mismatch(self._driver) or ""
        self._noted: Exception | None = None
        if self._refusal:
            return
        try:
            self._store = open_existing_store(config["storage"])
        except StoreError as error:
            self._refusal = str(error)
            return
        self._observer = TrialObserver(self._store, self._stages, Watch.from_dict(config["watch"]))

    def reset_config(self, new_config: TrialConfig) -> bool:
        """Take on another trial; nothing of the one before stays."""
        self.cleanup()
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        """End the trial."""
        if self._observer is not None:
            self._observer.close()

    def step(self) -> dict[str, Any]:
        """Train for one round."""
        if self._refusal:
            return _block(self._refusal)
        assert self._observer is not None
        with self._observer.listen():
            result = self._train_round()
        if result[DONE]:
            self._observer.close()
        return result

    def _train_round(self) -> dict[str, Any]:
        try:
            unfinished = self._list_unfinished()
            if not unfinished:
                return {"outcome": "finished", DONE: True}
            run = self._open_run(unfinished)
            run.run_round()
            self._follow(run)
        except torch.OutOfMemoryError as error:
            if self._halve_lanes():
                return {"outcome": "running", DONE: False}
            return self._end_attempt(error)
        except Exception as error:
            return self._end_attempt(error)
        outcome = {"outcome": "finished" if run.is_finished else "running", DONE: run.is_finished}
        return outcome | _summarize(run)

    def _end_attempt(self, error: Exception) -> dict[str, Any]:
        """Keep why this attempt ends and return the outcome, or raise the error for Tune to try again.

        An error that comes by here for a second time, on its way up, is raised as it is.
        """
        if error is self._noted:
            raise error
        if takes_no_more(error):
            return _unwritable(error)
        if isinstance(error, StorageError):
            return _block(str(error))
        _log.error("this attempt ends", exc_info=error)
        is_blocked = isinstance(error, StoreError)
        is_final = isinstance(error, ValueError) and not is_blocked
        try:
            if not is_final:
                self._note_error(error)
                is_final = not is_blocked and self._count_errors() >= MAX_ERRORS
            if is_final:
                for failure in self._describe_failures(error):
                    self._store.mark_failed(failure)
        except StorageError as second:
            return _block(str(second))
        except OSError as second:
            return _unwritable(second)
        if is_blocked:
            return _block(str(error))
        if is_final:
            return {"outcome": "failed", "reason": _describe_error(error), DONE: True}
        self._noted = error
        raise error

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write what each lane needs to go on, for schedulers that pause or copy trials."""
        if self._run is not None:
            for index, stage in enumerate(self._run.stages):
                self._lane_path(checkpoint_dir, stage).write_bytes(self._run.checkpoint_lane(index))

    def load_checkpoint(self, checkpoint_dir: str) -> None:  # type: ignore[override]  # a path, not a dict
        """Go on from what `save_checkpoint` wrote."""
        run = self._open_run(self._list_unfinished())
        for index, stage in enumerate(run.stages):
            path = self._lane_path(checkpoint_dir, stage)
            if path.exists():
                run.restore_lane(index, path.read_bytes())

    def _lane_path(self, checkpoint_dir: str, stage: AnyStage) -> Path:
        return Path(checkpoint_dir, f"lane-{self._stages.index(stage)}.safetensors")

    def _list_unfinished(self) -> list[AnyStage]:
        return [stage for stage in self._stages if self._store.load_record(stage.key) is None]

    def _open_run(self, stages: Sequence[AnyStage]) -> StageRun[Any, Any]:
        if self._run is None:
            options: dict[str, Any] = {
                "max_lanes": self._max_lanes,
                "num_devices": self._num_devices,
                "driver": self._driver,
            }
            self._run = open_run(stages, self._store, self._data_dir, **options)
            self._follow(self._run)
        return self._run

    def _follow(self, run: StageRun[Any, Any]) -> None:
        assert self._observer is not None
        self._observer.follow(run)

    def _halve_lanes(self) -> bool:
        """Go on from the last checkpoints with half the lanes in a program; False where there is only one."""
        if self._run is not None:
            num_lanes = self._run.fusion.max_lanes
        else:  # not even the inputs of all lanes could be held
            num_lanes = self._max_lanes or len(self._stages)
        if num_lanes == 1:
            return False
        _log.warning("%s: out of memory with %d lanes, going on with half", self._stages[0], num_lanes)
        self._max_lanes = num_lanes // 2
        self._run = None
        torch.cuda.empty_cache()
        return True

    def _note_error(self, error: Exception) -> None:
        for failure in self._describe_failures(error):
            self._store.note_error(failure)

    def _count_errors(self) -> int:
        """Return how many attempts of this trial have raised."""
        unfinished = self._list_unfinished()
        return max((self._count_own(self._store.load_errors(stage.key)) for stage in unfinished), default=0)

    def _count_own(self, errors: Iterable[Failure]) -> int:
        """Return how many of these errors are of this trial; lost workers leave none."""
        return sum(error.provenance.get("trial") == self.trial_id for error in errors)

    def _describe_failures(self, error: Exception) -> Iterator[Failure]:
        return (self._describe_failure(stage, error) for stage in self._list_unfinished())

    def _describe_failure(self, stage: AnyStage, error: Exception) -> Failure:
        return Failure(
            key=stage.key,
            kind=stage.kind,
            stage=stage.to_dict(),
            error=_describe_error(error),
            traceback="".join(traceback.format_exception(error)),
            provenance=describe_machine(stage.execution, self._driver) | {"trial": self.trial_id},
            cause=_find_cause(error),
        )


class CGANTrainable(StageTrainable):
    """Trains conditional GANs."""

    stage_types = (GeneratorStage,)


class CNNTrainable(StageTrainable):
    """Trains and tests classifiers."""

    stage_types = (ClassifierStage,)


def open_existing_store(location: str) -> Store:
    """Return the store at a location; StoreError when this node sees none there."""
    store = open_store(location, RESULTS_VERSION, create=False)
    if store is None:
        raise StoreError(f"there is no store at {location}, or this node cannot see it")
    return store


def _block(reason: str) -> dict[str, Any]:
    return {"outcome": "blocked", "reason": reason, DONE: True}


def _unwritable(error: Exception) -> dict[str, Any]:
    return {"outcome": "unwritable", "reason": str(error), DONE: True}


def _describe_error(error: Exception) -> str:
    """Return an error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _find_cause(error: Exception) -> str:
    """Return which of `CAUSES` an error belongs to."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "memory"
    if isinstance(error, StoreError | OSError):
        return "infrastructure"
    return "input" if isinstance(error, ValueError) else "code"


def _summarize(run: StageRun[Any, Any]) -> dict[str, Any]:
    """Return how far the slowest lane is, and the mean of the last numbers of all lanes."""
    slowest = min(run.lanes, key=lambda lane: lane.round)
    rows = [lane.curves[-1] for lane in run.lanes if lane.curves]
    names = [name for name, value in rows[0].items() if isinstance(value, int | float)] if rows else []
    means = {name: statistics.fmean(row[name] for row in rows) for name in names}
    return means | {
        "round": slowest.round,
        "num_rounds": len(slowest.round_ends),
        "train_s": sum(lane.train_s for lane in run.lanes),
    }
