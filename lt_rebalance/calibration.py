"""Measure a few training steps on this machine: how fast a stage trains, and how its lanes are best fused."""

import dataclasses
import functools
import math
from typing import Any

import torch

from lt_rebalance.cgan import CGANTraining
from lt_rebalance.classifier_training import ClassifierTraining, EvaluationSet
from lt_rebalance.configs import Budget
from lt_rebalance.datasets import DatasetSpec, get_dataset_spec
from lt_rebalance.lane_stacks import ALONE, FORMS, Fusion
from lt_rebalance.lanes import Training
from lt_rebalance.machine import prepare_torch
from lt_rebalance.step_program import WARM_UP_CALLS
from lt_rebalance.study import AnyStage, GeneratorStage
from lt_rebalance.training import TrainingSet

MEASURED_STEPS = WARM_UP_CALLS + 3
USED_SHARE_OF_MEMORY = 0.8
_MEMORY_LANES = 4
"""lanes whose memory is measured, to learn what one of them needs"""


def measure_step_s(stage: AnyStage, num_lanes: int = 1, fusion: Fusion = ALONE) -> float:
    """Return the seconds of one training step of all lanes together, on made-up images."""
    training = build_made_up_training(stage, num_lanes, fusion)
    training.run_round()
    warm_s = sum(lane.train_s for lane in training.lanes)
    training.run_round()
    both_s = sum(lane.train_s for lane in training.lanes)
    return float(both_s - warm_s) / MEASURED_STEPS


def choose_fusion(stage: AnyStage, num_lanes: int) -> Fusion:
    """Return how lanes of a stage are best fused on its device, by measurement there.

    On a CPU lanes train one after another; docs/performance.md compares.
    """
    if stage.execution.device == "cpu" or num_lanes == 1:
        return ALONE
    return _choose_on_gpu(stage.with_seed(0), num_lanes)


@functools.cache
def _choose_on_gpu(stage: AnyStage, num_lanes: int) -> Fusion:
    max_lanes = min(num_lanes, _count_fitting_lanes(stage))
    # Programs of one size waste nothing: 12 lanes of which 10 fit become 6 and 6.
    max_lanes = math.ceil(num_lanes / math.ceil(num_lanes / max_lanes))
    candidates = [Fusion(form=form, max_lanes=max_lanes) for form in FORMS]
    return min(candidates, key=lambda fusion: _step_s_or_infinity(stage, max_lanes, fusion))


def _step_s_or_infinity(stage: AnyStage, num_lanes: int, fusion: Fusion) -> float:
    try:
        return measure_step_s(stage, num_lanes, fusion)
    except torch.OutOfMemoryError:  # a form may need more memory than another
        torch.cuda.empty_cache()
        return math.inf


def _count_fitting_lanes(stage: AnyStage) -> int:
    """Return how many lanes the free memory of the GPU holds."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    measure_step_s(stage, _MEMORY_LANES, Fusion(form="separate", max_lanes=_MEMORY_LANES))
    lane_bytes = (torch.cuda.max_memory_allocated() - before) / _MEMORY_LANES
    torch.cuda.empty_cache()
    free_bytes, _ = torch.cuda.mem_get_info()
    spec = get_dataset_spec(stage.data.dataset)
    # A lane's training set is at most as large as a balanced one.
    lane_bytes += 4 * max(spec.train_counts_K) * spec.num_classes * math.prod(spec.image_shape)
    return max(1, int(USED_SHARE_OF_MEMORY * free_bytes / lane_bytes))


def build_made_up_training(stage: AnyStage, num_lanes: int, fusion: Fusion) -> Training[Any, Any]:
    """Return lanes of a stage on made-up images, in two rounds of `MEASURED_STEPS` steps.

    They are tested on one image. The first round is long enough to warm up, and on a GPU to capture.
    """
    device = prepare_torch(stage.execution)
    spec = get_dataset_spec(stage.data.dataset)
    config = stage.generator if isinstance(stage, GeneratorStage) else stage.classifier
    budget = Budget(steps=2 * MEASURED_STEPS, rounds=2)
    items = _made_up_items(config.batch_size, spec, device)
    common = (spec, device, stage.execution.precision, range(num_lanes), [items] * num_lanes)
    if isinstance(stage, GeneratorStage):
        return CGANTraining(dataclasses.replace(stage.generator, budget=budget), *common, fusion)
    test_set = EvaluationSet(images_NCHW=items.images_PCHW[:1], labels_N=items.labels_P[:1])
    classifier = dataclasses.replace(stage.classifier, budget=budget)
    return ClassifierTraining(classifier, *common, [None] * num_lanes, test_set, fusion)


def _made_up_items(num_items: int, spec: DatasetSpec, device: torch.device) -> TrainingSet:
    items_N = torch.arange(num_items, device=device)
    images_PCHW = torch.linspace(-1, 1, num_items * math.prod(spec.image_shape), device=device)
    return TrainingSet(
        images_PCHW=images_PCHW.view(num_items, *spec.image_shape),
        labels_P=items_N % spec.num_classes,
        items_N=items_N,
    )
