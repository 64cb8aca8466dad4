"""Trials of a search as Ray Tune trainables: the stages of a ladder, rung by rung."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ray.tune.result import DONE

from lt_rebalance.records import Record
from lt_rebalance.search import Rung, score
from lt_rebalance.store import Checkpoint
from lt_rebalance.study import AnyStage, stage_from_dict
from lt_rebalance.trainables import StageTrainable, TrialConfig, trial_config


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
            try:
                self._store.save_checkpoint(stage.key, checkpoint)
            except OSError as error:
                self._stages = [stage]
                self._note_error(error)
                raise

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
