"""Run one stage: read its inputs, train, test, commit; without Ray.

Each kind of stage has a file with its differences; `kinds` lists them.
"""

import dataclasses
import io
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import nn

from lt_rebalance.ground.imbalance import rank_groups
from lt_rebalance.ground.values import (
    LARGEST_S,
    anything,
    as_object,
    fields,
    flag,
    list_of,
    number,
    parse_json,
    whole,
)
from lt_rebalance.stages.calibration import choose_fusion
from lt_rebalance.stages.inputs import InputReader, StageInputs
from lt_rebalance.stages.machine import describe_machine
from lt_rebalance.stages.memory import require_device_memory
from lt_rebalance.store import Store
from lt_rebalance.store.checkpoints import Checkpoint
from lt_rebalance.store.records import Artifact, Record, Timing
from lt_rebalance.studies.stage import AnyStage
from lt_rebalance.training.device import prepare_torch
from lt_rebalance.training.lane import Lane
from lt_rebalance.training.rounds import Training
from lt_rebalance.training.stacks import Fusion

PROGRESS = fields(
    {
        **dict.fromkeys(("wall_s", "device_s", "train_s"), number(0, LARGEST_S)),
        **dict.fromkeys(("round", "step"), whole()),
        "curves": list_of(as_object),
        "is_diverged": flag,
    },
    others=anything,
)
"""of a lane, in the header of its checkpoint"""

StageT = TypeVar("StageT", bound=AnyStage)
LaneT = TypeVar("LaneT", bound=Lane)


class StageRun(ABC, Generic[StageT, LaneT]):
    """Running stages, as lanes of one training; they differ only in the seed.

    Each lane has its own checkpoints and commits its own result, so it can be resumed with other lanes.
    """

    def __init__(
        self,
        stages: Sequence[StageT],
        store: Store,
        data_dir: str | None,
        *,
        max_lanes: int | None = None,
        num_devices: float = 1.0,
        driver: Mapping[str, Any] | None = None,
        kept: Collection[str] = (),
    ) -> None:
        """Read the inputs, and resume every lane at its last intact checkpoint.

        Args:
            max_lanes: most lanes of one program; None for the best number.
            num_devices: GPUs, or else CPU cores, of the run, which are charged to the lanes.
            driver: the code of the main process of the sweep, as `provenance.driver_source` returns it.
            kept: keys of stages that are committed together with these because they are the same trainings.

        Raises:
            DataError: the data set is missing or damaged, or does not fit into the memory of the GPU.
            StoreError: a stage that it builds on has no usable result.
        """
        started = time.perf_counter()
        first = stages[0]
        self.stages = stages
        self._store = store
        self._num_devices = num_devices
        self._driver = driver
        self._kept = kept
        self.before_commit: Callable[[int], None] = lambda index: None
        """called with the index of each finished lane, whose result is not yet committed"""
        self._device = prepare_torch(first.execution)
        if self._device.type == "cuda":
            require_device_memory(stages, torch.cuda.get_device_properties(self._device).total_memory)
        self._reader = InputReader(first.data.dataset, data_dir, store, self._device)
        self._inputs = [self._reader.read(stage) for stage in stages]
        fusion = choose_fusion(first, len(stages))
        if max_lanes is not None:
            fusion = dataclasses.replace(fusion, max_lanes=min(max_lanes, fusion.max_lanes))
        # Each turn except the last finds another unusable checkpoint, and their number is finite.
        self._useless: set[str] = set()
        while not self._take_up(fusion, started):
            pass

    def _take_up(self, fusion: Fusion, started: float) -> bool:
        """Build the lanes and restore their checkpoints; False if an unusable one was set aside."""
        self._training = self._build_training(fusion)
        self._started = [started for _ in self.stages]
        self._device_s = [0.0 for _ in self.stages]
        self._charged_until = started
        for index, stage in enumerate(self.stages):
            if (checkpoint := self._store.load_checkpoint(stage.key, but=self._useless)) is None:
                continue
            try:
                self.restore_lane(index, checkpoint.content)
            except (torch.OutOfMemoryError, torch.AcceleratorError):  # says nothing of the checkpoint
                raise
            except Exception as error:
                reason = f"it cannot be restored: {type(error).__name__}: {error}"
                self._store.reject_checkpoint(stage.key, checkpoint, reason)
                self._useless.add(checkpoint.name)
                return False
        return True

    @abstractmethod
    def _build_training(self, fusion: Fusion) -> Training[LaneT, Any]: ...

    @abstractmethod
    def _results(self, stage: StageT, lane: LaneT, inputs: StageInputs) -> dict[str, Any]:
        """Return the record fields that only a complete lane of this kind has."""

    def _come_along(self, index: int, record: Record) -> Sequence[Record]:
        """Return the records of other stages that a finished lane has also trained."""
        return ()

    @property
    def lanes(self) -> Sequence[LaneT]:
        """The lanes, in the order of the stages."""
        return self._training.lanes

    @property
    def fusion(self) -> Fusion:
        """How the lanes are fused into programs."""
        return self._training.fusion

    @property
    def is_finished(self) -> bool:
        """Whether every lane has been committed."""
        return all(lane.is_finished for lane in self.lanes)

    def run_round(self) -> None:
        """Train the lanes with the fewest rounds for one round; checkpoint or commit each of them."""
        holders = [index for index, lane in enumerate(self.lanes) if not lane.is_finished]
        advanced = self._training.run_round()
        self._charge(holders)
        for index, lane in enumerate(self.lanes):
            if lane not in advanced:
                continue
            if lane.is_finished:
                record = self._make_record(index)
                self.before_commit(index)
                for each in (*self._come_along(index, record), record):
                    self._store.commit(each)
            else:
                checkpoint = Checkpoint(round=lane.round, content=self.checkpoint_lane(index))
                self._store.save_checkpoint(self.stages[index].key, checkpoint)

    def checkpoint_lane(self, index: int) -> bytes:
        """Return the state that a lane needs to resume, as safetensors with its progress in the header."""
        lane = self.lanes[index]
        progress = {name: getattr(lane, name) for name in lane.progress_fields}
        progress |= {"wall_s": self._wall_s(index), "device_s": self._device_s[index]}
        header = {"progress": json.dumps(progress, allow_nan=False)}
        return safetensors.torch.save(self._training.get_lane_state(lane), header)

    def restore_lane(self, index: int, content: bytes) -> None:
        """Restore the result of `checkpoint_lane`; anything else raises and leaves the lane half restored."""
        lane = self.lanes[index]
        progress = parse_json(_safetensors_header(content)["progress"])
        PROGRESS(progress)
        self._started[index] -= progress.pop("wall_s")
        self._device_s[index] += progress.pop("device_s")
        if set(progress) != set(lane.progress_fields):
            raise ValueError(f"a lane keeps {sorted(lane.progress_fields)}, got {sorted(progress)}")
        if progress["step"] != [0, *lane.round_ends][progress["round"]]:
            raise ValueError(f"round {progress['round']} does not end at step {progress['step']}")
        for name, value in progress.items():
            setattr(lane, name, value)
        self._training.set_lane_state(lane, safetensors.torch.load(content))

    def _charge(self, holders: Sequence[int]) -> None:
        """Divide the device time since the last charge among the lanes that were not finished then."""
        now = time.perf_counter()
        for index in holders:
            self._device_s[index] += self._num_devices * (now - self._charged_until) / len(holders)
        self._charged_until = now

    def _wall_s(self, index: int) -> float:
        return time.perf_counter() - self._started[index]

    def _make_record(self, index: int) -> Record:
        """Write the artefacts of a finished lane and return its record."""
        stage, lane, inputs = self.stages[index], self.lanes[index], self._inputs[index]
        counts_K = inputs.subset.counts_K
        fields: dict[str, Any] = {
            "metrics": {},
            "confusion": (),
            "quality_per_class": inputs.quality_per_class,
            "artifacts": {},
        }
        if not lane.is_diverged:
            fields |= self._results(stage, lane, inputs)
        self._charge([index])
        return Record(
            key=stage.key,
            kind=stage.kind,
            state="diverged" if lane.is_diverged else "complete",
            stage=stage.to_dict(),
            num_steps=lane.step,
            class_counts=tuple(counts_K),
            training_counts=tuple(inputs.plan.counts_K),
            synthetic_counts=inputs.plan.num_synthetic_K,
            rank_groups={} if stage.data.cut is None else rank_groups(counts_K),
            curves=tuple(lane.curves),
            timing=Timing(
                wall_s=self._wall_s(index),
                train_s=lane.train_s,
                num_errors=self._store.count_errors(stage.key),
                device_s=self._device_s[index],
                finished_s=time.time(),
            ),
            provenance=describe_machine(stage.execution, self._driver)
            | {"lanes": len(self.stages), "fusion": dataclasses.asdict(self.fusion)},
            **fields,
        )

    def _write_weights(self, stage: StageT, network: nn.Module) -> Artifact:
        weights = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
        content = safetensors.torch.save(weights)
        return self._store.write_artifact(stage.key, "weights", ".safetensors", content)

    def _write_array(self, stage: StageT, role: str, array: NDArray[np.unsignedinteger]) -> Artifact:
        file = io.BytesIO()
        np.save(file, array, allow_pickle=False)
        return self._store.write_artifact(stage.key, role, ".npy", file.getvalue())


def _safetensors_header(content: bytes) -> dict[str, str]:
    length = int.from_bytes(content[:8], "little")
    header: dict[str, str] = parse_json(content[8 : 8 + length])["__metadata__"]
    return header
