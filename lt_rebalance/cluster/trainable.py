"""Stages as a Ray Tune trainable, a thin class over `stages`.

Torch is imported when a trial trains: the process of a sweep, which names the trainable, goes without.
"""

import logging
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ray import tune

from lt_rebalance.cluster.attempt import DONE, Attempt, UnfitWorkerError
from lt_rebalance.data import at_hand
from lt_rebalance.ground.errors import DataError
from lt_rebalance.ground.own_file import hand_on, take_in
from lt_rebalance.stages.kinds import open_run
from lt_rebalance.stages.provenance import driver_source, find_mismatch
from lt_rebalance.stages.stage_errors import StageErrors
from lt_rebalance.stages.watch import Watch
from lt_rebalance.store import Store, StoreError, open_store
from lt_rebalance.studies.stage import (
    RESULTS_VERSION,
    AnyStage,
    ClassifierStage,
    GeneratorStage,
    stage_from_dict,
)
from lt_rebalance.training.configs import Execution
from lt_rebalance.training.device import count_gpus, torch_version

if TYPE_CHECKING:
    from lt_rebalance.stages.base import StageRun
    from lt_rebalance.stages.observer import TrialObserver

TrialConfig = dict[str, Any]

_log = logging.getLogger(__name__)


def trial_config(
    stages: Sequence[AnyStage],
    storage: str,
    data_dir: str | None,
    *,
    watch: Watch | None = None,
    num_devices: float = 1.0,
    driver: Mapping[str, Any] | None = None,
    kept: Sequence[str] = (),
) -> TrialConfig:
    """Return the Tune configuration of the trial that runs these stages, which differ only in the seed.

    Args:
        stages: the lanes of the trial, at least one.
        storage: location of the store that results are committed to.
        data_dir: the directory of the data set on the workers; None leaves it to the environment.
        watch: where to show the progress of the trial; without it there are no events.
        num_devices: GPUs, or else CPU cores, that the trial holds.
        driver: the provenance of the main process's code; that of this process by default.
        kept: keys of stages that are committed along with these, if they are the same trainings.
    """
    described = [stage.to_dict() for stage in stages]
    return {
        "stages": described,
        "own_files": hand_on(described),
        "own_data": at_hand.hand_on(described),
        "storage": storage,
        "data_dir": data_dir,
        "watch": (watch or Watch()).to_dict(),
        "num_devices": num_devices,
        "driver": driver_source() if driver is None else driver,
        "kept": list(kept),
    }


class StageTrainable(tune.Trainable):
    """One trial: stages as lanes, one round per step; each lane commits to the store when it is done.

    The configuration is that of `trial_config`. The first step opens the store, reads the inputs and resumes
    every lane from its last checkpoint. A step returns `round`, `num_rounds`, the last row of the curves
    averaged over the lanes, and `outcome`: "running"; "finished"; or the outcome of an error by `Attempt`,
    with the `reason`.
    """

    stage_types: ClassVar[tuple[type[AnyStage], ...]] = (GeneratorStage, ClassifierStage)

    def setup(self, config: TrialConfig) -> None:
        """Accept a trial.

        The work begins later: an error here would reach Tune, which cannot distinguish it from a lost worker,
        and retries as often.
        """
        self._config = config
        self._attempt = Attempt()
        self._has_begun = False
        self._stages: list[AnyStage] = []
        self._run: StageRun[Any, Any] | None = None
        self._max_lanes: int | None = None
        self._observer: TrialObserver | None = None

    def reset_config(self, new_config: TrialConfig) -> bool:
        """Accept another trial; nothing of the previous one remains."""
        self.cleanup()
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        """End the trial."""
        if self._observer is not None:
            self._observer.close()

    def step(self) -> dict[str, Any]:
        """Continue the trial."""
        result = self._attempt.run(self._go_on)
        if result[DONE]:
            self.cleanup()
        return result

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the state of the trial, for schedulers that pause or copy trials."""
        with self._attempt.guarded():
            self._save(Path(checkpoint_dir))

    def load_checkpoint(self, checkpoint_dir: str) -> None:  # type: ignore[override]  # a path, not a dict
        """Resume from the state that `save_checkpoint` wrote."""
        with self._attempt.guarded():
            self._load(Path(checkpoint_dir))

    # The following methods are called within the attempt, which handles all errors.

    def _go_on(self) -> dict[str, Any]:
        self._begin_once()
        return self._train_round()

    def _begin_once(self) -> None:
        if not self._has_begun:
            self._begin(self._config)
            self._has_begun = True

    def _begin(self, config: TrialConfig) -> None:
        """Open the store and make the stages."""
        self._require_same_code(config)
        take_in(config["own_files"])
        at_hand.take_in(config["own_data"])
        self._store = open_existing_store(config["storage"])
        self._attempt.keep_in(StageErrors(self._store, config["stages"], self.trial_id))
        self._take_on(config)

    def _require_same_code(self, config: TrialConfig) -> None:
        """Refuse to work for a main process with other code; an UnfitWorkerError."""
        self._driver: Mapping[str, Any] = config["driver"]
        if (mismatch := find_mismatch(self._driver)) is not None:
            raise UnfitWorkerError(mismatch)

    def _take_on(self, config: TrialConfig) -> None:
        """Make the next stages to train.

        Raises:
            ValueError: a stage that cannot be made, or of a kind that this trainable does not run.
        """
        self._stages = [stage_from_dict(values) for values in config["stages"]]
        for stage in self._stages:
            if not isinstance(stage, self.stage_types):
                known = " and ".join(stage_type.kind for stage_type in self.stage_types)
                raise ValueError(f"{type(self).__name__} runs {known} stages, got a {stage.kind} stage")
        _require_fit(self._stages[0].execution)
        from lt_rebalance.stages.observer import TrialObserver

        self._data_dir: str | None = config["data_dir"]
        self._num_devices: float = config["num_devices"]
        self._run, self._max_lanes = None, None
        self._observer = TrialObserver(self._store, self._stages, Watch.from_dict(config["watch"]))

    def _train_round(self) -> dict[str, Any]:
        import torch

        assert self._observer is not None
        with self._observer.listen():
            try:
                return self._train()
            except torch.OutOfMemoryError:
                if not self._halve_lanes():
                    raise
        return {"outcome": "running", DONE: False}

    def _train(self) -> dict[str, Any]:
        if not (unfinished := self._list_unfinished()):
            return {"outcome": "finished", DONE: True}
        run = self._open_run(unfinished)
        run.run_round()
        self._follow(run)
        outcome = {"outcome": "finished" if run.is_finished else "running", DONE: run.is_finished}
        return outcome | _summarize(run)

    def _save(self, directory: Path) -> None:
        if self._run is not None:
            for index, stage in enumerate(self._run.stages):
                (directory / f"{stage.key}.safetensors").write_bytes(self._run.checkpoint_lane(index))

    def _load(self, directory: Path) -> None:
        self._begin_once()
        paths = {path.stem: path for path in directory.glob("*.safetensors")}
        if foreign := paths.keys() - {stage.key for stage in self._stages}:
            raise ValueError(
                f"a trial resumes from its own checkpoint, got one of stage {min(foreign)[:8]}; use a "
                "scheduler that does not copy trials, unlike population-based training"
            )
        if unfinished := self._list_unfinished():
            run = self._open_run(unfinished)
            for index, stage in enumerate(run.stages):
                if stage.key in paths:
                    run.restore_lane(index, paths[stage.key].read_bytes())

    def _list_unfinished(self) -> list[AnyStage]:
        return [stage for stage in self._stages if self._store.load_record(stage.key) is None]

    def _open_run(self, stages: Sequence[AnyStage]) -> "StageRun[Any, Any]":
        if self._run is None:
            options: dict[str, Any] = {
                "max_lanes": self._max_lanes,
                "num_devices": self._num_devices,
                "driver": self._driver,
                "kept": self._config.get("kept", ()),
            }
            self._require_data(stages[0].data.dataset)
            self._run = open_run(stages, self._store, self._data_dir, **options)
            self._follow(self._run)
        return self._run

    def _require_data(self, dataset: str) -> None:
        """Raise an UnfitWorkerError if this worker cannot read a data set, as the main process could."""
        from lt_rebalance.stages.inputs import load_dataset_once

        try:
            load_dataset_once(dataset, self._data_dir)
        except DataError as error:
            raise UnfitWorkerError(str(error)) from error

    def _follow(self, run: "StageRun[Any, Any]") -> None:
        assert self._observer is not None
        self._observer.follow(run)

    def _halve_lanes(self) -> bool:
        """Resume from the last checkpoints with half the lanes per program; False if there is only one."""
        # Without a run not even the inputs of all lanes have fitted.
        num_lanes = self._run.fusion.max_lanes if self._run else self._max_lanes or len(self._stages)
        if num_lanes == 1:
            return False
        _log.warning("%s: out of memory with %d lanes, continuing with half", self._stages[0], num_lanes)
        self._max_lanes = num_lanes // 2
        self._run = None
        import torch

        torch.cuda.empty_cache()
        return True


def _require_fit(execution: Execution) -> None:
    """Raise an UnfitWorkerError unless this worker has the torch and the device of a planned execution."""
    if execution.torch_version != torch_version():
        raise UnfitWorkerError(
            f"this run was planned for torch {execution.torch_version}, this worker has {torch_version()}; "
            "install the same version on every node"
        )
    if execution.device == "cuda" and not count_gpus():
        raise UnfitWorkerError(
            "this run needs a GPU that torch can use, and this worker has none; "
            "see torch.cuda.is_available() there"
        )


def open_existing_store(location: str) -> Store:
    """Return the store at a location; StoreError if this node sees none there."""
    store = open_store(location, RESULTS_VERSION, create=False)
    if store is None:
        raise StoreError(f"there is no store at {location}, or this node cannot see it")
    return store


def _summarize(run: "StageRun[Any, Any]") -> dict[str, Any]:
    """Return the progress of the slowest lane, and the mean of the latest values of all lanes."""
    slowest = min(run.lanes, key=lambda lane: lane.round)
    rows = [lane.curves[-1] for lane in run.lanes if lane.curves]
    names = [name for name, value in rows[0].items() if isinstance(value, int | float)] if rows else []
    means = {name: statistics.fmean(row[name] for row in rows) for name in names}
    return means | {
        "round": slowest.round,
        "num_rounds": len(slowest.round_ends),
        "train_s": sum(lane.train_s for lane in run.lanes),
    }
