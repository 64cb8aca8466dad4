"""Classifier stages: train a classifier on a rebalanced set and measure it."""

import functools
from typing import Any

import numpy as np

from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.ground.arrays import predictions_type
from lt_rebalance.ground.confusion import Confusion
from lt_rebalance.ground.metrics import metric_names
from lt_rebalance.networks.classifiers.registry import build_classifier
from lt_rebalance.stages.base import StageRun
from lt_rebalance.stages.counting import TRAINING_PASSES, count_forward_flop, count_parameters
from lt_rebalance.stages.inputs import StageInputs
from lt_rebalance.studies.stage import ClassifierStage
from lt_rebalance.training.batching import example_classifier
from lt_rebalance.training.classifier import ClassifierLane, ClassifierTraining, EvaluationSet
from lt_rebalance.training.stacks import Fusion

_BYTES_PER_TESTED = 12
"""of an image: its prediction, and its cell of the confusion matrix"""


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


class RepresentationRun(ClassifierRun):
    """Train a classifier for others to start from: it is measured on nothing, and its weights are kept."""

    def _validation_set(self, inputs: StageInputs) -> EvaluationSet | None:
        return None

    def _test_set(self) -> EvaluationSet | None:
        return None

    def _results(self, stage: ClassifierStage, lane: ClassifierLane, inputs: StageInputs) -> dict[str, Any]:
        return {
            "metrics": {"train_loss": lane.curves[-1]["train_loss"]},
            "artifacts": {"weights": self._write_weights(stage, lane.network)},
        }


def classifier_image_flop(stage: ClassifierStage) -> float:
    """Return the arithmetic of an image in training."""
    spec = get_dataset_spec(stage.data.dataset)
    return TRAINING_PASSES * _classifier_flop(stage.classifier.architecture, spec)


def measuring_flop(stage: ClassifierStage) -> float:
    """Return the arithmetic of measuring a classifier once, on its test and its validation set."""
    spec = get_dataset_spec(stage.data.dataset)
    num_tested = sum(spec.test_counts_K) + stage.data.validation_per_class * spec.num_classes
    return _classifier_flop(stage.classifier.architecture, spec) * num_tested


def tested_bytes(stage: ClassifierStage) -> int:
    """Return what a result keeps of the images that it is tested on."""
    return _BYTES_PER_TESTED * sum(get_dataset_spec(stage.data.dataset).test_counts_K)


def count_classifier(stage: ClassifierStage) -> int:
    """Return the parameters of the classifier of a stage."""
    return _count_classifier(stage.classifier.architecture, get_dataset_spec(stage.data.dataset))


@functools.cache
def _classifier_flop(name: str, spec: DatasetSpec) -> float:
    network, inputs = example_classifier(name, spec)
    return count_forward_flop(network, *inputs)


@functools.cache
def _count_classifier(name: str, spec: DatasetSpec) -> int:
    return count_parameters(lambda: build_classifier(name, spec.num_classes, spec.image_shape))
