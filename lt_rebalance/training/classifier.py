"""Train and test lanes of a classifier; plain torch.

Source of the protocol: Mankikar, Patel, Zhang, sections 3.4 and 4. Shape suffixes: L lanes, P images in a
pool, N images, B items of a batch, C H W image, K classes.
"""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.ground.confusion import MAX_DETAILED
from lt_rebalance.ground.metrics import (
    SELECTION_METRIC,
    is_better,
    precision_recall_counts,
    selection_column,
)
from lt_rebalance.ground.seeding import stream_key, torch_stream
from lt_rebalance.methods.losses import LOSSES
from lt_rebalance.methods.registry import MethodConfig
from lt_rebalance.networks.classifiers.registry import build_classifier
from lt_rebalance.networks.dropout import name_masks
from lt_rebalance.networks.heads import find_last_layer
from lt_rebalance.networks.initialization import build_network
from lt_rebalance.training.augmentation import augment
from lt_rebalance.training.batches import Batching
from lt_rebalance.training.batching import smallest_classifier_batch
from lt_rebalance.training.configs import ClassifierConfig
from lt_rebalance.training.lane import (
    STEPS_READ_AT_ONCE,
    BatchOrder,
    Lane,
    TrainingSet,
    TrainingState,
    autocast,
    build_optimizer,
    get_state,
    read_batches,
    set_state,
    stack,
    to_floats,
)
from lt_rebalance.training.measuring import measure
from lt_rebalance.training.method import PLAIN, MethodInTraining, stack_counts
from lt_rebalance.training.randaugment import RandAugment
from lt_rebalance.training.recipe import is_scheduled, learning_rate, read_augmentation
from lt_rebalance.training.rounds import Training
from lt_rebalance.training.stacks import ALONE, Fusion, LaneStack
from lt_rebalance.training.step import StepProgram

# The published code tests in batches of 100, which matters when each batch makes its own statistics.
BATCH_STATISTICS_BATCH = 100
EVALUATION_BATCH = 500

Outputs = tuple[NDArray[np.int64], NDArray[np.int64]]
"""predictions_N, and the counts of `metrics.precision_recall_counts`, empty if they are not kept"""
NO_OUTPUTS: Outputs = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
"""of a lane without images to measure on"""


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """Images to test on, on the device."""

    images_PCHW: Tensor
    """uint8, or float32 in [-1, 1]; a pool that others may share"""
    labels_N: Tensor
    """int64"""
    positions_N: Tensor | None = None
    """int64, of the images in the pool; None for the whole of it"""

    def split(self, sizes: list[int]) -> Iterator[Tensor]:
        """Yield `images_BCHW`, float32 in [-1, 1], of batches of these sizes, in order."""
        if self.positions_N is None:
            return map(to_floats, self.images_PCHW.split(sizes))
        return (to_floats(self.images_PCHW[positions_B]) for positions_B in self.positions_N.split(sizes))


@dataclass(kw_only=True, eq=False)
class ClassifierLane(Lane):
    """One seed of a classifier in training."""

    progress_fields: ClassVar[tuple[str, ...]] = (*Lane.progress_fields, "selected_round")

    validation_set: EvaluationSet | None
    network: nn.Module
    optimizer: torch.optim.Optimizer
    counts_K: Tensor
    """items of each class, at least 1 each so that a logarithm can be taken"""
    selected_round: int = -1
    """index of the round whose predictions are reported; -1 before the first round"""
    predictions_N: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """predictions of the selected round: of test images, or of validation images where none are tested"""
    precision_recall_K2T: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """counts of `metrics.precision_recall_counts` of the selected round, once it may be the one reported"""


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
        method: MethodConfig = PLAIN,
        first_weights: Sequence[Mapping[str, Tensor] | None] | None = None,
    ) -> None:
        """Build one lane for each seed, its training set and its validation set; they share the test set.

        Without a test set, lanes are measured on their validation sets alone, if they have any. A second
        training starts from the weights of a first, one mapping a lane.
        """
        self._config = config
        self._spec = spec
        self._device = device
        self._precision = precision
        self._loss = LOSSES[config.loss]
        self._smallest_batch = smallest_classifier_batch(config.architecture, spec)
        self._test_set = test_set
        self._method = MethodInTraining(method, config.loss)
        self._synthetic_weight = method.synthetic_weight
        self._weighs_synthetic = method.synthetic_weight != 1
        self._augmentation = read_augmentation(config.augmentation)
        self._randaugment = RandAugment(config.num_operations, config.magnitude, spec.image_shape, device)
        self._is_scheduled = is_scheduled(config)
        firsts = first_weights or [None] * len(seeds)
        inputs = zip(seeds, training_sets, validation_sets, firsts, strict=True)
        super().__init__([self._build_lane(*lane_inputs) for lane_inputs in inputs], fusion)

    def _build_lane(
        self,
        seed: int,
        training_set: TrainingSet,
        validation_set: EvaluationSet | None,
        first_weights: Mapping[str, Tensor] | None,
    ) -> ClassifierLane:
        config, spec = self._config, self._spec
        batching = Batching(
            num_items=len(training_set), batch_size=config.batch_size, smallest=self._smallest_batch
        )
        network = build_network(
            lambda: build_classifier(config.architecture, spec.num_classes, spec.image_shape),
            torch_stream(seed, "classifier_init"),
        )
        self._method.prepare(network, seed, first_weights)
        network.to(self._device).to(memory_format=torch.channels_last)
        name_masks(network, seed)
        round_ends = config.budget.round_ends(batching.steps_per_pass)
        counts_K = training_set.count_classes(spec.num_classes).clamp(min=1)
        weigh = functools.partial(self._method.weigh_items, training_set, counts_K, num_steps=round_ends[-1])
        chances = weigh if self._method.orders else None
        return ClassifierLane(
            seed=seed,
            round_ends=round_ends,
            training_set=training_set,
            validation_set=validation_set,
            network=network,
            optimizer=build_optimizer(network, config),
            batches=BatchOrder(batching, seed, "classifier_batches", self._device, chances),
            counts_K=counts_K,
        )

    def _build_program(self, lanes: Sequence[ClassifierLane]) -> _Program:
        networks = self.stack([lane.network for lane in lanes], [lane.optimizer for lane in lanes])
        counts_LK = stack_counts(lanes)
        keys = [stream_key(lane.seed, "classifier_augmentation") for lane in lanes]
        keys_L = torch.tensor(keys, device=self._device)
        num_own = bool(self._augmentation) + self._is_scheduled + self._weighs_synthetic

        def step(images_LBCHW: Tensor, labels_LB: Tensor, *inputs: Tensor) -> Tensor:
            own, extras = inputs[:num_own], inputs[num_own:]
            if self._is_scheduled:
                networks.set_learning_rate(own[0])
            if self._augmentation:
                number = own[int(self._is_scheduled)]
                images_LBCHW = augment(images_LBCHW, keys_L, number, self._augmentation, self._randaugment)
            mixed = self._method.mix(images_LBCHW, labels_LB, counts_LK, extras)
            with autocast(self._device, self._precision):
                logits_LBK = networks(images_LBCHW if mixed is None else mixed.images_LBCHW)
            losses_LB = self._method.losses(logits_LBK.float(), labels_LB, counts_LK, extras, mixed)
            if self._weighs_synthetic:
                losses_LB = losses_LB * own[-1]
            loss_L = losses_LB.mean(dim=1)
            networks.zero_grad()
            loss_L.sum().backward()
            networks.step()
            return loss_L.detach()

        return _Program(networks=networks, step=StepProgram(step, self._device))

    def _train_round(self, lanes: Sequence[ClassifierLane], program: _Program, steps: range) -> None:
        # What a second training keeps stays as it is, batch statistics included, unless they are recomputed
        # for every batch that is tested.
        program.networks.train(not self._method.starts_again or self._config.uses_batch_statistics)
        sums_L = torch.zeros(len(lanes), device=self._device)
        own, extras = self._read_own(lanes, steps), self._method.read_extras(lanes, steps)
        for batch, *more in zip(read_batches(lanes, steps), own, extras, strict=True):
            sums_L += program.step(*batch, *more[0], *more[1])
        rows: list[dict[str, Any]] = [{"step": steps.stop} for _ in lanes]
        if steps:
            for row, loss in zip(rows, (sums_L / len(steps)).tolist(), strict=True):
                row["train_loss"] = loss
        networks = self._measured(program.networks, lanes)
        validation_sets = [lane.validation_set for lane in lanes if lane.validation_set is not None]
        outputs = [NO_OUTPUTS] * len(lanes)
        if validation_sets:
            outputs = self._test(networks, "validation", lanes, validation_sets, rows)
        if self._test_set is not None:
            outputs = self._test(networks, "test", lanes, [self._test_set] * len(lanes), rows)
        for lane, row, of_lane in zip(lanes, rows, outputs, strict=True):
            self._finish_round(lane, row, of_lane)

    def _read_own(self, lanes: Sequence[ClassifierLane], steps: range) -> Iterator[tuple[Tensor, ...]]:
        """Yield for each step its learning rate, its number and `weights_LB`, each only if it is used.

        They are used for a scheduled rate, for augmentation, and for synthetic images with a lower weight.
        They are inputs of a step, on the device, so that a captured step does not fix their values.
        """
        num_steps = lanes[0].round_ends[-1]
        for first in steps[::STEPS_READ_AT_ONCE]:
            near = range(first, min(first + STEPS_READ_AT_ONCE, steps.stop))
            columns: list[Sequence[Tensor]] = []
            if self._is_scheduled:
                rates = [learning_rate(self._config, step, num_steps) for step in near]
                columns.append(torch.tensor(rates, dtype=torch.float32).to(self._device).unbind())
            if self._augmentation:
                columns.append(torch.tensor(list(near)).to(self._device).unbind())
            if self._weighs_synthetic:
                columns.append([self._weigh(lanes, step) for step in near])
            yield from zip(*columns, strict=True) if columns else [()] * len(near)

    def _measured(self, networks: LaneStack, lanes: Sequence[ClassifierLane]) -> LaneStack:
        """Return the networks that are measured in place of those trained."""
        if not self._method.changes_network:
            return networks
        changed = [
            self._method.change(lane.network, functools.partial(self._mean_features, lane)) for lane in lanes
        ]
        return LaneStack(changed, [])

    @torch.no_grad()
    def _mean_features(self, lane: ClassifierLane) -> Tensor:
        """Return `means_KF` of the inputs of the last linear layer, in evaluation mode."""
        _, last = find_last_layer(lane.network)
        sums_KF = torch.zeros(self._spec.num_classes, last.in_features, dtype=torch.float64).to(self._device)
        given: list[Tensor] = []
        hook = last.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
        lane.network.eval()
        for items_B in torch.arange(len(lane.training_set), device=self._device).split(EVALUATION_BATCH):
            images_BCHW, labels_B = lane.training_set.batch(items_B)
            with autocast(self._device, self._precision):
                lane.network(images_BCHW)
            sums_KF.index_add_(0, labels_B, given.pop().double())
        hook.remove()
        return (sums_KF / lane.counts_K.unsqueeze(1)).float()

    def _weigh(self, lanes: Sequence[ClassifierLane], step: int) -> Tensor:
        weight = self._synthetic_weight
        return stack([lane.training_set.weigh_items(lane.batches[step], weight) for lane in lanes])

    def _test(
        self,
        networks: LaneStack,
        name: str,
        lanes: Sequence[ClassifierLane],
        sets: Sequence[EvaluationSet],
        rows: Sequence[dict[str, Any]],
    ) -> list[Outputs]:
        """Add columns with a name's prefix to the row of every lane; return its outputs."""
        if not sets:
            return []
        is_reported_on = name == ("validation" if self._test_set is None else "test")
        outputs = []
        for lane, logits_NK, evaluation_set, row in zip(
            lanes, self._predict(networks, lanes, sets), sets, rows, strict=True
        ):
            labels_N = evaluation_set.labels_N
            values, predictions_N, probabilities_NK = measure(logits_NK, labels_N, self._loss)
            row |= {f"{name}_{column}": value for column, value in values.items()}
            counts_K2T = np.empty(0, dtype=np.int64)
            if is_reported_on and len(predictions_N) and self._keeps_counts(lane, row):
                counts_K2T = precision_recall_counts(probabilities_NK, labels_N.cpu().numpy())
            outputs.append((predictions_N, counts_K2T))
        return outputs

    @torch.no_grad()
    def _predict(
        self, networks: LaneStack, lanes: Sequence[ClassifierLane], sets: Sequence[EvaluationSet]
    ) -> Tensor:
        """Return `logits_LNK`, computed in the precision of the training and returned in double precision."""
        uses_batch_statistics = self._config.uses_batch_statistics
        networks.train(uses_batch_statistics)
        batching = Batching(
            num_items=len(sets[0].labels_N),
            batch_size=BATCH_STATISTICS_BATCH if uses_batch_statistics else EVALUATION_BATCH,
            smallest=self._smallest_batch if uses_batch_statistics else 1,
        )
        logits = []
        for batches in zip(*(each.split(batching.sizes) for each in sets), strict=True):
            with autocast(self._device, self._precision):
                logits.append(networks(stack(batches)))
        return self._method.adjust(torch.cat(logits, dim=1).double(), stack_counts(lanes))

    def _keeps_counts(self, lane: ClassifierLane, row: dict[str, Any]) -> bool:
        """Whether the round may be reported in the end, for classes that are shown one by one."""
        if self._spec.num_classes > MAX_DETAILED:
            return False
        is_last = lane.round == len(lane.round_ends)
        is_chosen = selection_column(self._config.selection) is not None
        return is_last if not is_chosen else self._is_best(lane, row)

    def _is_best(self, lane: ClassifierLane, row: dict[str, Any]) -> bool:
        """Whether the round that has just ended is the best to report so far."""
        column = selection_column(self._config.selection)
        if column is None or lane.selected_round < 0:
            return True
        best = lane.curves[lane.selected_round][column]
        return is_better(SELECTION_METRIC, row.get(column, best), best)

    def _finish_round(self, lane: ClassifierLane, row: dict[str, Any], outputs: Outputs) -> None:
        """Add a row to the curves and select a round, or mark the lane as diverged."""
        if not all(math.isfinite(value) for name, value in row.items() if name.endswith("_loss")):
            lane.is_diverged = True
            return
        is_best = self._is_best(lane, row)
        if lane.curves:  # a lane that began before a metric was added goes on without it
            row = {name: value for name, value in row.items() if name in lane.curves[0]}
        lane.curves.append(row)
        if is_best:
            lane.selected_round = lane.round - 1
            lane.predictions_N, lane.precision_recall_K2T = outputs

    def get_lane_state(self, lane: ClassifierLane) -> TrainingState:
        """Return the state that a lane needs to resume, except its progress fields."""
        outputs = {name: torch.from_numpy(getattr(lane, name).copy()) for name in _OUTPUTS}
        return get_state(lane.network, lane.optimizer, "classifier") | outputs

    def _set_lane_state(self, lane: ClassifierLane, state: TrainingState) -> None:
        set_state(lane.network, lane.optimizer, "classifier", state)
        for name in _OUTPUTS:
            setattr(lane, name, state[name].numpy())


_OUTPUTS = ("predictions_N", "precision_recall_K2T")
