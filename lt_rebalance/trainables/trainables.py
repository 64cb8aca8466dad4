"""`CGANTrainable` and `CNNTrainable`, for a user's Tuner.

Their configuration is flat hyperparameters (the defaults in `hyperparameters` and the fields of a
configuration), or that of `cluster.trainable.trial_config`.
"""

import os
from abc import abstractmethod
from typing import Any

from lt_rebalance.cluster.trainable import StageTrainable, TrialConfig, trial_config
from lt_rebalance.stages.kinds import run_stage
from lt_rebalance.store import open_store
from lt_rebalance.studies.plan import chain_of
from lt_rebalance.studies.stage import RESULTS_VERSION, AnyStage, ClassifierStage, GeneratorStage
from lt_rebalance.trainables.hyperparameters import (
    Hyperparameters,
    build_classifier_stage,
    build_generator_stage,
)


class _OwnTrainable(StageTrainable):
    """A trial of one stage, made from the samples of a user's Tuner.

    Results go to the store that `storage` names, which trials may share: a stage in it is not trained again,
    nor is a generator that several stages build on. Without `storage` each trial has its own store next to
    its other files. The first step also trains what the stage builds on. Relative paths start where Ray was
    started: on a cluster in each node's own directory, so give absolute paths there.

    A scheduler may stop, pause and resume trials. A trial that is given another's checkpoint, as in
    population-based training, fails: such a training is the result of no stage.
    """

    @staticmethod
    @abstractmethod
    def build_stage(values: Hyperparameters) -> AnyStage:
        """Return the stage of flat hyperparameters."""

    def step(self) -> dict[str, Any]:
        """Continue the trial; a failure is raised, so that Tune reports it.

        Raises:
            RuntimeError: it failed, or its store cannot be used.
        """
        result = super().step()
        if "stages" in self._config or result["outcome"] == "running":
            return result
        if result["outcome"] != "finished":
            raise RuntimeError(f"{result['outcome']}: {result['reason']}")
        return self._last_row() | result

    def _last_row(self) -> dict[str, Any]:
        """Return the numbers of the last round, from the store if the stage was already done."""
        record = self._store.load_record(self._stages[0].key)
        assert record is not None
        if record.state != "complete":
            raise RuntimeError(f"diverged after {record.num_steps} steps: a loss was not finite")
        return {name: value for name, value in record.curves[-1].items() if isinstance(value, int | float)}

    def _begin(self, config: TrialConfig) -> None:
        if "stages" in config:
            super()._begin(config)
            return
        _return_to_start()
        stage = self.build_stage(config)
        storage = str(config.get("storage") or os.path.join(self.logdir, "store"))
        store, data_dir = open_store(storage, RESULTS_VERSION, create=True), config.get("data_dir")
        assert store is not None
        for upstream in chain_of(stage)[:-1]:
            run_stage(upstream, store, data_dir)
        num_devices = 1.0 if stage.execution.device == "cuda" else float(stage.execution.num_threads)
        super()._begin(trial_config([stage], storage, data_dir, num_devices=num_devices))


def _return_to_start() -> None:
    """Change to the directory in which this worker was started, which is that in which Ray was.

    Tune has moved it into the directory of its trial; paths in a configuration are relative to the start.
    """
    start = os.environ.get("TUNE_ORIG_WORKING_DIR", "")
    if os.path.isdir(start):
        os.chdir(start)


class CGANTrainable(_OwnTrainable):
    """Trains a conditional generator."""

    stage_types = (GeneratorStage,)

    @staticmethod
    def build_stage(values: Hyperparameters) -> AnyStage:
        """Return the stage of flat hyperparameters."""
        return build_generator_stage(values)


class CNNTrainable(_OwnTrainable):
    """Trains a classifier on a rebalanced set and measures it, by default on a validation set."""

    stage_types = (ClassifierStage,)

    @staticmethod
    def build_stage(values: Hyperparameters) -> AnyStage:
        """Return the stage of flat hyperparameters."""
        return build_classifier_stage(values)
