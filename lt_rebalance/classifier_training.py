"""Train and test lanes of a classifier; plain torch.

Source of the protocol: Mankikar, Patel, Zhang, sections 3.4 and 4. Shape suffixes: N images, B items of a
batch, C H W image, K classes.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lt_rebalance.classifiers import build_classifier
from lt_rebalance.configs import ClassifierConfig
from lt_rebalance.datasets import DatasetSpec
from lt_rebalance.initialization import build_network
from lt_rebalance.losses import LOSSES
from lt_rebalance.metrics import (
    compute_metrics,
    compute_probability_metrics,
    confusion_matrix,
    precision_recall_counts,
    recall_per_class,
)
from lt_rebalance.seeding import torch_stream
from lt_rebalance.training import (
    BatchOrder,
    Lane,
    TrainingSet,
    TrainingState,
    autocast,
    build_adam,
    get_state,
    next_lanes,
    set_state,
)

# The published code tests in batches of 100, which matters when each batch makes its own statistics.
BATCH_STATISTICS_BATCH = 100
EVALUATION_BATCH = 500


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """Images to test on, on the device."""

    images_NCHW: Tensor
    """float32 in [-1, 1]"""
    labels_N: Tensor
    """int64"""


@dataclass(kw_only=True, eq=False)
class ClassifierLane(Lane):
    """One seed of a classifier in training."""

    progress_fields: ClassVar[tuple[str, ...]] = (*Lane.progress_fields, "selected_round")

    training_set: TrainingSet
    validation_set: EvaluationSet | None
    network: nn.Module
    optimizer: torch.optim.Optimizer
    batches: BatchOrder
    selected_round: int = -1
    """index of the round whose predictions are reported; -1 before the first"""
    predictions_N: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """test predictions of the selected round"""
    precision_recall_K2T: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """counts of `metrics.precision_recall_counts` of the selected round"""


class ClassifierTraining:
    """Lanes of one classifier, tested at the end of every round; a `Training`."""

    def __init__(
        self,
        config: ClassifierConfig,
        spec: DatasetSpec,
        device: torch.device,
        precision: str,
        seeds: Sequence[int],
        training_sets: Sequence[TrainingSet],
        validation_sets: Sequence[EvaluationSet | None],
        test_set: EvaluationSet,
    ) -> None:
        """Build one lane for each seed, its training set and its validation set; they share the test set."""
        self._config = config
        self._spec = spec
        self._device = device
        self._precision = precision
        self._loss = LOSSES[config.loss]
        self._test_set = test_set
        inputs = zip(seeds, training_sets, validation_sets, strict=True)
        self.lanes = [self._build_lane(*lane_inputs) for lane_inputs in inputs]

    def _build_lane(
        self, seed: int, training_set: TrainingSet, validation_set: EvaluationSet | None
    ) -> ClassifierLane:
        config, spec = self._config, self._spec
        network = build_network(
            lambda: build_classifier(config.architecture, spec.num_classes, spec.image_shape),
            torch_stream(seed, "classifier_init"),
        ).to(self._device)
        network.to(memory_format=torch.channels_last)
        return ClassifierLane(
            seed=seed,
            round_ends=config.budget.round_ends(len(training_set), config.batch_size),
            training_set=training_set,
            validation_set=validation_set,
            network=network,
            optimizer=build_adam(network, config),
            batches=BatchOrder(
                len(training_set), config.batch_size, seed, "classifier_batches", self._device
            ),
        )

    def run_round(self) -> list[ClassifierLane]:
        """Train and test the lanes that are furthest behind for one more round; return those lanes."""
        lanes = next_lanes(self.lanes)
        for lane in lanes:
            self._train_lane(lane)
        return lanes

    def _train_lane(self, lane: ClassifierLane) -> None:
        start = time.perf_counter()
        lane.network.train()
        loss_sum = torch.zeros((), device=self._device)
        first_step, end = lane.step, lane.round_ends[lane.round]
        for step in range(first_step, end):
            loss_sum += self._train_step(lane, *lane.training_set.batch(lane.batches[step]))
        train_loss = float(loss_sum) / (end - first_step)
        lane.step = end
        lane.round += 1
        lane.is_diverged = not math.isfinite(train_loss)
        if not lane.is_diverged:
            self._evaluate_round(lane, train_loss)
        lane.train_s += time.perf_counter() - start

    def _train_step(self, lane: ClassifierLane, images_BCHW: Tensor, labels_B: Tensor) -> Tensor:
        with autocast(self._device, self._precision):
            logits_BK = lane.network(images_BCHW)
        loss = self._loss(logits_BK.float(), labels_B, "mean")
        lane.optimizer.zero_grad()
        loss.backward()
        lane.optimizer.step()
        return loss.detach()

    def _evaluate_round(self, lane: ClassifierLane, train_loss: float) -> None:
        test, outputs = self._evaluate(lane.network, self._test_set)
        row: dict[str, Any] = {"step": lane.step, "train_loss": train_loss} | _prefixed("test", test)
        if lane.validation_set is not None:
            validation, _ = self._evaluate(lane.network, lane.validation_set)
            row |= _prefixed("validation", validation)
        if not all(math.isfinite(loss) for name, loss in row.items() if name.endswith("_loss")):
            lane.is_diverged = True
            return
        lane.curves.append(row)
        score = SELECTION_SCORES.get(self._config.selection)
        if score is None or lane.selected_round < 0 or row[score] > lane.curves[lane.selected_round][score]:
            lane.selected_round = lane.round - 1
            lane.predictions_N, lane.precision_recall_K2T = outputs

    @torch.no_grad()
    def _evaluate(
        self, network: nn.Module, evaluation_set: EvaluationSet
    ) -> tuple[dict[str, Any], tuple[NDArray[np.int64], NDArray[np.int64]]]:
        uses_batch_statistics = self._config.evaluation_mode == "batch_statistics"
        network.train(uses_batch_statistics)
        size = BATCH_STATISTICS_BATCH if uses_batch_statistics else EVALUATION_BATCH
        logits = []
        for images_BCHW in evaluation_set.images_NCHW.split(size):
            with autocast(self._device, self._precision):
                logits.append(network(images_BCHW))
        logits_NK = torch.cat(logits).double()
        loss = float(self._loss(logits_NK, evaluation_set.labels_N, "mean"))
        if not math.isfinite(loss):  # nothing else can be computed of such logits
            return {"loss": loss}, (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
        labels_N = evaluation_set.labels_N.cpu().numpy()
        probabilities_NK = logits_NK.softmax(dim=1).cpu().numpy()
        predictions_N = logits_NK.argmax(dim=1).cpu().numpy()
        confusion_KK = confusion_matrix(labels_N, predictions_N, self._spec.num_classes)
        values: dict[str, Any] = {"loss": loss, "recall_K": recall_per_class(confusion_KK).tolist()}
        values |= compute_metrics(confusion_KK) | compute_probability_metrics(probabilities_NK, labels_N)
        return values, (predictions_N, precision_recall_counts(probabilities_NK, labels_N))

    def get_lane_state(self, lane: ClassifierLane) -> TrainingState:
        """Return all that a lane needs to go on, but for its progress fields."""
        outputs = {name: torch.from_numpy(getattr(lane, name).copy()) for name in _OUTPUTS}
        return get_state(lane.network, lane.optimizer, "classifier") | outputs

    def set_lane_state(self, lane: ClassifierLane, state: TrainingState) -> None:
        """Restore what `get_lane_state` returned."""
        set_state(lane.network, lane.optimizer, "classifier", state)
        for name in _OUTPUTS:
            setattr(lane, name, state[name].numpy())


def _prefixed(prefix: str, values: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}_{name}": value for name, value in values.items()}


_OUTPUTS = ("predictions_N", "precision_recall_K2T")

# The column of the curves whose largest value chooses the reported round; absent: the last round.
SELECTION_SCORES = {"best_validation": "validation_macro_f1", "oracle_best_test": "test_macro_f1"}
