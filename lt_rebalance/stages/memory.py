"""Estimate the memory of stages in training, and check that the machine has it.

The estimate includes images, items, parameters with their gradients and optimizer states, a checkpoint while
it is made, and on a CPU the activations of a step. On a GPU activations are not included, because lanes are
fused by measurement. Torch is imported only to count a network.
"""

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence

from lt_rebalance.data.at_hand import is_own_name
from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.data.long_tail import OWN_SPLIT, DataConfig
from lt_rebalance.ground.errors import DataError
from lt_rebalance.ground.memory import available_bytes, require_memory
from lt_rebalance.ground.text import count, format_bytes
from lt_rebalance.stages.work import count_classifier, count_generator_training, kept_bytes
from lt_rebalance.studies.stage import AnyStage, GeneratorStage
from lt_rebalance.studies.workload import count_items, count_synthetic, training_config

_FLOAT_BYTES = 4
_LABEL_BYTES = 8
_VALUES_PER_PARAMETER = 4
"""in training: the parameter, its gradient and Adam's two moments"""
_STEP_SHARE = {"float32": 1.6, "bfloat16": 0.9}
"""measured ratio of the peak of a step to what its backward pass keeps in float32: 1.4 to 1.6 and 0.7 to 0.9
for resnet18, resnet32 and paper_cnn, 1.4 to 1.7 and 0.8 for the convolutional GANs"""
_CHECKPOINT_VALUES = 2 * 3
"""of a parameter and its two moments, as tensors and as the bytes that are written"""


def pool_bytes(data: DataConfig) -> int:
    """Return the bytes of the images that a stage reads, one per value, with labels; lanes share them."""
    spec = get_dataset_spec(data.dataset)
    own_K = (spec.validation_counts_K or ()) if data.validation == OWN_SPLIT else ()
    num_images = sum(spec.train_counts_K) + sum(spec.test_counts_K) + sum(own_K)
    return num_images * (math.prod(spec.image_shape) + _LABEL_BYTES)


def own_image_bytes(stage: AnyStage) -> int:
    """Return the bytes of a lane's own images: synthetic ones as floats, and the list of its items."""
    spec = get_dataset_spec(stage.data.dataset)
    num_items, num_synthetic = count_items(stage), count_synthetic(stage)
    own_labels = num_synthetic and sum(spec.train_counts_K) + num_synthetic
    return (
        num_synthetic * math.prod(spec.image_shape) * _FLOAT_BYTES + (num_items + own_labels) * _LABEL_BYTES
    )


def lane_bytes(stage: AnyStage) -> int:
    """Return the bytes of a lane on its device: its images, parameters, gradients and optimizer states."""
    return own_image_bytes(stage) + _VALUES_PER_PARAMETER * _FLOAT_BYTES * _count_trained(stage)


def checkpoint_memory(stage: AnyStage) -> int:
    """Return the bytes of a checkpoint in the host's memory while it is made, one lane after another."""
    return _CHECKPOINT_VALUES * _FLOAT_BYTES * _count_trained(stage)


def step_bytes(stage: AnyStage) -> int:
    """Return the bytes that a lane computes in a step on a CPU, one lane after another."""
    num_images = min(training_config(stage).batch_size, count_items(stage))
    return int(_STEP_SHARE[stage.execution.precision] * num_images * kept_bytes(stage))


def _count_trained(stage: AnyStage) -> int:
    # Not by `kinds`: it imports `base`, which imports this module.
    return count_generator_training(stage) if isinstance(stage, GeneratorStage) else count_classifier(stage)


def check_memory(pending: Mapping[str, AnyStage], num_slots: int, max_lanes: int) -> None:
    """Refuse a plan whose concurrent trials do not fit into this machine's memory.

    Args:
        pending: the stages to run.
        num_slots: most trials at a time.
        max_lanes: most seeds of one trial.

    Raises:
        DataError: it does not fit; the message says how much is needed and free, and what would fit.
    """
    left = available_bytes()
    counts = Counter(stage.with_seed(0) for stage in pending.values())
    if left is None or not counts:
        return
    trials: list[tuple[int, int]] = []
    for stage, number in counts.items():
        num_lanes = min(number, max_lanes)
        trials += [_host_bytes(stage, num_lanes)] * math.ceil(number / num_lanes)
    trials = sorted(trials, key=sum, reverse=True)[:num_slots]
    # A user's set is mapped from one file, which all processes share.
    own_sets: dict[str, int] = {}
    for data in (stage.data for stage in counts if is_own_name(stage.data.dataset)):
        own_sets[data.dataset] = max(own_sets.get(data.dataset, 0), pool_bytes(data))
    mapped = sum(own_sets.values())
    images, rest = (sum(column) for column in zip(*trials, strict=True))
    single = mapped + max(sum(_host_bytes(stage, 1)) for stage in counts)
    num_fitting = sum(mapped + total <= left for total in itertools.accumulate(map(sum, trials)))
    if num_fitting:
        remedy = f"{num_fitting} at a time would fit: --max-concurrent {num_fitting}"
    elif single <= left:
        remedy = f"one of one seed takes {format_bytes(single)}: --max-concurrent 1 --lanes 1"
    else:
        remedy = f"even one of one seed takes {format_bytes(single)}: take fewer or smaller images"
    require_memory(
        mapped + images + rest,
        f"{count(len(trials), 'trial')} at a time, with {format_bytes(mapped + images)} for images, and with "
        "lanes, steps and checkpoints",
        remedy,
    )


def _host_bytes(stage: AnyStage, num_lanes: int) -> tuple[int, int]:
    """Return the bytes of a trial in the host's memory: of images, and of lanes, steps and checkpoints."""
    images = 0 if is_own_name(stage.data.dataset) else pool_bytes(stage.data)
    lanes = 0
    if stage.execution.device == "cpu":
        lanes = num_lanes * lane_bytes(stage) + step_bytes(stage)
    return images, lanes + checkpoint_memory(stage)


def require_device_memory(stages: Sequence[AnyStage], total: int) -> None:
    """Refuse lanes of one trial that do not fit into the memory of a device.

    Args:
        total: bytes that the device has in all.

    Raises:
        DataError: they do not fit; the message says how much is needed, and how many lanes would fit.
    """
    first = stages[0]
    pool, lane = pool_bytes(first.data), lane_bytes(first)
    if pool + len(stages) * lane <= total:
        return
    num_fitting = max(0, (total - pool) // lane)
    remedy = f"{num_fitting} would fit: --lanes {num_fitting}" if num_fitting else "take smaller images"
    raise DataError(
        f"images and lanes of a trial must fit into the memory of its GPU, {format_bytes(total)}, got "
        f"{format_bytes(pool)} of images and {count(len(stages), 'lane')} of {format_bytes(lane)}; {remedy}"
    )
