"""Run one stage: read its inputs, train, test, commit. The table of contents of an experiment; no Ray."""

import dataclasses
import io
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from lt_rebalance.data.long_tail import rank_groups
from lt_rebalance.ground.arrays import predictions_type
from lt_rebalance.ground.confusion import Confusion
from lt_rebalance.ground.metrics import COLLAPSED_BELOW, metric_names
from lt_rebalance.ground.seeding import torch_stream
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
from lt_rebalance.store import Store
from lt_rebalance.store.checkpoints import Checkpoint
from lt_rebalance.store.records import Artifact, Record, Timing
from lt_rebalance.studies.stage import AnyStage, ClassifierStage, GeneratorStage, ValidationStage
from lt_rebalance.training.cgan import CGANLane, CGANTraining
from lt_rebalance.training.cgan_quality import diversity, draw_sheet, measure_quality, sample_sheet
from lt_rebalance.training.classifier import ClassifierLane, ClassifierTraining, EvaluationSet
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
    """Stages in progress, as lanes of one training: they differ in nothing but the seed.

    Each lane has its own checkpoints and commits its own result, so it can be resumed in other company.
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
    ) -> None:
        """Read the inputs, and take every lane up where its last intact checkpoint left it.

        Args:
            max_lanes: most lanes of one program; None for as many as is best.
            num_devices: GPUs, or else CPU cores, that the run holds; what the lanes are charged with.
            driver: the code of the driver that asked for it, as `provenance.driver_source` returns it.

        Raises:
            DataError: the data set is missing or damaged.
            StoreError: a generator stage that it builds on has no usable result.
        """
        started = time.perf_counter()
        first = stages[0]
        self.stages = stages
        self._store = store
        self._num_devices = num_devices
        self._driver = driver
        self._device = prepare_torch(first.execution)
        self._reader = InputReader(first.data.dataset, data_dir, store, self._device)
        self._inputs = [self._reader.read(stage) for stage in stages]
        fusion = choose_fusion(first, len(stages))
        if max_lanes is not None:
            fusion = dataclasses.replace(fusion, max_lanes=min(max_lanes, fusion.max_lanes))
        # Each turn but the last finds another checkpoint of no use, and there are only so many.
        self._useless: set[str] = set()
        while not self._take_up(fusion, started):
            pass

    def _take_up(self, fusion: Fusion, started: float) -> bool:
        """Build the lanes and restore their checkpoints; False when one was of no use and was set aside."""
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
        """Return the fields of the record that only a complete lane of this kind has."""

    @property
    def lanes(self) -> Sequence[LaneT]:
        """The lanes, in the order of the stages."""
        return self._training.lanes

    @property
    def fusion(self) -> Fusion:
        """How the lanes become programs."""
        return self._training.fusion

    @property
    def is_finished(self) -> bool:
        """Whether every lane has been committed."""
        return all(lane.is_finished for lane in self.lanes)

    def run_round(self) -> None:
        """Train the lanes that are furthest behind for one round; checkpoint or commit each of them."""
        holders = [index for index, lane in enumerate(self.lanes) if not lane.is_finished]
        advanced = self._training.run_round()
        self._charge(holders)
        for index, lane in enumerate(self.lanes):
            if lane not in advanced:
                continue
            if lane.is_finished:
                self._store.commit(self._make_record(index))
            else:
                checkpoint = Checkpoint(round=lane.round, content=self.checkpoint_lane(index))
                self._store.save_checkpoint(self.stages[index].key, checkpoint)

    def checkpoint_lane(self, index: int) -> bytes:
        """Return all that a lane needs to go on, as safetensors with its progress in the header."""
        lane = self.lanes[index]
        progress = {name: getattr(lane, name) for name in lane.progress_fields}
        progress |= {"wall_s": self._wall_s(index), "device_s": self._device_s[index]}
        header = {"progress": json.dumps(progress, allow_nan=False)}
        return safetensors.torch.save(self._training.get_lane_state(lane), header)

    def restore_lane(self, index: int, content: bytes) -> None:
        """Go on from what `checkpoint_lane` returned; anything else raises, with the lane half restored."""
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
            rank_groups={} if stage.data.c is None else rank_groups(counts_K),
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

    def _write_array(self, stage: StageT, role: str, array: NDArray[np.unsignedinteger]) -> Artifact:
        file = io.BytesIO()
        np.save(file, array, allow_pickle=False)
        return self._store.write_artifact(stage.key, role, ".npy", file.getvalue())


class GeneratorRun(StageRun[GeneratorStage, CGANLane]):
    """Train a conditional GAN, measure it, keep the generator's weights and a sheet of its samples."""

    def _build_training(self, fusion: Fusion) -> CGANTraining:
        first = self.stages[0]
        return CGANTraining(
            first.generator,
            self._reader.spec,
            self._device,
            first.execution.precision,
            [stage.seed for stage in self.stages],
            [inputs.training_set for inputs in self._inputs],
            fusion,
        )

    def preview(self, index: int) -> tuple[NDArray[np.uint8], list[float | None]]:
        """Return `samples_KSCHW` of a lane's generator as it stands, and the diversity of each class."""
        generator = self.lanes[index].generator
        noise_stream = torch_stream(self.stages[index].seed, "diversity_noise", device=self._device)
        real_by_class = self._reader.real_by_class(self._inputs[index].subset)
        quality = measure_quality(generator, real_by_class, noise_stream, {"diversity": diversity})
        return draw_sheet(generator, self._reader.spec.num_classes, self._device), quality["diversity"]

    def _results(self, stage: GeneratorStage, lane: CGANLane, inputs: StageInputs) -> dict[str, Any]:
        noise_stream = torch_stream(stage.seed, "diversity_noise", device=self._device)
        real_by_class = self._reader.real_by_class(inputs.subset)
        quality = measure_quality(lane.generator, real_by_class, noise_stream)
        measured = [value for value in quality["diversity"] if value is not None]
        metrics = {name: value for name, value in lane.curves[-1].items() if name != "step"}
        metrics["num_collapsed_classes"] = float(sum(value < COLLAPSED_BELOW for value in measured))
        weights = {name: tensor.cpu().contiguous() for name, tensor in lane.generator.state_dict().items()}
        content = safetensors.torch.save(weights)
        return {
            "metrics": metrics,
            "quality_per_class": quality,
            "artifacts": {
                "weights": self._store.write_artifact(stage.key, "weights", ".safetensors", content),
                "samples": self._write_array(stage, "samples", sample_sheet(lane.generator, real_by_class)),
            },
        }


class ClassifierRun(StageRun[ClassifierStage, ClassifierLane]):
    """Train a classifier on a rebalanced set, test it, keep its predictions."""

    def _build_training(self, fusion: Fusion) -> ClassifierTraining:
        first = self.stages[0]
        return ClassifierTraining(
            first.classifier,
            self._reader.spec,
            self._device,
            first.execution.precision,
            [stage.seed for stage in self.stages],
            [inputs.training_set for inputs in self._inputs],
            [inputs.validation_set for inputs in self._inputs],
            self._test_set(),
            fusion,
        )

    def _test_set(self) -> EvaluationSet | None:
        return self._reader.test_set()

    def _results(self, stage: ClassifierStage, lane: ClassifierLane, inputs: StageInputs) -> dict[str, Any]:
        dtype = predictions_type(self._reader.spec.num_classes)
        arrays = {"predictions": lane.predictions_N.astype(dtype)}
        if lane.precision_recall_K2T.size:
            arrays["precision_recall"] = lane.precision_recall_K2T.astype(np.uint32)
        artifacts = {role: self._write_array(stage, role, array) for role, array in arrays.items()}
        return self._measured(lane, "test", self._reader.test_set()) | {"artifacts": artifacts}

    def _measured(self, lane: ClassifierLane, measured_on: str, images: EvaluationSet) -> dict[str, Any]:
        selected = lane.curves[lane.selected_round]
        found = {name: selected.get(f"{measured_on}_{name}") for name in metric_names()}
        labels_N = images.labels_N.cpu().numpy()
        num_classes = self._reader.spec.num_classes
        confusion = Confusion.of_predictions(labels_N, lane.predictions_N, num_classes)
        return {
            "metrics": {name: value for name, value in found.items() if value is not None},
            "confusion": confusion.to_rows(),
        }


class ValidationRun(ClassifierRun):
    """Train a classifier on a rebalanced set, measure it on its validation set, keep the numbers alone."""

    def _test_set(self) -> EvaluationSet | None:
        return None

    def _results(self, stage: ClassifierStage, lane: ClassifierLane, inputs: StageInputs) -> dict[str, Any]:
        assert inputs.validation_set is not None
        return self._measured(lane, "validation", inputs.validation_set) | {"artifacts": {}}


def open_run(
    stages: Sequence[AnyStage],
    store: Store,
    data_dir: str | None,
    *,
    max_lanes: int | None = None,
    num_devices: float = 1.0,
    driver: Mapping[str, Any] | None = None,
) -> StageRun[Any, Any]:
    """Open stages that differ in nothing but the seed, as lanes of one run; the rest as for `StageRun`.

    Raises:
        ValueError: the stages differ in more.
    """
    if len({stage.with_seed(0) for stage in stages}) != 1:
        raise ValueError("stages that run together must differ in nothing but the seed")
    options: dict[str, Any] = {"max_lanes": max_lanes, "num_devices": num_devices, "driver": driver}
    generator_stages = [stage for stage in stages if isinstance(stage, GeneratorStage)]
    if generator_stages:
        return GeneratorRun(generator_stages, store, data_dir, **options)
    classifier_stages = [stage for stage in stages if isinstance(stage, ClassifierStage)]
    if isinstance(classifier_stages[0], ValidationStage):
        return ValidationRun(classifier_stages, store, data_dir, **options)
    return ClassifierRun(classifier_stages, store, data_dir, **options)


def run_stage(stage: AnyStage, store: Store, data_dir: str | None = None) -> Record:
    """Run one stage to its end and return its record; a stage that is done is not run again."""
    record = store.load_record(stage.key)
    if record is None:
        run = open_run([stage], store, data_dir)
        while not run.is_finished:
            run.run_round()
        record = store.load_record(stage.key)
        assert record is not None
    return record


def _safetensors_header(content: bytes) -> dict[str, str]:
    length = int.from_bytes(content[:8], "little")
    header: dict[str, str] = parse_json(content[8 : 8 + length])["__metadata__"]
    return header
