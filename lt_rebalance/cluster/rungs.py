"""Trials of a search as Ray Tune trainables: the stages of a ladder, rung by rung."""

import json
import statistics
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from lt_rebalance.cluster.attempt import DONE
from lt_rebalance.cluster.trainable import StageTrainable, TrialConfig, open_existing_store, trial_config
from lt_rebalance.data import at_hand
from lt_rebalance.files.private_directory import private_directory
from lt_rebalance.ground.disk import describe_disk
from lt_rebalance.ground.own_file import hand_on, take_in
from lt_rebalance.ground.values import LARGEST_S, anything, fields, mapping_of, number, parse_json, whole
from lt_rebalance.search.account import RungResult
from lt_rebalance.search.search import Rung, Search, Values, score
from lt_rebalance.stages.stage_errors import StageErrors, StageValues, count_own, describe_failure
from lt_rebalance.store import Store, open_store
from lt_rebalance.store.checkpoints import Checkpoint
from lt_rebalance.store.records import Record
from lt_rebalance.studies.stage import RESULTS_VERSION, AnyStage, stage_from_dict

MEMBER_FILE = "member.safetensors"
MEMBER = fields(
    {"next": whole(), "steps": whole(), "s": number(0, LARGEST_S), "result": mapping_of(anything)}
)
"""shape of the state of a member of a population"""


def rung_trial_config(
    ladder: Sequence[Rung],
    objectives: Sequence[str],
    storage: str,
    data_dir: str | None,
    num_devices: float = 1.0,
) -> TrialConfig:
    """Return the Tune configuration of a trial of a search; other arguments as in `trial_config`."""
    rungs: list[dict[str, Any]] = [
        {"round": rung.round, "groups": [[stage.to_dict() for stage in group] for group in rung.groups]}
        for rung in ladder
    ]
    return trial_config(ladder[0].groups[0], storage, data_dir, num_devices=num_devices) | {
        "rungs": rungs,
        "own_files": hand_on(rungs),
        "own_data": at_hand.hand_on(chain.from_iterable(group for rung in rungs for group in rung["groups"])),
        "objectives": list(objectives),
    }


class RungTrainable(StageTrainable):
    """One trial of a search: each step runs the missing stages of one rung of its ladder.

    The configuration is that of `rung_trial_config`. A step returns the fields of `RungResult`, the mean of
    every objective under its name, and `outcome`: "running"; "finished" at the last rung; "diverged", with
    all objectives at 0, their worst, if some seed has diverged; "failed", "blocked" or "unwritable" as
    `StageTrainable`.
    """

    def _begin(self, config: TrialConfig) -> None:
        self._require_same_code(config)
        take_in(config["own_files"])
        at_hand.take_in(config["own_data"])
        self._store = open_existing_store(config["storage"])
        self._keep_errors_with(config["rungs"][0]["groups"][0])
        self._rungs = [
            Rung(
                round=rung["round"],
                groups=tuple(tuple(map(stage_from_dict, group)) for group in rung["groups"]),
            )
            for rung in config["rungs"]
        ]
        self._objectives: list[str] = config["objectives"]
        self._next = 0
        self._lanes: dict[int, bytes] = {}
        self._measuring_steps, self._measuring_s = 0, 0.0

    def _keep_errors_with(self, stages: Sequence[StageValues]) -> None:
        self._attempt.keep_in(StageErrors(self._store, stages, self.trial_id))

    def _go_on(self) -> dict[str, Any]:
        self._begin_once()
        return self._climb()

    def _climb(self) -> dict[str, Any]:
        rung = self._rungs[self._next]
        self._next += 1
        is_last = self._next == len(self._rungs)
        records: list[Record] = []
        for group in rung.groups:
            is_handed_on = group is rung.groups[0] and not is_last
            self._longer = self._rungs[self._next].groups[0] if is_handed_on else ()
            self._finish(group)
            records += [self._record(stage) for stage in group]
            if any(record.state == "diverged" for record in records):
                scores = {name: [0.0] * len(group) for name in self._objectives}
                return self._report(rung, records, scores) | {"outcome": "diverged", DONE: True}
        scores = {name: score(name, records) for name in self._objectives}
        outcome = "finished" if is_last else "running"
        return self._report(rung, records, scores) | {"outcome": outcome, DONE: is_last}

    def _finish(self, group: Sequence[AnyStage]) -> None:
        """Run the missing stages of a group that differs only in the seed, to the end."""
        self._keep_errors_with([stage.to_dict() for stage in group])
        self._run = None
        if missing := [stage for stage in group if self._store.load_record(stage.key) is None]:
            self._take_on(self._config | {"stages": [stage.to_dict() for stage in missing]})
            while not self._train_round()[DONE]:
                pass
            self.cleanup()

    def _follow(self, run: Any) -> None:
        super()._follow(run)
        run.before_commit = self._hand_on

    def _hand_on(self, index: int) -> None:
        """Give the longer training of the next rung the final state of a lane, before that is committed."""
        if self._longer and self._run is not None:
            seed = self._run.lanes[index].seed
            self._lanes[seed] = self._run.checkpoint_lane(index)
            self._start_from_lanes([stage for stage in self._longer if stage.seed == seed])

    def _start_from_lanes(self, group: Sequence[AnyStage]) -> None:
        rounds_done = self._rungs[self._next - 1].round
        for stage in (stage for stage in group if stage.seed in self._lanes):
            checkpoint = Checkpoint(round=rounds_done, content=self._lanes[stage.seed])
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


class PopulationTrainable(RungTrainable):
    """A member of a population of CGANs, whose settings change between rungs: one rung per step.

    The configuration is that of `member_trial_config`. The first step resumes the member from where its
    process or the whole search was stopped, and repeats its result there. A member's training is not the
    result of any stage, so it uses a temporary store. Its state and the errors of its attempts are kept in
    the store of the search.
    """

    def step(self) -> dict[str, Any]:
        """Resume the member."""
        result = super().step()
        if result["outcome"] == "unwritable" and self._has_begun:  # of two stores, which may be on two disks
            result = result | {"reason": f"{result['reason']}; {describe_disk(self._scratch)}"}
        return result

    def _begin(self, config: TrialConfig) -> None:
        self._kept_in = open_existing_store(config["storage"])
        self._search: str = config["search"]
        self._member: int = config["member"]
        tuned = config["rungs"][0]["groups"][0][0]
        self._attempt.keep_in(MemberErrors(self._kept_in, self._search, self._member, tuned, self.trial_id))
        self._values: dict[str, Any] = config["values"]
        self._is_taken_up = False
        self._handed_over: bytes | None = None
        self._repeated: dict[str, Any] = {}
        self._owner = private_directory()  # removed with this object, or if it is killed by the next one
        self._scratch = str(self._owner.__enter__() / "store")
        open_store(self._scratch, RESULTS_VERSION, create=True)
        super()._begin(config | {"storage": self._scratch})

    def _keep_errors_with(self, stages: Sequence[StageValues]) -> None:
        """Record all errors with the member: its stages are temporary."""

    def _climb(self) -> dict[str, Any]:
        self._take_up()
        if self._repeated:
            result, self._repeated = self._repeated, {}
            return result
        result = super()._climb() | {"values": self._values}
        if not result[DONE]:
            self._kept_in.save_member(self._search, self._member, self._pack(result))
        return result

    def _take_up(self) -> None:
        """Resume from a handed-over state, or else from the stored one, unless that is done."""
        if self._is_taken_up:
            return
        self._is_taken_up = True
        content, self._handed_over = self._handed_over, None
        if content is None:
            content = self._kept_in.load_member(self._search, self._member)
        if content is not None:
            self._repeated = self._resume(content)

    def _save(self, directory: Path) -> None:
        """Write the state of a member, for itself or for one that copies its weights."""
        self._begin_once()
        self._take_up()
        (directory / MEMBER_FILE).write_bytes(self._pack({}))

    def _load(self, directory: Path) -> None:
        """Resume, in the next step, from the state of `_save`, with this member's own values."""
        self._begin_once()
        self._is_taken_up, self._repeated = False, {}
        self._handed_over = (directory / MEMBER_FILE).read_bytes()

    def _pack(self, result: Mapping[str, Any]) -> bytes:
        state = {"next": self._next, "steps": self._measuring_steps, "s": self._measuring_s, "result": result}
        content = {"state": json.dumps(state).encode()} | {
            str(seed): lane for seed, lane in self._lanes.items()
        }
        return safetensors.torch.save(
            {name: torch.frombuffer(bytearray(each), dtype=torch.uint8) for name, each in content.items()}
        )

    def _resume(self, content: bytes) -> dict[str, Any]:
        state, self._lanes = unpack_member(content)
        self._next, self._measuring_steps, self._measuring_s = state["next"], state["steps"], state["s"]
        if self._next:
            group = self._rungs[self._next].groups[0]
            # This member's own checkpoints are at the same round, and must not be used instead.
            for stage in group:
                self._store.discard_checkpoints(stage.key)
            self._start_from_lanes(group)
        result: dict[str, Any] = state["result"]
        return result


class MemberErrors:
    """Records the errors of a member of a population with its search."""

    def __init__(self, store: Store, search: str, member: int, stage: StageValues, trial: str) -> None:
        """Record errors with a member, described by the first stage of its ladder."""
        self._store, self._search, self._member = store, search, member
        self._stage, self._trial = stage, trial

    def note(self, error: BaseException) -> None:
        failure = describe_failure(self._stage, error, self._trial)
        self._store.note_member_error(self._search, self._member, failure)

    def count(self) -> int:
        return count_own(self._store.load_member_errors(self._search, self._member), self._trial)

    def settle(self, error: BaseException) -> None:
        """Leave it to the main process, which records the end of a member with the reason of its trial."""


def member_trial_config(
    search: Search, member: int, values: Values, storage: str, data_dir: str | None, num_devices: float = 1.0
) -> TrialConfig:
    """Return the Tune configuration of a member of a population with these values."""
    rungs = rung_trial_config(search.ladder(values), search.objectives, storage, data_dir, num_devices)
    return rungs | {"search": search.name, "member": member, "values": dict(values)}


def unpack_member(content: bytes) -> tuple[dict[str, Any], dict[int, bytes]]:
    """Return the stored state of a member: its state with its last result, and its lanes by seed.

    Raises:
        ValueError: it is not the state of a member.
    """
    try:
        parts = {name: part.numpy().tobytes() for name, part in safetensors.torch.load(content).items()}
        state: dict[str, Any] = parse_json(parts.pop("state"))
        MEMBER(state)
        return state, {int(seed): lane for seed, lane in parts.items()}
    except (SafetensorError, KeyError, RuntimeError, TypeError) as error:
        raise ValueError(f"not the state of a member: {type(error).__name__}: {error}") from None


def rung_result(result: Mapping[str, Any], objectives: Sequence[str]) -> RungResult:
    """Return the rung of the result of a step."""
    return RungResult(
        scores={name: tuple(result[by_seed(name)]) for name in objectives},
        values=dict(result.get("values", {})),
        **{name: result[name] for name in ("round", "num_steps", "total_steps", "train_s")},
    )


def by_seed(objective: str) -> str:
    """Return the name under which a `RungTrainable` reports the values of an objective, one per seed."""
    return f"{objective}_by_seed"
