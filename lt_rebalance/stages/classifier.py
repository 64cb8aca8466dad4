"""Classifier stages: train a classifier on a rebalanced set and measure it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lt_rebalance.ground.arrays import predictions_type
from lt_rebalance.ground.confusion import Confusion
from lt_rebalance.ground.metrics import metric_names
from lt_rebalance.stages.base import StageRun
from lt_rebalance.stages.inputs import StageInputs
from lt_rebalance.store.records import Artifact, Record
from lt_rebalance.studies.stage import ClassifierStage
from lt_rebalance.training.classifier import ClassifierLane, ClassifierTraining, EvaluationSet
from lt_rebalance.training.stacks import Fusion


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
            [self._validation_set(inputs) for inputs in self._inputs],
            self._test_set(),
            fusion,
            first.method,
            [inputs.first_weights for inputs in self._inputs],
        )

    def _validation_set(self, inputs: StageInputs) -> EvaluationSet | None:
        return inputs.validation_set

    def _test_set(self) -> EvaluationSet | None:
        return self._reader.test_set

    def _results(self, stage: ClassifierStage, lane: ClassifierLane, inputs: StageInputs) -> dict[str, Any]:
        dtype = predictions_type(self._reader.spec.num_classes)
        arrays = {"predictions": lane.predictions_N.astype(dtype)}
        if lane.precision_recall_K2T.size:
            arrays["precision_recall"] = lane.precision_recall_K2T.astype(np.uint32)
        artifacts = {role: self._write_array(stage, role, array) for role, array in arrays.items()}
        return self._measured(lane, "test", self._reader.test_set) | {"artifacts": artifacts}

    def _come_along(self, index: int, record: Record) -> Sequence[Record]:
        twin, lane = self.stages[index].as_representation(), self.lanes[index]
        if twin is None or twin.key not in self._kept or lane.is_diverged:
            return ()
        rows = tuple({name: row[name] for name in ("step", "train_loss")} for row in lane.curves)
        changes: dict[str, Any] = {
            "kind": twin.kind,
            "stage": twin.to_dict(),
            "curves": rows,
            "confusion": (),
            "timing": dataclasses.replace(record.timing, device_s=0.0),  # it is charged to the other
        }
        results = _keep_network(self._write_weights(twin, lane.network), rows)
        return (dataclasses.replace(record, key=twin.key, **changes | results),)

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
    """Train a classifier on a rebalanced set, measure it on its validation set, keep the numbers only."""

    def _test_set(self) -> EvaluationSet | None:
        return None

    def _results(self, stage: ClassifierStage, lane: ClassifierLane, inputs: StageInputs) -> dict[str, Any]:
        assert inputs.validation_set is not None
        return self._measured(lane, "validation", inputs.validation_set) | {"artifacts": {}}


class RepresentationRun(ClassifierRun):
    """Train a classifier from which others start: it is not measured, and its weights are kept."""

    def _validation_set(self, inputs: StageInputs) -> EvaluationSet | None:
        return None

    def _test_set(self) -> EvaluationSet | None:
        return None

    def _results(self, stage: ClassifierStage, lane: ClassifierLane, inputs: StageInputs) -> dict[str, Any]:
        return _keep_network(self._write_weights(stage, lane.network), lane.curves)


def _keep_network(weights: Artifact, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the fields that only the record of a representation has."""
    return {"metrics": {"train_loss": rows[-1]["train_loss"]}, "artifacts": {"weights": weights}}
