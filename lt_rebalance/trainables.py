"""Stages as Ray Tune trainables: `CGANTrainable` and `CNNTrainable`, thin classes over `stages`.

`RungTrainable` runs the stages of a trial of a search, rung by rung.
"""

import statistics
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from ray import tune
from ray.tune.result import DONE

from lt_rebalance.machine import describe_machine
from lt_rebalance.records import Failure, Record
from lt_rebalance.search import Rung, score
from lt_rebalance.stages import StageRun, open_run
from lt_rebalance.store import Checkpoint, Store, StoreError, open_store
from lt_rebalance.study import RESULTS_VERSION, AnyStage, ClassifierStage, GeneratorStage, stage_from_dict

TrialConfig = dict[str, Any]


def trial_config(stages: Sequence[AnyStage], storage: str, data_dir: str | None) -> TrialConfig:
    """Return the Tune configuration of the trial that runs these stages, which differ only in the seed.

    Args:
        stages: the lanes of the trial, at least one.
        storage: location of the store that results are committed to.
        data_dir: where the data set lies on the workers; None leaves it to the environment.
    """
    return {"stages": [stage.to_dict() for stage in stages], "storage": storage, "data_dir": data_dir}


class StageTrainable(tune.Trainable):
    """One trial: stages as lanes, one round a step; each lane commits to the store when it is done.

    The configuration is that of `trial_config`. The first step reads the inputs and takes every lane up where
    its last checkpoint in the store left it. A step returns `round`, `num_rounds`, the numbers of the last
    row of the curves averaged over the lanes, and `outcome`: "running"; "finished"; "failed" after an error
    that trying again cannot mend (ValueError), which is then recorded for the stages; or "blocked" when an
    input in the store has gone. Any other error is noted in the store and raised, so that Tune tries again.
    """

    stage_types: ClassVar[tuple[type[AnyStage], ...]] = (GeneratorStage, ClassifierStage)

    def setup(self, config: TrialConfig) -> None:
        """Take on a trial.

        Raises:
            ValueError: a stage of a kind that this trainable does not run, or no store at the location.
        """
        self._stages = [stage_from_dict(values) for values in config["stages"]]
        for stage in self._stages:
            if not isinstance(stage, self.stage_types):
                known = " and ".join(stage_type.kind for stage_type in self.stage_types)
                raise ValueError(f"{type(self).__name__} runs {known} stages, got a {stage.kind} stage")
        self._data_dir: str | None = config["data_dir"]
        self._store = _open_store(config["storage"])
        self._run: StageRun[Any, Any] | None = None

    def reset_config(self, new_config: TrialConfig) -> bool:
        """Take on another trial; nothing of the one before stays."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train for one round."""
        try:
            if all(self._store.load_record(stage.key) is not None for stage in self._stages):
                return {"outcome": "finished", DONE: True}
            run = self._open_run()
            run.run_round()
        except StoreError as error:
            self._note_error(error)
            return {"outcome": "blocked", DONE: True}
        except ValueError as error:
            for failure in self._describe_failures(error):
                self._store.mark_failed(failure)
            return {"outcome": "failed", DONE: True}
        except Exception as error:
            self._note_error(error)
            raise
        outcome = {"outcome": "finished" if run.is_finished else "running", DONE: run.is_finished}
        return outcome | _summarize(run)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write what each lane needs to go on, for schedulers that pause or copy trials."""
        if self._run is not None:
            for index, _ in enumerate(self._stages):
                path = Path(checkpoint_dir, f"lane-{index}.safetensors")
                path.write_bytes(self._run.checkpoint_lane(index))

    def load_checkpoint(self, checkpoint_dir: str) -> None:  # type: ignore[override]  # a path, not a dict
        """Go on from what `save_checkpoint` wrote."""
        for index, _ in enumerate(self._stages):
            path = Path(checkpoint_dir, f"lane-{index}.safetensors")
            if path.exists():
                self._open_run().restore_lane(index, path.read_bytes())

    def _open_run(self) -> StageRun[Any, Any]:
        if self._run is None:
            self._run = open_run(self._stages, self._store, self._data_dir)
        return self._run

    def _note_error(self, error: Exception) -> None:
        for failure in self._describe_failures(error):
            self._store.note_error(failure)

    def _describe_failures(self, error: Exception) -> Iterator[Failure]:
        for stage in self._stages:
            yield Failure(
                key=stage.key,
                kind=stage.kind,
                stage=stage.to_dict(),
                error=" ".join(f"{type(error).__name__}: {error}".split()),
                traceback="".join(traceback.format_exception(error)),
                provenance=describe_machine(stage.execution),
            )


class CGANTrainable(StageTrainable):
    """Trains conditional GANs."""

    stage_types = (GeneratorStage,)


class CNNTrainable(StageTrainable):
    """Trains and tests classifiers."""

    stage_types = (ClassifierStage,)


def rung_trial_config(
    ladder: Sequence[Rung], objectives: Sequence[str], storage: str, data_dir: str | None
) -> TrialConfig:
    """Return the Tune configuration of a trial of a search; `storage` and `data_dir` as in `trial_config`."""
    rungs = [
        {"round": rung.round, "groups": [[stage.to_dict() for stage in group] for group in rung.groups]}
        for rung in ladder
    ]
    return {"rungs": rungs, "objectives": list(objectives), "storage": storage, "data_dir": data_dir}


class RungTrainable(StageTrainable):
    """One trial of a search: one rung of its ladder a step, whatever of it is not in the store yet.

    The configuration is that of `rung_trial_config`. A step returns what `RungResult` holds of a rung, the
    mean of every objective under its name, and `outcome`: "running"; "finished" at the last rung; "diverged",
    with all objectives at 0, their worst, when some seed has; "failed" or "blocked" as `StageTrainable`.
    """

    def setup(self, config: TrialConfig) -> None:
        """Take on a trial."""
        self._rungs = [
            Rung(
                round=rung["round"],
                groups=tuple(tuple(map(stage_from_dict, group)) for group in rung["groups"]),
            )
            for rung in config["rungs"]
        ]
        self._objectives: list[str] = config["objectives"]
        self._next = 0
        self._measuring_steps, self._measuring_s = 0, 0.0
        super().setup(trial_config(self._rungs[0].groups[0], config["storage"], config["data_dir"]))

    def step(self) -> dict[str, Any]:
        """Run the stages of the next rung and measure it."""
        rung = self._rungs[self._next]
        self._next += 1
        is_last = self._next == len(self._rungs)
        records: list[Record] = []
        for group in rung.groups:
            if (outcome := self._finish(group)) != "finished":
                return {"outcome": outcome, DONE: True}
            if group is rung.groups[0] and not is_last:
                self._hand_on(self._rungs[self._next].groups[0])
            records += [self._record(stage) for stage in group]
            if any(record.state == "diverged" for record in records):
                scores = {name: [0.0] * len(group) for name in self._objectives}
                return self._report(rung, records, scores) | {"outcome": "diverged", DONE: True}
        scores = {name: score(name, records) for name in self._objectives}
        outcome = "finished" if is_last else "running"
        return self._report(rung, records, scores) | {"outcome": outcome, DONE: is_last}

    def _finish(self, group: Sequence[AnyStage]) -> str:
        """Run what is missing of stages that differ in the seed alone, to its end; return the outcome."""
        self._run = None
        missing = [stage for stage in group if self._store.load_record(stage.key) is None]
        if not missing:
            return "finished"
        super().setup(trial_config(missing, self._store.location, self._data_dir))
        while not (result := super().step())[DONE]:
            pass
        outcome: str = result["outcome"]
        return outcome

    def _hand_on(self, next_group: Sequence[AnyStage]) -> None:
        """Give the longer trainings of the next rung the state that those of this one have just reached."""
        if self._run is None:
            return
        for index, lane in enumerate(self._run.lanes):
            (stage,) = (stage for stage in next_group if stage.seed == lane.seed)
            checkpoint = Checkpoint(round=lane.round, content=self._run.checkpoint_lane(index))
            self._store.save_checkpoint(stage.key, checkpoint)

    def _record(self, stage: AnyStage) -> Record:
        record = self._store.load_record(stage.key)
        assert record is not None
        return record

    def _report(
        self, rung: Rung, records: Sequence[Record], scores: Mapping[str, Sequence[float]]
    ) -> dict[str, Any]:
        num_lanes = len(rung.groups[0])
        tuned, measuring = records[:num_lanes], records[num_lanes:]
        self._measuring_steps += sum(record.num_steps for record in measuring)
        self._measuring_s += sum(record.timing.train_s for record in measuring)
        result: dict[str, Any] = {
            "round": rung.round,
            "num_steps": max(record.num_steps for record in tuned),
            "total_steps": self._measuring_steps + sum(record.num_steps for record in tuned),
            "train_s": self._measuring_s + sum(record.timing.train_s for record in tuned),
        }
        for name, values in scores.items():
            result |= {name: statistics.fmean(values), by_seed(name): list(values)}
        return result


def by_seed(objective: str) -> str:
    """Return under which name a `RungTrainable` reports the values of an objective, one a seed."""
    return f"{objective}_by_seed"


def _open_store(location: str) -> Store:
    store = open_store(location, RESULTS_VERSION, create=False)
    if store is None:
        raise ValueError(f"there is no store at {location}, or this node cannot see it")
    return store


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
