"""Train and test lanes of a classifier; plain torch.

Source of the protocol: Mankikar, Patel, Zhang, sections 3.4 and 4. Shape suffixes: L lanes, N images, B
items of a batch, C H W image, K classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.ground.metrics import (
    compute_metrics,
    compute_probability_metrics,
    confusion_matrix,
    precision_recall_counts,
    recall_per_class,
)
from lt_rebalance.ground.seeding import torch_stream
from lt_rebalance.methods.losses import LOSSES
from lt_rebalance.networks.classifiers.registry import build_classifier
from lt_rebalance.networks.initialization import build_network
from lt_rebalance.training.batches import Batching
from lt_rebalance.training.batching import smallest_classifier_batch
from lt_rebalance.training.configs import ClassifierConfig
from lt_rebalance.training.lane import (
    BatchOrder,
    Lane,
    TrainingSet,
    TrainingState,
    autocast,
    build_adam,
    get_state,
    read_batches,
    set_state,
    stack,
)
from lt_rebalance.training.rounds import Training
from lt_rebalance.training.stacks import ALONE, Fusion, LaneStack
from lt_rebalance.training.step import StepProgram

# The published code tests in batches of 100, which matters when each batch makes its own statistics.
BATCH_STATISTICS_BATCH = 100
EVALUATION_BATCH = 500

Outputs = tuple[NDArray[np.int64], NDArray[np.int64]]
"""predictions_N, and the counts of `metrics.precision_recall_counts`"""


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

    validation_set: EvaluationSet | None
    network: nn.Module
    optimizer: torch.optim.Optimizer
    selected_round: int = -1
    """index of the round whose predictions are reported; -1 before the first"""
    predictions_N: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """predictions of the selected round: of test images, or of validation images where none are tested"""
    precision_recall_K2T: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """counts of `metrics.precision_recall_counts` of the selected round"""


@dataclass(frozen=True, kw_only=True)
class _Program:
    """Lanes of a classifier that train and are measured together."""

    networks: LaneStack
    step: StepProgram


class ClassifierTraining(Training[ClassifierLane, _Program]):
    """Lanes of one classifier, measured at the end of every round."""

    def __init__(
        self,
        config: ClassifierConfig,
        spec: DatasetSpec,
        device: torch.device,
        precision: str,
        seeds: Sequence[int],
        training_sets: Sequence[TrainingSet],
        validation_sets: Sequence[EvaluationSet | None],
        test_set: EvaluationSet | None,
        fusion: Fusion = ALONE,
    ) -> None:
        """Build one lane for each seed, its training set and its validation set; they share the test set.

        Without a test set, lanes are measured on their validation sets alone.
        """
        self._config = config
        self._spec = spec
        self._device = device
        self._precision = precision
        self._loss = LOSSES[config.loss]
        self._smallest_batch = smallest_classifier_batch(config.architecture, spec)
        self._test_set = test_set
        inputs = zip(seeds, training_sets, validation_sets, strict=True)
        super().__init__([self._build_lane(*lane_inputs) for lane_inputs in inputs], fusion)

    def _build_lane(
        self, seed: int, training_set: TrainingSet, validation_set: EvaluationSet | None
    ) -> ClassifierLane:
        config, spec = self._config, self._spec
        batching = Batching(
            num_items=len(training_set), batch_size=config.batch_size, smallest=self._smallest_batch
        )
        network = build_network(
            lambda: build_classifier(config.architecture, spec.num_classes, spec.image_shape),
            torch_stream(seed, "classifier_init"),
        ).to(self._device)
        network.to(memory_format=torch.channels_last)
        return ClassifierLane(
            seed=seed,
            round_ends=config.budget.round_ends(batching.steps_per_pass),
            training_set=training_set,
            validation_set=validation_set,
            network=network,
            optimizer=build_adam(network, config),
            batches=BatchOrder(batching, seed, "classifier_batches", self._device),
        )

    def _build_program(self, lanes: Sequence[ClassifierLane]) -> _Program:
        networks = self.stack([lane.network for lane in lanes], [lane.optimizer for lane in lanes])

        def step(images_LBCHW: Tensor, labels_LB: Tensor) -> Tensor:
            with autocast(self._device, self._precision):
                logits_LBK = networks(images_LBCHW)
            losses_N = self._loss(logits_LBK.float().flatten(0, 1), labels_LB.flatten(), "none")
            loss_L = losses_N.view(labels_LB.shape).mean(dim=1)
            networks.zero_grad()
            loss_L.sum().backward()
            networks.step()
            return loss_L.detach()

        return _Program(networks=networks, step=StepProgram(step, self._device))

    def _train_round(self, lanes: Sequence[ClassifierLane], program: _Program, steps: range) -> None:
        program.networks.train()
        sums_L = torch.zeros(len(lanes), device=self._device)
        for images_LBCHW, labels_LB in read_batches(lanes, steps):
            sums_L += program.step(images_LBCHW, labels_LB)
        rows = [{"step": steps.stop, "train_loss": loss} for loss in (sums_L / len(steps)).tolist()]
        validation_sets = [lane.validation_set for lane in lanes if lane.validation_set is not None]
        outputs = self._test(program.networks, "validation", validation_sets, rows)
        if self._test_set is not None:
            outputs = self._test(program.networks, "test", [self._test_set] * len(lanes), rows)
        for lane, row, of_lane in zip(lanes, rows, outputs, strict=True):
            self._finish_round(lane, row, of_lane)

    def _test(
        self, networks: LaneStack, name: str, sets: Sequence[EvaluationSet], rows: Sequence[dict[str, Any]]
    ) -> list[Outputs]:
        """Add columns with a name's prefix to the row of every lane; return its outputs."""
        if not sets:
            return []
        outputs = []
        for logits_NK, evaluation_set, row in zip(self._predict(networks, sets), sets, rows, strict=True):
            values, of_lane = self._measure(logits_NK, evaluation_set.labels_N)
            row |= {f"{name}_{column}": value for column, value in values.items()}
            outputs.append(of_lane)
        return outputs

    @torch.no_grad()
    def _predict(self, networks: LaneStack, sets: Sequence[EvaluationSet]) -> Tensor:
        """Return `logits_LNK` in double precision."""
        uses_batch_statistics = self._config.evaluation_mode == "batch_statistics"
        networks.train(uses_batch_statistics)
        batching = Batching(
            num_items=len(sets[0].labels_N),
            batch_size=BATCH_STATISTICS_BATCH if uses_batch_statistics else EVALUATION_BATCH,
            smallest=self._smallest_batch if uses_batch_statistics else 1,
        )
        logits = []
        for batches in zip(*(each.images_NCHW.split(batching.sizes) for each in sets), strict=True):
            with autocast(self._device, self._precision):
                logits.append(networks(stack(batches)))
        return torch.cat(logits, dim=1).double()

    def _measure(self, logits_NK: Tensor, labels_N: Tensor) -> tuple[dict[str, Any], Outputs]:
        """Return every metric and the outputs; of logits without a finite loss, the loss alone."""
        loss = float(self._loss(logits_NK, labels_N, "mean"))
        if not math.isfinite(loss):  # nothing else can be computed of such logits
            return {"loss": loss}, (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
        probabilities_NK = logits_NK.softmax(dim=1).cpu().numpy()
        predictions_N = logits_NK.argmax(dim=1).cpu().numpy()
        true_N = labels_N.cpu().numpy()
        confusion_KK = confusion_matrix(true_N, predictions_N, self._spec.num_classes)
        values: dict[str, Any] = {"loss": loss, "recall_K": recall_per_class(confusion_KK).tolist()}
        values |= compute_metrics(confusion_KK) | compute_probability_metrics(probabilities_NK, true_N)
        return values, (predictions_N, precision_recall_counts(probabilities_NK, true_N))

    def _finish_round(self, lane: ClassifierLane, row: dict[str, Any], outputs: Outputs) -> None:
        """Add a row to the curves and select a round, or mark the lane as diverged."""
        if not all(math.isfinite(value) for name, value in row.items() if name.endswith("_loss")):
            lane.is_diverged = True
            return
        lane.curves.append(row)
        score = SELECTION_SCORES.get(self._config.selection)
        if score is None or lane.selected_round < 0 or row[score] > lane.curves[lane.selected_round][score]:
            lane.selected_round = lane.round - 1
            lane.predictions_N, lane.precision_recall_K2T = outputs

    def get_lane_state(self, lane: ClassifierLane) -> TrainingState:
        """Return all that a lane needs to go on, but for its progress fields."""
        outputs = {name: torch.from_numpy(getattr(lane, name).copy()) for name in _OUTPUTS}
        return get_state(lane.network, lane.optimizer, "classifier") | outputs

    def _set_lane_state(self, lane: ClassifierLane, state: TrainingState) -> None:
        set_state(lane.network, lane.optimizer, "classifier", state)
        for name in _OUTPUTS:
            setattr(lane, name, state[name].numpy())


_OUTPUTS = ("predictions_N", "precision_recall_K2T")

# The column of the curves whose largest value chooses the reported round; absent: the last round.
SELECTION_SCORES = {"best_validation": "validation_macro_f1", "oracle_best_test": "test_macro_f1"}
