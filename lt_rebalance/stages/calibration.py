"""Measure a few training steps on this machine: the speed of a stage, and the best fusion of its lanes.

A measurement is never larger than the work that it predicts. A measurement for a forecast has further bounds:
on the arithmetic and images of a step, and on seconds.
"""

import dataclasses
import functools
import logging
import math
from typing import Any

import torch

from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.generation.training import build_generator_training
from lt_rebalance.stages.memory import own_image_bytes
from lt_rebalance.studies.stage import AnyStage, GeneratorStage
from lt_rebalance.studies.workload import smallest_batch, stage_batching, stage_round_ends, training_config
from lt_rebalance.training.classifier import ClassifierTraining, EvaluationSet
from lt_rebalance.training.configs import Budget
from lt_rebalance.training.device import prepare_torch
from lt_rebalance.training.forms import classifier_fault, describe, generator_fault
from lt_rebalance.training.lane import TrainingSet
from lt_rebalance.training.rounds import Training
from lt_rebalance.training.stacks import ALONE, FORMS, Fusion
from lt_rebalance.training.step import WARM_UP_CALLS

MEASURED_STEPS = WARM_UP_CALLS + 3
"""most steps of the measured round, and of the warm-up round before it"""
PATIENCE_S = 2.0
"""most seconds of these two rounds together, estimated from the first step"""
LARGEST_STEP_FLOP = {"cpu": 2e10, "cuda": 2e12}
"""of a step that is measured for a forecast; the speed does not need more images"""
LARGEST_BATCH = 1024
"""most images of such a step, whatever their arithmetic, to bound the memory"""
USED_SHARE_OF_MEMORY = 0.8
_MEMORY_LANES = 4
"""most lanes whose memory is measured, to estimate the memory of one"""

_log = logging.getLogger(__name__)


def measure_image_s(stage: AnyStage, image_flop: float) -> float:
    """Return the measured seconds per image in training, within bounds.

    Args:
        image_flop: the arithmetic of an image in training.
    """
    batch_size = bounded_batch(stage, image_flop)
    return measure_step_s(stage, batch_size=batch_size) / batch_size


def bounded_batch(stage: AnyStage, image_flop: float) -> int:
    """Return the number of images of a step that is measured for a forecast: those of the work, or fewer."""
    affordable = int(LARGEST_STEP_FLOP[stage.execution.device] / image_flop)
    return max(smallest_batch(stage), min(largest_batch(stage), LARGEST_BATCH, affordable))


def largest_batch(stage: AnyStage) -> int:
    """Return the batch size of a stage, ignoring a last batch that includes the rest."""
    batching = stage_batching(stage)
    return min(batching.batch_size, batching.num_items)


def measure_step_s(
    stage: AnyStage, num_lanes: int = 1, fusion: Fusion = ALONE, batch_size: int | None = None
) -> float:
    """Return the seconds of one training step of all lanes together, on artificial images.

    Args:
        batch_size: images of a lane's step; those of the work unless given.
    """
    batch_size = batch_size or largest_batch(stage)
    training = build_made_up_training(stage, num_lanes, fusion, batch_size)
    first_s = _run_round(training)
    num_steps = count_measured_steps(stage, batch_size, first_s)
    if num_steps == 0:
        return first_s
    for lane in training.lanes:
        lane.round_ends = [1, 1 + num_steps, 1 + 2 * num_steps, 2 + 2 * num_steps]
    warm_s, measured_s = _run_round(training), _run_round(training)
    # Lanes that have diverged train no further, and take no time.
    return measured_s / num_steps or warm_s / num_steps or first_s


def _run_round(training: Training[Any, Any]) -> float:
    before_s = sum(lane.train_s for lane in training.lanes)
    training.run_round()
    return float(sum(lane.train_s for lane in training.lanes) - before_s)


def count_measured_steps(stage: AnyStage, batch_size: int, first_s: float) -> int:
    """Return the number of steps for warm-up, and again for measuring, after a first step; 0 for none.

    Including the first one they do not exceed the steps and images of the stage itself. On a GPU, where the
    first step does not predict the others, their time is not bounded.
    """
    planned_steps = stage_round_ends(stage)[-1]
    affordable_steps = stage_batching(stage).images_seen(planned_steps) // batch_size
    num_steps = min(MEASURED_STEPS, (min(planned_steps, affordable_steps) - 1) // 2)
    if stage.execution.device == "cpu":
        num_steps = min(num_steps, int(PATIENCE_S / 2 / max(first_s, 1e-9)))
    return num_steps


def choose_fusion(stage: AnyStage, num_lanes: int) -> Fusion:
    """Return the best fusion of lanes of a stage on its device, by measurement there.

    On a CPU lanes train one after another; docs/performance.md compares.
    """
    if stage.execution.device == "cpu" or num_lanes == 1:
        return ALONE
    return _choose_on_gpu(stage.with_seed(0), num_lanes)


@functools.cache
def _choose_on_gpu(stage: AnyStage, num_lanes: int) -> Fusion:
    max_lanes = min(num_lanes, _count_fitting_lanes(stage, num_lanes))
    # Programs of one size waste nothing: 12 lanes of which 10 fit become 6 and 6.
    max_lanes = math.ceil(num_lanes / math.ceil(num_lanes / max_lanes))
    faults = {form: _find_fault(form, stage) for form in FORMS}
    for form, fault in faults.items():
        if fault is not None:
            _pass_over(form, _architecture(stage), fault)
    candidates = [Fusion(form=form, max_lanes=max_lanes) for form, fault in faults.items() if fault is None]
    return min(candidates, key=lambda fusion: _step_s_or_infinity(stage, max_lanes, fusion))


def _architecture(stage: AnyStage) -> str:
    return training_config(stage).architecture


def _find_fault(form: str, stage: AnyStage) -> str | None:
    """Return why a form cannot compute the networks of a stage, or None if it can."""
    find = generator_fault if isinstance(stage, GeneratorStage) else classifier_fault
    return find(form, _architecture(stage), get_dataset_spec(stage.data.dataset))


@functools.cache
def _pass_over(form: str, architecture: str, fault: str) -> None:
    """Log once why lanes of an architecture are not computed in a form."""
    _log.warning("lanes of %s are not computed in the form %s: %s", architecture, form, fault)


def _step_s_or_infinity(stage: AnyStage, num_lanes: int, fusion: Fusion) -> float:
    try:
        return measure_step_s(stage, num_lanes, fusion)
    # A form may need more memory than another, or what this device does not have.
    except Exception as error:
        fault = describe(error)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    _pass_over(fusion.form, _architecture(stage), fault)
    return math.inf


def _count_fitting_lanes(stage: AnyStage, num_lanes: int) -> int:
    """Return how many lanes fit into the free memory of the GPU, measured with at most the existing lanes."""
    measured_lanes = min(num_lanes, _MEMORY_LANES)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    measure_step_s(stage, measured_lanes, Fusion(form="separate", max_lanes=measured_lanes))
    lane_bytes = (torch.cuda.max_memory_allocated() - before) / measured_lanes
    torch.cuda.empty_cache()
    free_bytes, _ = torch.cuda.mem_get_info()
    # The pool of real images is there already, and is the same however many lanes there are.
    lane_bytes += own_image_bytes(stage)
    return max(1, int(USED_SHARE_OF_MEMORY * free_bytes / lane_bytes))


def build_made_up_training(
    stage: AnyStage, num_lanes: int, fusion: Fusion, batch_size: int
) -> Training[Any, Any]:
    """Return lanes of a stage on artificial images, with one step of `batch_size` per round.

    They are tested on the fewest possible images.
    """
    device = prepare_torch(stage.execution)
    spec = get_dataset_spec(stage.data.dataset)
    # The last round is never run: at its end a generator is looked at.
    budget = Budget(steps=4, rounds=4)
    items = _made_up_items(batch_size, spec, device)
    common = (spec, device, stage.execution.precision, range(num_lanes), [items] * num_lanes)
    if isinstance(stage, GeneratorStage):
        generator = dataclasses.replace(stage.generator, budget=budget, batch_size=batch_size)
        return build_generator_training(generator, *common, fusion)
    tested = smallest_batch(stage)
    test_set = EvaluationSet(images_PCHW=items.images_PCHW[:tested], labels_N=items.labels_P[:tested])
    classifier = dataclasses.replace(stage.classifier, budget=budget, batch_size=batch_size, selection="last")
    return ClassifierTraining(classifier, *common, [None] * num_lanes, test_set, fusion, stage.method)


def _made_up_items(num_items: int, spec: DatasetSpec, device: torch.device) -> TrainingSet:
    items_N = torch.arange(num_items, device=device)
    images_PCHW = torch.linspace(-1, 1, num_items * math.prod(spec.image_shape), device=device)
    return TrainingSet(
        images_PCHW=images_PCHW.view(num_items, *spec.image_shape),
        labels_P=items_N % spec.num_classes,
        items_N=items_N,
    )
